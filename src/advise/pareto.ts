/** Which methods are worth a thought: those that no other beats in both ratio and CPU time. Pure. */

export interface Tradeoff {
  /** More is better. */
  readonly ratio: number;
  /** Less is better. */
  readonly encodeMsPerMb: number;
}

/** Those of `all` to which no other is at least equal in both and better in one, from the cheapest to the dearest. */
export function paretoFront<T extends Tradeoff>(all: readonly T[]): T[] {
  const sorted = all.toSorted((a, b) => a.encodeMsPerMb - b.encodeMsPerMb || b.ratio - a.ratio);
  const front: T[] = [];
  for (const one of sorted) {
    const best = front.at(-1);
    const isEqual = best?.ratio === one.ratio && best.encodeMsPerMb === one.encodeMsPerMb;
    if (best === undefined || one.ratio > best.ratio || isEqual) front.push(one);
  }
  return front;
}
