/**
 * A migration of made-up memory within this process, while it waits for work. A program that has just started is slow for its first
 * tenths of a second: loops are interpreted, then compiled while others wait for the processor, kernels too. Measured without
 * this, the first 150 ms of a compressed migration carried a tenth of what it carries later.
 *
 *   made-up stream ──▶ SourcePump ──frames──▶ DestinationPump ──▶ nowhere
 *
 * The sockets are real ones, in Linux's abstract namespace. Whoever connects in between ends it; nothing depends on its end.
 */
import { randomUUID } from "node:crypto";
import { connect, createServer, type Server, Socket } from "node:net";
import { Writable } from "node:stream";
import { createEncoder } from "../codec/index.ts";
import { adoptSocket, type Clock } from "../io/index.ts";
import {
  encodeEof,
  encodeHead,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  pageRecordBytes,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../qemu/stream/index.ts";
import { FrameChannel } from "./channel.ts";
import { DestinationPump } from "./destination/pump.ts";
import { SourcePump } from "./source/pump.ts";
import { decodeAckBody, FrameType } from "./wire/index.ts";

const pageBytes = 4096;
const pageCount = 512;
const block = { name: "warm", lengthBytes: pageCount * pageBytes };
/** Rounds over the made-up memory, for each way to send it; the same few by turns. */
const roundCount = 24;
const differentRounds = 3;
const codecs = ["hybrid", "zstd", "none"] as const;
const historyBytes = 16 << 20;
/** Smaller than a migration's: what waits should take little memory. */
const slabOptions = { slabBytes: 2 << 20, slabCount: 2, itemBytesMax: 600 << 10 };
/** It has no use later. */
const timeMsMax = 2_000;

/** When nothing ends it. */
export const warmUpPageCount = codecs.length * roundCount * pageCount;

/** Resolves when all is done, or soon after `signal`, with the pages that went through. Never rejects. */
export async function warmUp(clock: Clock, signal: AbortSignal): Promise<number> {
  const doneCount = await warmUpWith(clock, signal, madeUpStream());
  // What was used for it is of no use any more, and would wait for some other reason to collect it.
  if (!signal.aborted) globalThis.gc?.();
  return doneCount;
}

async function warmUpWith(clock: Clock, signal: AbortSignal, stream: Stream): Promise<number> {
  let doneCount = 0;
  for (const codec of codecs) {
    if (signal.aborted) break;
    const run = new Run(clock, codec);
    const stop = (): void => run.end();
    signal.addEventListener("abort", stop);
    const cancel = clock.after(timeMsMax, stop);
    // Whatever it was: there is no use in it now.
    await run.carry(stream).catch(() => {});
    stop();
    cancel();
    signal.removeEventListener("abort", stop);
    doneCount += run.doneCount;
  }
  return doneCount;
}

class Run {
  readonly #clock: Clock;
  readonly #codec: (typeof codecs)[number];
  readonly #ended = Promise.withResolvers<void>();
  #isOver = false;
  /** Pages at their destination. */
  doneCount = 0;
  readonly #open: { destroy(): void }[] = [];

  constructor(clock: Clock, codec: (typeof codecs)[number]) {
    this.#clock = clock;
    this.#codec = codec;
  }

  end(): void {
    this.#isOver = true;
    for (const one of this.#open.splice(0)) one.destroy();
    this.#ended.resolve();
  }

  async carry({ head, rounds, end }: Stream): Promise<void> {
    const clock = this.#clock;
    const encoder = createEncoder(this.#codec, { memoryBytes: historyBytes });
    const ended = (): void => this.end();
    let isWhole = false;
    const there = new FrameChannel(clock, slabOptions, {
      frame: (header, slab, from, to) => {
        destination.frame(header, slab, from, to);
        isWhole ||= header.type === FrameType.tail;
      },
      lost: ended,
    });
    const destination = new DestinationPump(there.receiver, {
      loaded: () => {},
      acknowledge: (ack) => {
        there.sendAck(ack);
        if (isWhole && ack.takenBytes === pump.sender.sentBytes) this.end();
      },
      failed: ended,
    });
    // It uses nothing of a socket that a stream has not.
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => setImmediate(done) });
    destination.open(nowhere as unknown as Socket, { has: () => true, look: () => true });
    const here = new FrameChannel(clock, slabOptions, {
      frame: (_header, slab, from, to) => {
        pump.acknowledged(decodeAckBody(slab.bytes as Buffer, from, to), 0);
      },
      lost: ended,
    });
    const pump: SourcePump = new SourcePump({
      clock,
      channel: here,
      skip: undefined,
      encoder,
      bandwidthBytesPerSecond: 0,
      slabs: slabOptions,
      readPages: () => {},
      events: { began: () => {}, failed: ended, ended: () => {} },
    });
    this.#open.push({ destroy: () => pump.stop() }, { destroy: () => destination.stop() });
    this.#open.push(here, there);
    const toThere = await this.#pair((accepted) => {
      there.open(adoptSocket(accepted, there.receiver));
    });
    if (this.#isOver) return;
    here.receiver.attachChunks(toThere);
    here.open(toThere);
    const qemu = await this.#pair((accepted) => pump.open(accepted));
    if (this.#isOver) return;
    qemu.on("error", ended);
    qemu.write(head);
    for (let i = 0; i < roundCount; i++) qemu.write(rounds[i % rounds.length] as Buffer);
    qemu.write(end);
    await this.#ended.promise;
    this.doneCount = destination.pageCount + destination.zeroCount;
  }

  /** Answers the end that connected. */
  async #pair(accept: (accepted: Socket) => void): Promise<Socket> {
    const server: Server = createServer({ pauseOnConnect: true }, (accepted) => {
      server.close();
      if (this.#isOver) accepted.destroy();
      else accept(accepted);
    });
    this.#open.push({ destroy: () => server.close() });
    const path = `\0godwit-warm-up-${randomUUID()}`;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
      void this.#ended.promise.then(resolve);
    });
    if (this.#isOver) server.close();
    const socket = connect(path);
    this.#open.push(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", resolve);
      void this.#ended.promise.then(resolve);
    });
    return socket;
  }
}

