/** Encodes each batch with the method that the chooser names, and compares methods on it when the chooser wants to know. */
import { assert } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { codecIds } from "../ids.ts";
import type { BatchEncoder, LinkState, MethodUsage, PageBatch } from "../page-batch.ts";
import { Chooser } from "./chooser.ts";
import type { Outcome } from "./estimate.ts";

/** A step of the ladder; the first sends records as they are. */
export interface Candidate {
  readonly name: string;
  /** The encoder, ready for a batch of this method. Called before each; methods may share one, and so its history. */
  use(): BatchEncoder;
  /** What the batch would come to that was encoded last, by this method or another but the first. Changes nothing. */
  bodyBytes(): number;
}

type Usage = { -readonly [Key in keyof MethodUsage]: MethodUsage[Key] };

export class AutoEncoder implements BatchEncoder {
  readonly name = "auto";
  id: number = codecIds.none;
  readonly #clock: Clock;
  /** Of this thread, since whenever. */
  readonly #idleMs: () => number;
  readonly #candidates: readonly Candidate[];
  readonly #start: number;
  readonly #usage: readonly Usage[];
  readonly #made = new Set<BatchEncoder>();
  /** From the first batch on: what happened before says nothing. */
  #chooser: Chooser | undefined;
  #linkAtMs = 0;
  #idleAtMs = 0;

  /** `start`: the name of the candidate for the time until the link is known. */
  constructor(candidates: readonly Candidate[], start: string, clock: Clock, idleMs: () => number) {
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#candidates = candidates;
    this.#start = candidates.findIndex(({ name }) => name === start);
    assert(this.#start >= 0, `a candidate to start with: ${start}`);
    this.#usage = candidates.map(({ name }) => ({
      name,
      batchCount: 0,
      pageCount: 0,
      rawBytes: 0,
      bodyBytes: 0,
      encodeMs: 0,
    }));
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

  link({ bytesPerMs, waitingShare }: LinkState): void {
    const [nowMs, idleMs] = [this.#clock.nowMs(), this.#idleMs()];
    const elapsedMs = Math.max(1e-3, nowMs - this.#linkAtMs);
    const idleShare = Math.min(1, (idleMs - this.#idleAtMs) / elapsedMs);
    this.#linkAtMs = nowMs;
    this.#idleAtMs = idleMs;
    this.#chooser?.link({ bytesPerMs, waitingShare, idleShare }, nowMs);
  }

  usage(): readonly MethodUsage[] {
    return this.#usage.filter(({ batchCount }) => batchCount > 0);
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    const chooser = (this.#chooser ??= this.#begin());
    const { method, trials } = chooser.next(this.#clock.nowMs());
    const encoder = (this.#candidates[method] as Candidate).use();
    this.#made.add(encoder);
    // What it took to make the encoder is not the method's usual time.
    const startMs = this.#clock.nowMs();
    const body = encoder.encode(batch);
    this.id = encoder.id;
    let bodyBytes = 0;
    for (const piece of body) bodyBytes += piece.length;
    const ms = this.#clock.nowMs() - startMs;
    const tried = trials.map((index) => ({ method: index, ...this.#try(index) }));
    chooser.encoded(method, batch.bytes, { bodyBytes, ms }, tried, this.#clock.nowMs());
    count(this.#usage[method] as Usage, batch, bodyBytes, ms);
    return body;
  }

  #begin(): Chooser {
    this.#linkAtMs = this.#clock.nowMs();
    this.#idleAtMs = this.#idleMs();
    return new Chooser(this.#candidates.length, this.#start, this.#linkAtMs);
  }

  #try(index: number): Outcome {
    const startMs = this.#clock.nowMs();
    const bodyBytes = (this.#candidates[index] as Candidate).bodyBytes();
    return { bodyBytes, ms: this.#clock.nowMs() - startMs };
  }
}

function count(usage: Usage, batch: PageBatch, bodyBytes: number, ms: number): void {
  usage.batchCount++;
  usage.pageCount += batch.pageCount + batch.zeroCount;
  usage.rawBytes += batch.bytes;
  usage.bodyBytes += bodyBytes;
  usage.encodeMs += ms;
}
