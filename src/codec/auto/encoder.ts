/** Encodes each batch with the method that the chooser names, and compares methods on it when the chooser wants to know. */
import { assert } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { codecIds } from "../ids.ts";
import type { BatchEncoder, Encoded, LinkState, MethodUsage, PageBatch } from "../page-batch.ts";
import { Chooser, type Turn } from "./chooser.ts";
import type { Outcome } from "./estimate.ts";
import { zeroPageWorth } from "./race.ts";
import { SpareTime } from "./spare-time.ts";

/** A step of the ladder; the first sends records as they are. */
export interface Candidate {
  readonly name: string;
  /** The encoder, ready for a batch of this method. Called before each; methods may share one, and so its history. */
  use(): BatchEncoder;
  /** What the batch encoded last, by this method or another but the first, would come to. Changes nothing. */
  bodyBytes(batch: PageBatch): number;
  /** Of that batch, what this method would leave to another thread to compress, in bytes; default 0. */
  besideBytes?(): number;
  /** The same step where pages are not worth remembering; default: this one. */
  readonly bare?: Candidate;
}

/**
 * In a first copy over a faster link, 640 Mbit/s, no pages are remembered: hardly one of them comes again, and what it takes to
 * look at them and to keep them, memory that both sides never touched above all, is a third to a half of the time of a batch.
 */
const bareBytesPerMs = { from: 80_000, downTo: 65_000 };
/**
 * Nor over a slower one while sides have no time for it (spare-time.ts), nor in rounds after it that are over so soon: a page is
 * remembered before it is of use.
 */
const bareAfterBulkMs = 1_000;

/** Of a new measurement in what is expected of other threads. */
const besideWeight = 0.3;

type Usage = { -readonly [Key in keyof MethodUsage]: MethodUsage[Key] };

export class AutoEncoder implements BatchEncoder {
  readonly name = "auto";
  id: number = codecIds.none;
  readonly #clock: Clock;
  /** Of this thread, since whenever. */
  readonly #idleMs: () => number;
  readonly #candidates: readonly Candidate[];
  /** The same steps. */
  readonly #bare: readonly Candidate[];
  #ladder: readonly Candidate[];
  readonly #start: number;
  /** In the order of their first use. */
  readonly #usage = new Map<string, Usage>();
  readonly #made = new Set<BatchEncoder>();
  /** By methods: what other threads take for a byte, as this one found on trial. Theirs cannot be seen: they wait for a turn. */
  readonly #besideMsPerByte = new Map<string, number>();
  /** From the first batch on: what happened before says nothing. */
  #chooser: Chooser | undefined;
  readonly #spareTime = new SpareTime();
  /** This thread's, since the latest look. */
  #encodeMs = 0;
  /** When the first copy was over. */
  #bulkEndMs: number | undefined;
  #linkAtMs = 0;
  #idleAtMs = 0;

