/**
 * The fuzzer's engine: takes an input of a target's corpus, damages it, runs the target, and judges what happened.
 *
 * A case is decided by one number: case i of a run with seed S uses `new Prng(S + i)` for everything, so the seed that a
 * failure prints, given as --seed, makes the same case come first.
 *
 * A case passes when the target returns or throws a GodwitError. It fails when the target throws anything else, takes
 * longer than `caseMsMax`, or leaves more than `allocatedBytesMax` allocated on its way.
 */
import { GodwitError, Prng } from "../../src/base/index.ts";
import { mutate } from "./mutate.ts";

export interface FuzzTarget {
  readonly name: string;
  /** Sound inputs to start from; called once. */
  corpus(): Uint8Array[];
  /** Gets a fresh copy. Checks of its own throw whatever they like: only a GodwitError is a pass. */
  run(bytes: Uint8Array, prng: Prng): void;
}

export interface FuzzLimits {
  readonly caseMsMax: number;
  readonly allocatedBytesMax: number;
}

/** Generous: the machine may be busy, and collections of garbage fall into some case. */
export const defaultFuzzLimits: FuzzLimits = { caseMsMax: 3000, allocatedBytesMax: 256 << 20 };

export interface FuzzFailure {
  /** --seed that replays it. */
  readonly seed: number;
  readonly input: Uint8Array;
  readonly reason: string;
  readonly error?: unknown;
}

export interface FuzzResult {
  readonly caseCount: number;
  /** How many cases ended with a GodwitError: all or none of them means that the mutator is of no use. */
  readonly refusedCount: number;
  readonly failure?: FuzzFailure;
}

/** Runs cases until the time is over, `caseCountMax` is reached, or one fails. */
export function fuzz(
  target: FuzzTarget,
  options: {
    seed: number;
    seconds: number;
    caseCountMax?: number;
    limits?: FuzzLimits;
  },
): FuzzResult {
  const corpus = target.corpus();
  const limits = options.limits ?? defaultFuzzLimits;
  const end = performance.now() + options.seconds * 1000;
  let refusedCount = 0;
  let caseCount = 0;
  while (caseCount < (options.caseCountMax ?? Number.POSITIVE_INFINITY)) {
    if (performance.now() >= end && caseCount > 0) break;
    const prng = new Prng(options.seed + caseCount);
    const input = mutate(prng, corpus);
    const outcome = runCase(target, input, prng, limits);
    caseCount++;
    if (outcome.refused) refusedCount++;
    if (outcome.reason === undefined) continue;
    const failure = { seed: prng.seed, input, reason: outcome.reason, error: outcome.error };
    return { caseCount, refusedCount, failure };
  }
  return { caseCount, refusedCount };
}

interface Outcome {
  readonly refused: boolean;
  readonly reason?: string;
  readonly error?: unknown;
}

function runCase(target: FuzzTarget, input: Uint8Array, prng: Prng, limits: FuzzLimits): Outcome {
  const bytesBefore = allocatedBytes();
  const began = performance.now();
  let refused = false;
  try {
    target.run(input.slice(), prng);
  } catch (error) {
    if (!(error instanceof GodwitError)) return { refused, reason: describe(error), error };
    refused = true;
  }
  const ms = performance.now() - began;
  const grown = allocatedBytes() - bytesBefore;
  if (ms > limits.caseMsMax) return { refused, reason: `took ${Math.round(ms)} ms` };
  if (grown > limits.allocatedBytesMax) return { refused, reason: `allocated ${grown} bytes` };
  return { refused };
}

function allocatedBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function describe(error: unknown): string {
  return error instanceof Error ? `threw ${error.name}: ${error.message}` : "threw no Error";
}
