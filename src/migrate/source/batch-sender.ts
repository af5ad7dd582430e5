/**
 * The second half of the source's data path: batches and other frames of the stream go out in their order, encoded, at the
 * bandwidth that was asked for, and no more of them than the window allows. When to read less for that is the pump's business.
 */
import { GodwitError } from "../../base/index.ts";
import type { BatchEncoder, Encoded, PageBatch } from "../../codec/index.ts";
import { type Clock, sleep } from "../../io/index.ts";
import type { FrameChannel } from "../channel.ts";
import { FlightWindow } from "../flight-window.ts";
import { Pacer } from "../rate.ts";
import {
  type Acknowledgement,
  batchBytesTarget,
  type FrameHeader,
  frameHeaderBytes,
  FrameType,
} from "../wire/index.ts";
import { LinkMeter } from "./link-meter.ts";
import { Outbox } from "./outbox.ts";

export interface SenderOptions {
  readonly clock: Clock;
  readonly channel: FrameChannel;
  readonly encoder: BatchEncoder;
  /** 0: as fast as possible. */
  readonly bandwidthBytesPerSecond: number;
  /** Nothing follows: the stream would have a gap. */
  readonly failed: (error: unknown) => void;
  /** Batches came back from other threads and went out. */
  readonly moved: () => void;
}

const roomPollMs = 2;
const nothing = (): void => {};
/** Batches that may wait for other threads: enough for these to be busy, and less than is in flight on any link. */
const besideCountMax = 6;
const besideCountLow = 3;

export class BatchSender {
  readonly encoder: BatchEncoder;
  readonly link = new LinkMeter();
  readonly #clock: Clock;
  readonly #channel: FrameChannel;
  readonly #window: FlightWindow;
  readonly #outbox: Outbox;
  #pacer: Pacer | undefined;
  /** Sent since the bandwidth was looked at last. */
  #unpacedBytes = 0;
  #besideUntilMs = 0;
  /** Sent when each batch that is on its way had gone out, in all. */
  readonly #batchEnds: number[] = [];
  #arrivedBatchCount = 0;

  /** Records that went through the codec, the bodies it made of them, and this thread's time for it. */
  encodedRawBytes = 0;
  encodedBodyBytes = 0;
  encodeMs = 0;
  /** Time in which other threads were at it. */
  besideMs = 0;

  constructor(options: SenderOptions) {
    this.#clock = options.clock;
    this.#channel = options.channel;
    this.encoder = options.encoder;
    this.#window = new FlightWindow(options.encoder.name !== "none");
    this.#outbox = new Outbox(options.failed, options.moved);
    if (options.bandwidthBytesPerSecond > 0) {
      this.#pacer = new Pacer(options.bandwidthBytesPerSecond, this.#clock.nowMs());
    }
  }

  /** What the codec saved. */
  get compressedAwayBytes(): number {
    return this.encodedRawBytes - this.encodedBodyBytes;
  }

  /** Body bytes of stream frames sent so far. */
  get sentBytes(): number {
    return this.#window.sentBytes;
  }

  /** Sent or about to be, and not yet taken by the destination's QEMU. */
  get inFlightBytes(): number {
    return this.#flyingBytes + this.#outbox.length * batchBytesTarget;
  }

  get isWindowFull(): boolean {
    return (
      this.#window.isFull ||
      this.#flyingBytes > (this.encoder.inFlightBytesMax ?? Number.POSITIVE_INFINITY)
    );
  }

  get hasRoom(): boolean {
    const most = this.encoder.inFlightBytesMax ?? Number.POSITIVE_INFINITY;
    return this.#window.hasRoom && this.#flyingBytes <= most * 0.75;
  }

