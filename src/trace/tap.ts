/**
 * QEMU's stream, tapped: page by page either of the first pass, which reads all memory in ascending order, or of what was
 * written since. Whoever reads decides when: `hold` and `goOn`.
 */
import { rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { GodwitError } from "../base/index.ts";
import { adoptSocket, defaultSlabOptions, type Slab, SlabReceiver } from "../io/index.ts";
import type { QmpClient } from "../qemu/qmp/index.ts";
import {
  pageOfWord,
  type RunCounts,
  type StreamHead,
  StreamReader,
  type StreamSink,
} from "../qemu/stream/index.ts";
import { recordBytesAt } from "./decode.ts";
import { EpochPages } from "./epoch-pages.ts";

export interface TapEvents {
  /** Nothing more is read until `goOn`. */
  began(head: StreamHead): void;
  /** Ascending records of the first pass; `piece` is valid during the call only. */
  firstPass(block: number, piece: Uint8Array): void;
  failed(error: Error): void;
}

export class StreamTap implements StreamSink {
  /** Pages that came after the first pass. Its owner clears it. */
  readonly written = new EpochPages();
  /** Of the socket that QEMU connects to. */
  readonly path: string;
  readonly #events: TapEvents;
  readonly #bytesMax: number;
  readonly #reader = new StreamReader(this);
  readonly #receiver: SlabReceiver;
  #server: Server | undefined;
  #socket: Socket | undefined;
  #closed = false;
  #inFirstPass = true;
  /** Of the first pass's last record. */
  #lastBlock = -1;
  #lastPage = -1;
  #ramEnded = false;
  #passCount = 0;
  #pageCountAtPass = 0;
  pageCount = 0;
  basePageCount = 0;

  /** `bytesMax`: so much is collected in `written` before reading stops. */
  constructor(path: string, qmp: QmpClient, bytesMax: number, events: TapEvents) {
    this.path = path;
    this.#bytesMax = bytesMax;
    this.#events = events;
    this.#receiver = new SlabReceiver(defaultSlabOptions, (slab, from, to) =>
      this.#consume(slab, from, to),
    );
    qmp.on("MIGRATION_PASS", ({ data }) => {
      this.#passCount = Math.max(this.#passCount, data.pass);
      this.#pageCountAtPass = this.pageCount;
    });
  }

  /** How often QEMU has looked for dirty pages: once when it begins, and after each pass. */
  get passCount(): number {
    return this.#passCount;
  }

  /** Pages have come since QEMU last looked. */
  get hasPagesOfPass(): boolean {
    return this.pageCount > this.#pageCountAtPass;
  }

  /** Bytes of the stream read so far. */
  get offset(): number {
    return this.#reader.offset;
  }

  /** True when the VM does not run: QEMU has sent all there was, and waits for a word that never comes. */
  get ramEnded(): boolean {
    return this.#ramEnded;
  }

  get isHeld(): boolean {
    return this.#receiver.isHeldBack;
  }

  get isFull(): boolean {
    return this.written.bytes > this.#bytesMax;
  }

  hold(): void {
    this.#receiver.holdBack();
  }

  goOn(): void {
    this.#receiver.goOn();
  }

  /** What comes from here on was written. */
  endFirstPass(): void {
    this.#inFirstPass = false;
  }

  /** Resolves when QEMU may connect. */
  async listen(): Promise<void> {
    await rm(this.path, { force: true });
    const server = createServer({ pauseOnConnect: true });
    this.#server = server;
    server.on("connection", (socket) => {
      server.close();
      this.#open(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.path, resolve);
    });
  }

  /** What comes after this is nobody's affair. */
  ignore(): void {
    this.#closed = true;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#server?.close();
    this.#socket?.destroy();
    await rm(this.path, { force: true });
  }

  #open(accepted: Socket): void {
    if (this.#closed) {
      accepted.destroy();
      return;
    }
    this.#socket = adoptSocket(accepted, this.#receiver);
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", () => {
      this.#fail(new GodwitError("MIGRATION_FAILED", "QEMU closed the stream: did the VM end?"));
    });
  }

  #consume(slab: Slab, from: number, to: number): number {
    if (this.#closed) return to;
    try {
      let at = from;
      while (!this.#receiver.isHeldBack) {
        const next = this.#reader.push(slab.bytes, at, to);
        if (next === at) break;
        at = next;
      }
      return at;
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      return to;
    }
  }

  #fail(error: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.failed(error);
  }

  // StreamSink

  head(head: StreamHead): void {
    this.#receiver.holdBack();
    this.#events.began(head);
  }

  pages(block: number, bytes: Uint8Array, from: number, to: number, counts: RunCounts): void {
    this.pageCount += counts.pageCount + counts.zeroCount;
    const split = this.#inFirstPass ? this.#endOfFirstPass(block, bytes, from, to) : from;
    if (split > from) this.#events.firstPass(block, bytes.subarray(from, split));
    if (split < to) this.written.put(block, bytes, split, to);
    if (this.isFull) this.#receiver.holdBack();
  }

  command(): void {}

  ramEnd(): void {
    this.#ramEnded = true;
  }

  tail(): void {}

  /** The first pass ascends, and ends with the last page of all: the first record that does not ascend is of the second. */
  #endOfFirstPass(block: number, bytes: Uint8Array, from: number, to: number): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = from; at < to; at += recordBytesAt(view, at)) {
      const page = pageOfWord(view, at);
      if (block < this.#lastBlock || (block === this.#lastBlock && page <= this.#lastPage)) {
        this.#inFirstPass = false;
        return at;
      }
      this.#lastBlock = block;
      this.#lastPage = page;
      this.basePageCount++;
    }
    return to;
  }
}
