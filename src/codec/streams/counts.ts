import { layout } from "../kernels/index.ts";

/** What became of the records of all batches that were encoded; `left`: batches that went as they were. */
export interface StreamsCounts {
  /** Zero records and pages full of zeros. */
  zero: number;
  /** Kept before, and not changed since. */
  same: number;
  delta: number;
  raw: number;
  duplicate: number;
  similar: number;
  sparse: number;
  sharedDuplicate: number;
  sharedSimilar: number;
  /** Full pages, not zero, that had a previous version in the history, and that had none. */
  hits: number;
  misses: number;
  evicted: number;
  /** Misses that were not kept, because everything kept was in use or the page was new. */
  rejected: number;
  left: number;
}

export function zeroCounts(): StreamsCounts {
  return {
    zero: 0,
    same: 0,
    delta: 0,
    raw: 0,
    duplicate: 0,
    similar: 0,
    sparse: 0,
    sharedDuplicate: 0,
    sharedSimilar: 0,
    hits: 0,
    misses: 0,
    evicted: 0,
    rejected: 0,
    left: 0,
  };
}

/** Adds what the kernels counted in the last batch. */
export function countsOf(control: Uint32Array, counts: StreamsCounts): void {
  const one = (index: number): number => control[layout.counts + index] as number;
  const both = (kind: number): number => one(kind) + one(kind + 1);
  counts.zero += both(layout.kindZero);
  counts.same += one(layout.kindSame);
  counts.delta += one(layout.kindDelta);
  counts.raw += both(layout.kindRaw);
  counts.duplicate += both(layout.kindCopy);
  counts.similar += both(layout.kindSimilar);
  counts.sparse += both(layout.kindSparse);
  counts.sharedDuplicate += both(layout.kindShared);
  counts.sharedSimilar += both(layout.kindSharedSimilar);
  counts.hits += one(layout.countHits);
  counts.misses += one(layout.countMisses);
  counts.evicted += one(layout.countEvicted);
  counts.rejected += one(layout.countRejected);
}