  /** `start`: the name of the candidate for the time until the link is known. */
  constructor(candidates: readonly Candidate[], start: string, clock: Clock, idleMs: () => number) {
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#candidates = candidates;
    const hasBare = candidates.some(({ bare }) => bare !== undefined);
    this.#bare = hasBare ? candidates.map((one) => one.bare ?? one) : candidates;
    this.#ladder = this.#bare;
    this.#start = candidates.findIndex(({ name }) => name === start);
    assert(this.#start >= 0, `a candidate to start with: ${start}`);
  }

  /** Undefined without a history. */
  get counts(): BatchEncoder["counts"] {
    for (const { counts } of this.#made) {
      if (counts !== undefined && counts.hits + counts.misses > 0) return counts;
    }
    return undefined;
  }

  get memoryBytes(): number {
    let sum = 0;
    for (const encoder of this.#made) sum += encoder.memoryBytes;
    return sum;
  }

  reset(): void {
    for (const encoder of this.#made) encoder.reset();
  }

  settle(): void {
    this.#chooser?.settle();
  }

  endBulk(): void {
    this.#bulkEndMs ??= this.#clock.nowMs();
  }

  link({ bytesPerMs, waitingShare, besideShare = 0, destinationIdleShare = 1 }: LinkState): void {
    const [nowMs, idleMs] = [this.#clock.nowMs(), this.#idleMs()];
    const elapsedMs = Math.max(1e-3, nowMs - this.#linkAtMs);
    // Who waits for helpers has nothing to do, but is not free to do more.
    const idleShare = Math.max(0, Math.min(1, (idleMs - this.#idleAtMs) / elapsedMs) - besideShare);
    this.#linkAtMs = nowMs;
    this.#idleAtMs = idleMs;
    const seen = { bytesPerMs, waitingShare, idleShare, besideShare, destinationIdleShare };
    if (this.#chooser === undefined) return;
    const isLinkUsed = this.#chooser.isLinkUsed(bytesPerMs);
    this.#spareTime.look(seen, this.#encodeMs / elapsedMs, isLinkUsed, nowMs);
    this.#encodeMs = 0;
    this.#chooser.link(seen, nowMs);
  }

  get inFlightBytesMax(): number {
    return this.#chooser?.inFlightBytesMax(this.#clock.nowMs()) ?? Number.POSITIVE_INFINITY;
  }

  arrived(batchCount: number): void {
    this.#chooser?.arrived(batchCount, this.#clock.nowMs());
  }

  usage(): readonly MethodUsage[] {
    return [...this.#usage.values()];
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    const turn = this.#next(batch);
    const ladder = this.#ladder;
    const method = ladder[turn.method] as Candidate;
    const encoder = this.#encoderOf(method);
    const startMs = this.#clock.nowMs();
    const body = encoder.encode(batch);
    const ms = this.#clock.nowMs() - startMs;
    this.id = encoder.id;
    this.#encoded(turn, method, batch, { bodyBytes: bytesOf(body), ms, besideMs: 0 });
    const outcomes = turn.trials.map((index) => this.#try(ladder[index] as Candidate, batch, 0));
    this.#chooser?.tried(turn, batch.bytes, outcomes, this.#clock.nowMs());
    return body;
  }

  later(batch: PageBatch): Encoded | Promise<Encoded> {
    const turn = this.#next(batch);
    const ladder = this.#ladder;
    const method = ladder[turn.method] as Candidate;
    const encoder = this.#encoderOf(method);
    const startMs = this.#clock.nowMs();
    const encoded = encoder.later?.(batch) ?? { body: encoder.encode(batch), id: encoder.id };
    const ms = this.#clock.nowMs() - startMs;
    const isLater = encoded instanceof Promise;
    const besideBytes = isLater ? (method.besideBytes?.() ?? 0) : 0;
    // Once, to know what others have to do.
    const isUnknown = besideBytes > 0 && !this.#besideMsPerByte.has(method.name);
    if (isUnknown) this.#try(method, batch, besideBytes);
    // It is the batch encoded last that is tried.
    const outcomes = turn.trials.map((index) => {
      const tried = ladder[index] as Candidate;
      return this.#try(tried, batch, tried.besideBytes?.() ?? 0);
    });
    this.#chooser?.tried(turn, batch.bytes, outcomes, this.#clock.nowMs());
    const done = (one: Encoded): Encoded => {
      const besideMs = besideBytes * (this.#besideMsPerByte.get(method.name) ?? 0);
      this.#encoded(turn, method, batch, { bodyBytes: bytesOf(one.body), ms, besideMs });
      return one;
    };
    return isLater ? encoded.then(done) : done(encoded);
  }

  #next({ bytes, zeroCount }: PageBatch): Turn {
    const chooser = (this.#chooser ??= this.#begin());
    this.#lookAtLadder();
    const turn = chooser.next(this.#clock.nowMs());
    chooser.sends(turn, bytes + zeroCount * zeroPageWorth);
    return turn;
  }

  /** The steps as they are now. What was seen of them says nothing any more once they change. */
  #lookAtLadder(): void {
    const bytesPerMs = this.#chooser?.linkBytesPerMs ?? 0;
    const untilMs = (this.#bulkEndMs ?? Number.POSITIVE_INFINITY) + bareAfterBulkMs;
    const wasBare = this.#ladder === this.#bare;
    const isFast = bytesPerMs >= (wasBare ? bareBytesPerMs.downTo : bareBytesPerMs.from);
    const isBare = (isFast || !this.#spareTime.isThere) && this.#clock.nowMs() < untilMs;
    const ladder = isBare ? this.#bare : this.#candidates;
    if (ladder === this.#ladder) return;
    this.#ladder = ladder;
    this.#chooser?.ladderChanged();
  }

  /** What it took to make an encoder is not the method's usual time: call this before looking at the clock. */
  #encoderOf(method: Candidate): BatchEncoder {
    const encoder = method.use();
    this.#made.add(encoder);
    return encoder;
  }

  #encoded(turn: Turn, { name }: Candidate, batch: PageBatch, outcome: Outcome): void {
    this.#encodeMs += outcome.ms;
    this.#chooser?.encoded(turn, batch.bytes, outcome, this.#clock.nowMs());
    const usage = this.#usage.get(name) ?? noUsage(name);
    this.#usage.set(name, usage);
    count(usage, batch, outcome);
  }

  #begin(): Chooser {
    this.#linkAtMs = this.#clock.nowMs();
    this.#idleAtMs = this.#idleMs();
    return new Chooser(this.#candidates.length, this.#start, this.#linkAtMs);
  }

  /** `besideBytes`: what another thread would have compressed; 0: this one. */
  #try(method: Candidate, batch: PageBatch, besideBytes: number): Outcome {
    const startMs = this.#clock.nowMs();
    const bodyBytes = method.bodyBytes(batch);
    const ms = this.#clock.nowMs() - startMs;
    this.#encodeMs += ms;
    if (besideBytes === 0) return { bodyBytes, ms, besideMs: 0 };
    const { name } = method;
    const before = this.#besideMsPerByte.get(name) ?? ms / besideBytes;
    this.#besideMsPerByte.set(name, before + besideWeight * (ms / besideBytes - before));
    return { bodyBytes, ms: 0, besideMs: ms };
  }
}

function noUsage(name: string): Usage {
  return { name, batchCount: 0, pageCount: 0, rawBytes: 0, bodyBytes: 0, encodeMs: 0 };
}

function bytesOf(body: readonly Uint8Array[]): number {
  return body.reduce((sum, { length }) => sum + length, 0);
}

function count(usage: Usage, batch: PageBatch, { bodyBytes, ms, besideMs }: Outcome): void {
  usage.batchCount++;
  usage.pageCount += batch.pageCount + batch.zeroCount;
  usage.rawBytes += batch.bytes;
  usage.bodyBytes += bodyBytes;
  usage.encodeMs += ms + besideMs;
}