interface Stream {
  readonly head: Uint8Array;
  readonly rounds: readonly Buffer[];
  readonly end: Uint8Array;
}

/** Text, numbers that grow, and zeros; the same pages again with some changes. */
function madeUpStream(): Stream {
  const memory = Buffer.alloc(
    block.lengthBytes,
    "what a guest's memory may look like, more or less; ",
  );
  const rounds = Array.from({ length: differentRounds }, (_none, round) => {
    const pieces: Uint8Array[] = [encodeSectionBegin(1, "part")];
    for (let page = 0; page < pageCount; page++) {
      pieces.push(recordOf(memory.subarray(page * pageBytes, (page + 1) * pageBytes), page, round));
    }
    pieces.push(encodeSectionEnd(1));
    return Buffer.concat(pieces);
  });
  return {
    head: encodeHead({ machineType: "none", ramSectionId: 1, blocks: [block], returnPath: true }),
    rounds,
    end: Buffer.concat([encodeSectionBegin(1, "end"), encodeSectionEnd(1), encodeEof()]),
  };
}

function recordOf(bytes: Buffer, page: number, round: number): Uint8Array {
  const isZero = (page & 64) !== 0;
  const record = Buffer.alloc(isZero ? zeroRecordBytes : pageRecordBytes);
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  if (isZero) writeZeroRecord(view, 0, page);
  else {
    const step = 8 * (1 + ((page * 7 + round) % 40));
    for (let at = (page + round) % 8; at + 4 <= pageBytes; at += step) {
      bytes.writeUInt32LE((page * 2_654_435_761 + round + at) >>> 0, at);
    }
    writePageWord(view, 0, page);
    bytes.copy(record, 8);
  }
  if (page > 0) return record;
  const named = encodeNamedWord(view.getUint32(0), view.getUint32(4), block.name);
  return Buffer.concat([named, record.subarray(8)]);
}
