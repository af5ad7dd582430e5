/** A range of a process's virtual addresses; both below 2^53 on every machine there is. */
export interface MemoryRange {
  readonly address: number;
  readonly bytes: number;
}

/** Ascending, with neighbours joined; empty ones left out. Overlaps are joined too. */
export function mergeRanges(ranges: readonly MemoryRange[]): MemoryRange[] {
  const merged: { address: number; bytes: number }[] = [];
  for (const { address, bytes } of ranges.toSorted((a, b) => a.address - b.address)) {
    if (bytes <= 0) continue;
    const last = merged.at(-1);
    if (last !== undefined && address <= last.address + last.bytes)
      last.bytes = Math.max(last.bytes, address + bytes - last.address);
    else merged.push({ address, bytes });
  }
  return merged;
}

export function totalBytes(ranges: readonly MemoryRange[]): number {
  return ranges.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** What lies in both. Each of the two is ascending and disjoint; so is the answer. */
export function intersectRanges(
  a: readonly MemoryRange[],
  b: readonly MemoryRange[],
): MemoryRange[] {
  const both: MemoryRange[] = [];
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    const [one, other] = [a[i] as MemoryRange, b[k] as MemoryRange];
    const oneEnd = one.address + one.bytes;
    const otherEnd = other.address + other.bytes;
    const address = Math.max(one.address, other.address);
    const bytes = Math.min(oneEnd, otherEnd) - address;
    if (bytes > 0) both.push({ address, bytes });
    if (oneEnd <= otherEnd) i++;
    else k++;
  }
  return both;
}

/** What of `from` does not lie in `taken`. Both are ascending and disjoint; so is the answer. */
export function subtractRanges(
  from: readonly MemoryRange[],
  taken: readonly MemoryRange[],
): MemoryRange[] {
  const left: MemoryRange[] = [];
  let k = 0;
  for (const { address, bytes } of from) {
    const end = address + bytes;
    let at = address;
    while (k < taken.length && endOf(taken[k] as MemoryRange) <= at) k++;
    for (let i = k; i < taken.length && (taken[i] as MemoryRange).address < end; i++) {
      const hole = taken[i] as MemoryRange;
      if (hole.address > at) left.push({ address: at, bytes: hole.address - at });
      at = Math.max(at, endOf(hole));
    }
    if (at < end) left.push({ address: at, bytes: end - at });
  }
  return left;
}

/** The last `bytes` of the ranges, or all of them. */
export function lastOf(ranges: readonly MemoryRange[], bytes: number): MemoryRange[] {
  const taken: MemoryRange[] = [];
  let left = bytes;
  for (const range of ranges.toReversed()) {
    if (left <= 0) break;
    const part = Math.min(left, range.bytes);
    taken.unshift({ address: endOf(range) - part, bytes: part });
    left -= part;
  }
  return taken;
}

function endOf({ address, bytes }: MemoryRange): number {
  return address + bytes;
}
