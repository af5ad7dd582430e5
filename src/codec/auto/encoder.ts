/** Encodes each batch with the method that the chooser names. What the methods need is made when they are first used. */
import { assert } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { codecIds } from "../ids.ts";
import type { BatchEncoder, LinkState, MethodUsage, PageBatch } from "../page-batch.ts";
import { Chooser, type Method } from "./chooser.ts";

export interface Candidate extends Method {
  /** The encoder, ready for a batch of this method. Called before each; methods may share one, and so its history. */
  use(): BatchEncoder;
}

type Usage = { -readonly [Key in keyof MethodUsage]: MethodUsage[Key] };

export class AutoEncoder implements BatchEncoder {
  readonly name = "auto";
  id: number = codecIds.none;
  readonly #clock: Clock;
  readonly #candidates: readonly Candidate[];
  readonly #start: number;
  readonly #usage: readonly Usage[];
  readonly #made = new Set<BatchEncoder>();
  /** From the first batch on: what happened before says nothing. */
  #chooser: Chooser | undefined;

  /** `start`: the name of the candidate for the time until the link is known. */
  constructor(candidates: readonly Candidate[], start: string, clock: Clock) {
    this.#clock = clock;
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

  get counts(): BatchEncoder["counts"] {
    for (const encoder of this.#made) if (encoder.counts !== undefined) return encoder.counts;
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
    this.#chooser?.link(bytesPerMs, waitingShare, this.#clock.nowMs());
  }

  usage(): readonly MethodUsage[] {
    return this.#usage.filter(({ batchCount }) => batchCount > 0);
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    const nowMs = this.#clock.nowMs();
    this.#chooser ??= new Chooser(this.#candidates, this.#start, nowMs);
    const index = this.#chooser.next(nowMs);
    const encoder = (this.#candidates[index] as Candidate).use();
    this.#made.add(encoder);
    // What it took to make the encoder is not the method's usual time.
    const startMs = this.#clock.nowMs();
    const body = encoder.encode(batch);
    this.id = encoder.id;
    let bodyBytes = 0;
    for (const piece of body) bodyBytes += piece.length;
    const endMs = this.#clock.nowMs();
    this.#chooser.encoded(index, batch.bytes, bodyBytes, endMs - startMs, endMs);
    count(this.#usage[index] as Usage, batch, bodyBytes, endMs - startMs);
    return body;
  }
}

function count(usage: Usage, batch: PageBatch, bodyBytes: number, ms: number): void {
  usage.batchCount++;
  usage.pageCount += batch.pageCount + batch.zeroCount;
  usage.rawBytes += batch.bytes;
  usage.bodyBytes += bodyBytes;
  usage.encodeMs += ms;
}
