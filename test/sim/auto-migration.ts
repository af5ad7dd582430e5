/**
 * One migration in simulated time, as `auto` sees it: a thread that receives, encodes and sends, threads that compress beside it,
 * a source before it, a link and a window of bytes in flight behind it. Codecs and pages are real, the time that codecs take
 * stands in a table.
 */
import type { BatchEncoder, Encoded, PageBatch } from "../../src/codec/index.ts";
import type { Clock } from "../../src/io/index.ts";
import { LinkMeter } from "../../src/migrate/source/link-meter.ts";

export interface World {
  /** Bytes per ms, at that time. */
  readonly link: (nowMs: number) => number;
  /** Records per ms that QEMU delivers at most. */
  readonly source: number;
  /** Records that it has ready at most while this thread is busy. */
  readonly readyBytes: number;
  /** Records per ms that the destination takes at most; default: any. */
  readonly destination?: number;
  /** Source and destination get on only while this thread has nothing to do: all share a processor. */
  readonly isShared?: boolean;
}

/** The time of the simulated thread, which codecs and waiting move on. */
export class ThreadTime implements Clock {
  ms = 0;
  idleMs = 0;
  /** From when on each of the other threads has nothing to do. */
  readonly #besideFreeMs = [0, 0];
  nowMs = (): number => this.ms;
  wallMs = (): number => this.ms;
  after = (): never => {
    throw new Error("nothing waits in this simulation");
  };

  /** Hands work to another thread. Answers when it is done. */
  beside(ms: number): number {
    const free = this.#besideFreeMs.toSorted((a, b) => a - b);
    const endMs = Math.max(this.ms, free[0] as number) + ms;
    this.#besideFreeMs.splice(0, 2, endMs, free[1] as number);
    return endMs;
  }

  idleUntil(ms: number): void {
    if (ms <= this.ms) return;
    this.idleMs += ms - this.ms;
    this.ms = ms;
  }
}

const roundTripMs = 0.4;
const frameBytes = 32;
/** As in src/migrate/flight-window.ts. */
const queueMs = 40;
const windowBytes = { first: 4 << 20, least: 512 << 10, most: 16 << 20 };
/** What this thread needs besides encoding. */
const receiveMsPerByte = 0.3e-6;
const sendMsPerByte = 0.35e-6;

/** As in src/migrate/source/pump.ts. */
const outboxLengths = { low: 3, most: 6 };

/** What a simulated encoder answers. */
export interface EncodedLater extends Encoded {
  /** When another thread is done with it. */
  readonly readyMs?: number;
}

interface Sent {
  readonly totalBytes: number;
  readonly ackedMs: number;
  readonly batchCount: number;
  /** Of the destination, until then. */
  readonly idleMs: number;
}

export interface Outcome {
  readonly ms: number;
  readonly sentBytes: number;
}

export async function migrate(
  batches: readonly PageBatch[],
  encoder: BatchEncoder,
  time: ThreadTime,
  world: World,
): Promise<Outcome> {
  const migration = new Migration(encoder, time, world);
  for (const batch of batches) await migration.carry(batch);
  return migration.end();
}

class Migration {
  readonly #encoder: BatchEncoder;
  readonly #time: ThreadTime;
  readonly #world: World;
  readonly #meter = new LinkMeter();
  readonly #flight: Sent[] = [];
  /** When each batch that is with other threads will have gone out. */
  readonly #outbox: number[] = [];
  /** Of the last half second. */
  readonly #acks: Sent[] = [];
  #sentBytes = 0;
  #batchCount = 0;
  #ackedBytes = 0;
  #windowBytes = windowBytes.first;
  #linkFreeMs = 0;
  #destinationFreeMs = 0;
  #destinationIdleMs = 0;
  #sourceMs = 0;

  constructor(encoder: BatchEncoder, time: ThreadTime, world: World) {
    this.#encoder = encoder;
    this.#time = time;
    this.#world = world;
  }