  get #flyingBytes(): number {
    return this.#window.sentBytes - this.#window.ackedBytes;
  }

  /** Other threads have enough to do. */
  get isBesideFull(): boolean {
    return this.#outbox.length >= besideCountMax;
  }

  get isBesideLow(): boolean {
    return this.#outbox.length <= besideCountLow;
  }

  /** `bytesPerMs`: what the link carries lately. */
  acknowledged({ takenBytes: bytes, idleMs }: Acknowledgement, bytesPerMs: number): void {
    const nowMs = this.#clock.nowMs();
    if (!this.#window.acknowledged(bytes, nowMs, bytesPerMs)) {
      throw new GodwitError(
        "FRAME_INVALID",
        `an acknowledgement of ${bytes} of ${this.sentBytes} bytes`,
      );
    }
    this.#countArrived(bytes);
    const link = this.link.acknowledged(bytes, idleMs, nowMs);
    if (link !== undefined) this.encoder.link?.(link);
  }

  #countArrived(ackedBytes: number): void {
    const ends = this.#batchEnds;
    const later = ends.findIndex((end) => end > ackedBytes);
    const count = later < 0 ? ends.length : later;
    if (count === 0) return;
    ends.splice(0, count);
    this.#arrivedBatchCount += count;
    this.encoder.arrived?.(this.#arrivedBatchCount);
  }

  /** The first copy of all memory ends. */
  endBulk(): void {
    this.#window.isBulk = false;
    this.encoder.endBulk?.();
  }

  /** No bandwidth limit from here on. */
  liftBandwidth(): void {
    this.#pacer = undefined;
    this.encoder.settle?.();
  }

  /** How long to send nothing, to keep to the bandwidth. */
  debtMs(): number {
    const bytes = this.#unpacedBytes;
    this.#unpacedBytes = 0;
    return this.#pacer?.spend(bytes, this.#clock.nowMs()) ?? 0;
  }

  /** Resolves when there is room for more, for those who do not wait by not reading. */
  async room(isOver: () => boolean): Promise<void> {
    if (this.isBesideFull) await this.#outbox.emptied();
    const waitMs = this.debtMs();
    if (waitMs < 1 && !this.isWindowFull) return;
    this.link.waits(this.#clock.nowMs(), "owed");
    if (waitMs >= 1) await sleep(this.#clock, waitMs);
    while (this.isWindowFull && !isOver()) await sleep(this.#clock, roomPollMs);
    this.link.goesOn(this.#clock.nowMs(), "owed");
  }

  /**
   * `header.bodyBytes` is the length of the records in `pieces`. Encodes and queues in one go, whoever calls: encoders may
   * have a history, so batches must be sent in the order in which they were encoded. `sent`: the pieces are not needed any more.
   */
  sendBatch(header: FrameHeader, pieces: readonly Uint8Array[], sent: () => void): void {
    const { block, bodyBytes, pageCount, zeroCount } = header;
    const startMs = this.#clock.nowMs();
    const encoded = this.#encode({ block, pieces, bytes: bodyBytes, pageCount, zeroCount });
    const elapsedMs = this.#clock.nowMs() - startMs;
    this.encodeMs += elapsedMs;
    if (encoded instanceof Promise) {
      sent();
      const timed = encoded.then((done) => {
        this.#wasBeside(startMs + elapsedMs);
        return done;
      });
      this.#outbox.addLater(timed, (one) => this.#sendEncoded(header, one, one.done ?? nothing));
      return;
    }
    const isCopy = !encoded.body.some(({ buffer }) => buffer === pieces[0]?.buffer);
    const done = isCopy ? (encoded.done ?? nothing) : sent;
    this.#outbox.add(() => this.#sendEncoded(header, encoded, done), done);
    // What was encoded elsewhere does not keep the slab: the link, not the room for records, is what bounds.
    if (isCopy) sent();
  }

  #encode(batch: PageBatch): Encoded | Promise<Encoded> {
    const { encoder } = this;
    if (encoder.later !== undefined) return encoder.later(batch);
    const body = encoder.encode(batch);
    return { id: encoder.id, body };
  }

  /** Several at once count once. */
  #wasBeside(sinceMs: number): void {
    const nowMs = this.#clock.nowMs();
    this.besideMs += nowMs - Math.max(sinceMs, this.#besideUntilMs);
    this.#besideUntilMs = nowMs;
  }

  #sendEncoded(header: FrameHeader, { id, body }: Omit<Encoded, "done">, sent: () => void): void {
    header.codec = id;
    header.rawBytes = header.bodyBytes;
    header.bodyBytes = body.reduce((sum, piece) => sum + piece.length, 0);
    this.encodedRawBytes += header.rawBytes;
    this.encodedBodyBytes += header.bodyBytes;
    this.#count(header.bodyBytes);
    this.#batchEnds.push(this.sentBytes);
    this.#channel.sendPages(header, body, sent);
  }

  /** A frame of the stream that is none of pages. */
  send(type: FrameType, pieces: readonly Uint8Array[], sent?: () => void): void {
    this.#outbox.add(() => {
      this.#count(pieces.reduce((sum, piece) => sum + piece.length, 0));
      this.#channel.sendBytes(type, pieces, sent);
    }, sent);
  }

  /** Of a frame's body, when it is sent. */
  #count(bytes: number): void {
    this.#unpacedBytes += frameHeaderBytes + bytes;
    this.#window.sent(bytes, this.#clock.nowMs());
  }

  /** Nothing goes out any more. */
  close(): void {
    this.#outbox.close();
  }
}

/** Of a batch that is empty so far. */
export function batchHeader(block: number): FrameHeader {
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
