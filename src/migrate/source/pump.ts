/**
 * The source's data path: QEMU's stream in, frames out, no copy of a page in between.
 *
 *   QEMU ──unix──▶ slabs ──▶ StreamReader ──runs──▶ batch ──frame──▶ channel ──▶ other godwit
 *                              └─ SkipMap leaves pages out
 *
 * Reading stops (back-pressure up to QEMU, whose guest runs on) for any of the reasons in `HoldReason`.
 */
import type { Socket } from "node:net";
import { GodwitError } from "../../base/index.ts";
import type { BatchEncoder } from "../../codec/index.ts";
import {
  adoptSocket,
  type Clock,
  defaultSlabOptions,
  type Slab,
  SlabReceiver,
  sleep,
} from "../../io/index.ts";
import {
  pageRecordBytes,
  type RunCounts,
  shutOk,
  switchoverAck,
  type StreamHead,
  StreamReader,
  type StreamSink,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../../qemu/stream/index.ts";
import type { FrameChannel } from "../channel.ts";
import { FlightWindow } from "../flight-window.ts";
import { Pacer } from "../rate.ts";
import type { SkipMap } from "../skip-map.ts";
import { LinkMeter } from "./link-meter.ts";
import { batchBytesTarget, type FrameHeader, FrameType } from "../wire/index.ts";

/**
 * window: too much in flight. pace: the bandwidth limit. stale: skipped pages go before what follows. round: a round is not to
 * end so soon. owner: the session.
 */
export type HoldReason = "window" | "pace" | "stale" | "round" | "owner";

export interface SourcePumpEvents {
  /** The head has arrived and is valid. */
  began(head: StreamHead): void;
  failed(error: GodwitError): void;
  /** QEMU closed the stream. */
  ended(): void;
}

/** Reads guest memory for pages that were left out: fills `targets`, one page each, from `page` on. */
export type PageSource = (block: string, page: number, targets: readonly Uint8Array[]) => void;

const staleBatchPages = 60;
const staleBatchesUnderWay = 16;
const roomPollMs = 2;
const blankBatchPages = 8192;

export class SourcePump implements StreamSink {
  readonly receiver: SlabReceiver;
  readonly #clock: Clock;
  readonly #channel: FrameChannel;
  readonly #events: SourcePumpEvents;
  #skip: SkipMap | undefined;
  readonly #encoder: BatchEncoder;
  readonly #readPages: PageSource;
  readonly #reader: StreamReader;
  readonly #holds = new Set<HoldReason>();
  readonly #window = new FlightWindow();
  readonly #link = new LinkMeter();
  #pacer: Pacer | undefined;
  #socket: Socket | undefined;
  #slab: Slab | undefined;
  #ramEnded = false;
  #owing: Promise<void> = Promise.resolve();
  #stopped = false;
  #mayStop = false;
  #batch: Uint8Array[] = [];
  #batchHeader: FrameHeader = emptyHeader(0);

  pageCount = 0;
  zeroCount = 0;
  /** Of the zero pages, those announced before QEMU came to them. */
  blankCount = 0;
  /** QEMU waits for `allowSwitchover`. Without the capability it would take that word for an error. */
  isGated = false;
  /** Left out before, and read from the guest's memory since. */
  staleFetchedCount = 0;
  /** Records that went through the codec, the bodies it made of them, and its time. */
  encodedRawBytes = 0;
  encodedBodyBytes = 0;
  encodeMs = 0;

  constructor(options: {
    clock: Clock;
    channel: FrameChannel;
    events: SourcePumpEvents;
    skip: SkipMap | undefined;
    encoder: BatchEncoder;
    readPages: PageSource;
    bandwidthBytesPerSecond: number;
  }) {
    this.#clock = options.clock;
    this.#channel = options.channel;
    this.#events = options.events;
    this.#skip = options.skip;
    this.#encoder = options.encoder;
    this.#readPages = options.readPages;
    this.#reader = new StreamReader(this);
    if (options.skip !== undefined) this.useSkip(options.skip);
    this.receiver = new SlabReceiver(defaultSlabOptions, (slab, from, to) =>
      this.#consume(slab, from, to),
    );
    if (options.bandwidthBytesPerSecond > 0) {
      this.#pacer = new Pacer(options.bandwidthBytesPerSecond, this.#clock.nowMs());
    }
  }

  /** From now on pages are left out. */
  useSkip(skip: SkipMap): void {
    this.#skip = skip;
    this.#reader.useFilter(skip);
  }

  get encoder(): BatchEncoder {
    return this.#encoder;
  }

  /** What the codec saved. */
  get compressedAwayBytes(): number {
    return this.encodedRawBytes - this.encodedBodyBytes;
  }

  /** Bytes of QEMU's stream read so far. */
  get streamBytes(): number {
    return this.#reader.offset;
  }

  get isEnded(): boolean {
    return this.#ramEnded;
  }

  /** Takes the connection that QEMU made to us. */
  open(accepted: Socket): void {
    if (this.#stopped) {
      accepted.destroy();
      return;
    }
    const socket = adoptSocket(accepted, this.receiver);
    this.#socket = socket;
    socket.on("error", (error) =>
      this.#fail(new GodwitError("IO", `the stream failed: ${error.message}`)),
    );
    socket.on("end", () => this.#ended());
    socket.on("close", () => this.#ended());
    if (this.#mayStop) socket.write(switchoverAck);
  }

  /** Tells QEMU that the destination has everything: the hand-over. Resolves when the kernel has it. */
  handOver(): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      if (socket === undefined || socket.destroyed) {
        reject(new GodwitError("IO", "QEMU closed the stream before the hand-over"));
        return;
      }
      socket.write(shutOk, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** With capability `switchover-ack` QEMU does not stop the VM before it was told this, whatever its limits say. */
  allowSwitchover(): void {
    if (this.#mayStop || !this.isGated) return;
    this.#mayStop = true;
    this.#socket?.write(switchoverAck);
  }

  /** Closes the stream: before the hand-over QEMU then resumes its VM. */
  stop(): void {
    this.#stopped = true;
    this.#socket?.destroy();
  }

  /** No bandwidth limit from here on: the VM is stopped, every millisecond counts. */
  liftBandwidth(): void {
    this.#pacer = undefined;
    this.unhold("pace");
    this.#encoder.settle?.();
  }

  hold(reason: HoldReason): void {
    this.#holds.add(reason);
    if (isForRoom(reason)) this.#link.waits(this.#clock.nowMs());
    this.receiver.holdBack();
  }

  unhold(reason: HoldReason): void {
    if (!this.#holds.delete(reason)) return;
    if (isForRoom(reason) && !this.#holds.has("window") && !this.#holds.has("pace")) {
      this.#link.goesOn(this.#clock.nowMs());
    }
    if (this.#holds.size > 0) return;
    this.receiver.goOn();
  }

  /** Body bytes of stream frames sent so far. */
  get sentBytes(): number {
    return this.#window.sentBytes;
  }

  /** Sent, and not yet taken by the destination's QEMU. */
  get inFlightBytes(): number {
    return this.#window.sentBytes - this.#window.ackedBytes;
  }

  acknowledged(bytes: number, bytesPerMs: number): void {
    const nowMs = this.#clock.nowMs();
    if (!this.#window.acknowledged(bytes, nowMs, bytesPerMs)) {
      throw new GodwitError(
        "FRAME_INVALID",
        `an acknowledgement of ${bytes} of ${this.sentBytes} bytes`,
      );
    }
    const link = this.#link.acknowledged(bytes, nowMs);
    if (link !== undefined) this.#encoder.link?.(link);
    if (this.#window.hasRoom) this.unhold("window");
  }

  // StreamSink

  head(head: StreamHead): void {
    if (head.blocks.length > 0xffff)
      throw new GodwitError("STREAM_UNSUPPORTED", "too many RAM blocks");
    this.#count(head.bytes.length);
    this.#channel.sendBytes(FrameType.head, [head.bytes]);
    this.#events.began(head);
  }

  pages(block: number, bytes: Uint8Array, from: number, to: number, counts: RunCounts): void {
    const header = this.#batchHeader;
    if (
      header.bodyBytes > 0 &&
      (header.block !== block || header.bodyBytes + to - from > batchBytesTarget)
    ) {
      this.#flush();
    }
    const batch = this.#batchHeader;
    batch.block = block;
    batch.bodyBytes += to - from;
    batch.pageCount += counts.pageCount;
    batch.zeroCount += counts.zeroCount;
    this.#batch.push(bytes.subarray(from, to));
  }

  command(command: number, data: Uint8Array): void {
    this.#flush();
    const body = Buffer.concat([Uint8Array.of(command >>> 8, command), data]);
    this.#count(body.length);
    this.#channel.sendBytes(FrameType.command, [body]);
  }

  ramEnd(): void {
    this.#flush();
    this.#ramEnded = true;
  }

  tail(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; at += batchBytesTarget) {
      const piece = bytes.subarray(at, Math.min(to, at + batchBytesTarget));
      this.#count(piece.length);
      this.#channel.sendBytes(FrameType.tail, [piece], this.#holdSlab());
    }
  }

  #consume(slab: Slab, from: number, to: number): number {
    if (this.#stopped) return to;
    this.#slab = slab;
    let at = from;
    const wireBytes = this.#channel.wireBytes;
    this.#channel.cork();
    try {
      for (let next = -1; next !== at && this.#holds.size === 0; ) {
        const wasEnded = this.#ramEnded;
        next = at;
        at = this.#reader.push(slab.bytes, at, to);
        this.#flush();
        if (!wasEnded && this.#ramEnded) this.#endRam();
      }
    } catch (error) {
      this.#fail(error);
      return to;
    } finally {
      this.#channel.uncork();
    }
    this.#restrain(this.#channel.wireBytes - wireBytes);
    return at;
  }

  /** Stops reading when too much is in flight, or to keep to the bandwidth. */
  #restrain(wireBytes: number): void {
    if (this.#window.isFull) this.hold("window");
    const waitMs = this.#pacer?.spend(wireBytes, this.#clock.nowMs()) ?? 0;
    if (waitMs < 1) return;
    this.hold("pace");
    this.#clock.after(waitMs, () => this.unhold("pace"));
  }

  /** The VM is stopped and QEMU has sent all it knows to be dirty: what was left out follows, then the end of RAM. */
  #endRam(): void {
    if (this.#skip === undefined || this.#skip.staleCount === 0) {
      this.#channel.sendBytes(FrameType.ramEnd, []);
      return;
    }
    this.hold("stale");
    // Now nothing is disposable any more: the destination's memory is to be equal.
    this.#sendOwed(this.#skip, true).then(
      () => {
        this.#channel.sendBytes(FrameType.ramEnd, []);
        this.unhold("stale");
      },
      (error: unknown) => this.#fail(error),
    );
  }

  /**
   * Sends what was left out and is no longer disposable, while the VM runs. A page that is written meanwhile may arrive torn:
   * QEMU then knows it to be dirty and sends it again.
   */
  sendOwed(): Promise<void> {
    this.#owing = this.#owing.then(() => this.#sendOwedNow());
    return this.#owing;
  }

  async #sendOwedNow(): Promise<void> {
    if (this.#skip === undefined || this.#ramEnded || this.#stopped) return;
    if (this.#skip.owedCount === 0) return;
    this.hold("stale");
    try {
      await this.#sendOwed(this.#skip, false);
    } finally {
      this.unhold("stale");
    }
  }

  /** Announces disposable pages as zero of which nothing was sent yet, so that they need not be sent when they are. */
  async sendBlank(): Promise<void> {
    if (this.#skip === undefined || this.#ramEnded || this.#stopped) return;
    for (const { block, pages } of this.#skip.takeBlank(blankBatchPages)) {
      if (this.#ramEnded || this.#stopped) return;
      const body = Buffer.allocUnsafeSlow(pages.length * zeroRecordBytes);
      const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
      for (const [i, page] of pages.entries()) writeZeroRecord(view, i * zeroRecordBytes, page);
      const header = emptyHeader(block.index);
      header.zeroCount = pages.length;
      header.bodyBytes = body.length;
      this.zeroCount += pages.length;
      this.blankCount += pages.length;
      this.#sendBatch(header, [body], () => {});
      await this.#room(body.length);
    }
  }

  /** Bodies are filled straight from guest memory, a batch at a time, with a few batches on their way. Nothing is read. */
  async #sendOwed(skip: SkipMap, all: boolean): Promise<void> {
    const underWay: Promise<void>[] = [];
    // Used again: fresh ones for each batch would pile up until the next collection of garbage.
    const free: Buffer[] = [];
    for (const batch of skip.takeOwed(staleBatchPages, all)) {
      if (this.#stopped) return;
      const header = emptyHeader(batch.block.index);
      header.pageCount = batch.pages.length;
      header.bodyBytes = batch.pages.length * pageRecordBytes;
      const buffer = free.pop() ?? Buffer.allocUnsafeSlow(staleBatchPages * pageRecordBytes);
      const body = this.#staleBody(buffer, batch.block.name, batch.pages);
      const sent = new Promise<void>((resolve) => this.#sendBatch(header, [body], resolve));
      underWay.push(sent.then(() => void free.push(buffer)));
      this.staleFetchedCount += batch.pages.length;
      await this.#room(header.bodyBytes);
      if (underWay.length >= staleBatchesUnderWay) await underWay.shift();
    }
    await Promise.all(underWay);
  }

  /** As `#restrain`, for what does not come from the socket. */
  async #room(wireBytes: number): Promise<void> {
    const waitMs = this.#pacer?.spend(wireBytes, this.#clock.nowMs()) ?? 0;
    if (waitMs < 1 && !this.#window.isFull) return;
    this.#link.waits(this.#clock.nowMs());
    if (waitMs >= 1) await sleep(this.#clock, waitMs);
    while (this.#window.isFull && !this.#stopped) await sleep(this.#clock, roomPollMs);
    this.#link.goesOn(this.#clock.nowMs());
  }

  /** `pages` ascend; neighbours are read at once. */
  #staleBody(buffer: Buffer, block: string, pages: readonly number[]): Buffer {
    const body = buffer.subarray(0, pages.length * pageRecordBytes);
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    let run: Uint8Array[] = [];
    for (const [i, page] of pages.entries()) {
      const at = i * pageRecordBytes;
      writePageWord(view, at, page);
      run.push(body.subarray(at + 8, at + pageRecordBytes));
      if (pages[i + 1] === page + 1) continue;
      this.#readPages(block, page + 1 - run.length, run);
      run = [];
    }
    return body;
  }

  #flush(): void {
    const header = this.#batchHeader;
    if (header.bodyBytes === 0) return;
    this.pageCount += header.pageCount;
    this.zeroCount += header.zeroCount;
    this.#sendBatch(header, this.#batch, this.#holdSlab());
    this.#batch = [];
    this.#batchHeader = emptyHeader(0);
  }

  /**
   * `header.bodyBytes` is the length of the records in `pieces`. Encodes and sends in one go, whoever calls: encoders may
   * have a history, so batches must be sent in the order in which they were encoded.
   */
  #sendBatch(header: FrameHeader, pieces: readonly Uint8Array[], sent: () => void): void {
    const { block, bodyBytes, pageCount, zeroCount } = header;
    const startMs = this.#clock.nowMs();
    const body = this.#encoder.encode({ block, pieces, bytes: bodyBytes, pageCount, zeroCount });
    this.encodeMs += this.#clock.nowMs() - startMs;
    header.codec = this.#encoder.id;
    header.rawBytes = bodyBytes;
    header.bodyBytes = body.reduce((sum, piece) => sum + piece.length, 0);
    this.encodedRawBytes += header.rawBytes;
    this.encodedBodyBytes += header.bodyBytes;
    this.#count(header.bodyBytes);
    const isCopy = !body.some(({ buffer }) => buffer === pieces[0]?.buffer);
    this.#channel.sendPages(header, body, isCopy ? () => {} : sent);
    // What was encoded elsewhere does not keep the slab: the link, not the room for records, is what bounds.
    if (isCopy) sent();
  }

  /** Keeps the current slab until the returned function is called. */
  #holdSlab(): () => void {
    const slab = this.#slab as Slab;
    this.receiver.hold(slab);
    return () => this.receiver.release(slab);
  }

  #count(bytes: number): void {
    this.#window.sent(bytes, this.#clock.nowMs());
  }

  #ended(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#events.ended();
  }

  #fail(error: unknown): void {
    if (this.#stopped) return;
    this.stop();
    this.#events.failed(
      error instanceof GodwitError ? error : new GodwitError("IO", String(error), { cause: error }),
    );
  }
}

/** The link's reasons; the others are ours. */
function isForRoom(reason: HoldReason): boolean {
  return reason === "window" || reason === "pace";
}

function emptyHeader(block: number): FrameHeader {
  return {
    type: FrameType.pages,
    codec: 0,
    block,
    bodyBytes: 0,
    sequence: 0,
    pageCount: 0,
    zeroCount: 0,
    rawBytes: 0,
  };
}