  async carry(batch: PageBatch): Promise<void> {
    this.#waitForRoom();
    this.#waitForOthers();
    this.#waitForSource(batch.bytes);
    const later = this.#encoder.later?.(batch) ?? { id: 0, body: this.#encoder.encode(batch) };
    const { body: pieces, readyMs = this.#time.ms }: EncodedLater = await later;
    const body = pieces.reduce((sum, piece) => sum + piece.length, frameBytes);
    this.#time.ms += batch.bytes * receiveMsPerByte + body * sendMsPerByte;
    this.#sentBytes += body;
    const sentMs = Math.max(this.#time.ms, readyMs, this.#outbox.at(-1) ?? 0);
    if (sentMs > this.#time.ms) this.#outbox.push(sentMs);
    this.#linkFreeMs = Math.max(this.#linkFreeMs, sentMs);
    this.#linkFreeMs += body / this.#world.link(this.#linkFreeMs);
    const { destination = Number.POSITIVE_INFINITY } = this.#world;
    const idleMs = Math.max(0, this.#linkFreeMs - this.#destinationFreeMs);
    this.#destinationIdleMs += idleMs;
    this.#destinationFreeMs += idleMs + batch.bytes / destination;
    this.#flight.push({
      totalBytes: this.#sentBytes,
      idleMs: this.#destinationIdleMs,
      ackedMs: this.#destinationFreeMs + roundTripMs,
      batchCount: ++this.#batchCount,
    });
  }

  end(): Outcome {
    this.#idleUntil(this.#flight.at(-1)?.ackedMs ?? 0);
    return { ms: this.#time.ms, sentBytes: this.#sentBytes };
  }

  #waitForRoom(): void {
    this.#acknowledge();
    if (this.#inFlightBytes <= this.#roomBytes) return;
    this.#meter.waits(this.#time.ms);
    while (this.#inFlightBytes > this.#roomBytes * 0.75) {
      this.#time.idleUntil((this.#flight[0] as Sent).ackedMs);
      this.#acknowledge();
    }
    this.#meter.goesOn(this.#time.ms);
  }

  #waitForOthers(): void {
    const wait = (length: number): void => {
      while (this.#outbox.length > length) this.#idleUntil(this.#outbox.shift() as number);
    };
    while ((this.#outbox[0] ?? Number.POSITIVE_INFINITY) <= this.#time.ms) this.#outbox.shift();
    if (this.#outbox.length < outboxLengths.most) return;
    this.#meter.waitsBeside(this.#time.ms);
    wait(outboxLengths.low);
    this.#meter.goesOnBeside(this.#time.ms);
  }

  get #roomBytes(): number {
    return Math.min(this.#windowBytes, this.#encoder.inFlightBytesMax ?? this.#windowBytes);
  }

  get #inFlightBytes(): number {
    return this.#sentBytes - this.#ackedBytes;
  }

  #waitForSource(bytes: number): void {
    const { source, readyBytes, isShared = false } = this.#world;
    if (isShared) {
      this.#idleUntil(this.#time.ms + bytes / source);
      return;
    }
    this.#sourceMs = Math.max(this.#sourceMs, this.#time.ms - readyBytes / source) + bytes / source;
    this.#idleUntil(this.#sourceMs);
  }

  #idleUntil(ms: number): void {
    for (let next = this.#flight[0]; next !== undefined && next.ackedMs <= ms; ) {
      this.#time.idleUntil(next.ackedMs);
      this.#acknowledge();
      next = this.#flight[0];
    }
    this.#time.idleUntil(ms);
  }

  /** Takes the acknowledgements that have come. */
  #acknowledge(): void {
    for (let next = this.#flight[0]; next !== undefined && next.ackedMs <= this.#time.ms; ) {
      this.#flight.shift();
      this.#ackedBytes = next.totalBytes;
      this.#size(next);
      this.#encoder.arrived?.(next.batchCount);
      const state = this.#meter.acknowledged(this.#ackedBytes, next.idleMs, this.#time.ms);
      if (state !== undefined) this.#encoder.link?.(state);
      next = this.#flight[0];
    }
  }

  #size(ack: Sent): void {
    this.#acks.push(ack);
    while (ack.ackedMs - (this.#acks[0] as Sent).ackedMs > 500) this.#acks.shift();
    const first = this.#acks[0] as Sent;
    const ms = ack.ackedMs - first.ackedMs;
    if (ms < 5) return;
    const wanted = ((ack.totalBytes - first.totalBytes) / ms) * (queueMs + roundTripMs);
    this.#windowBytes = Math.min(windowBytes.most, Math.max(windowBytes.least, wanted));
  }
}
