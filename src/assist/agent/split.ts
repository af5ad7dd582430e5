/** Long lists of ranges in pieces that fit one request each. */
import type { MemoryRange } from "../ranges.ts";

export interface RangeBatch {
  readonly pieces: readonly MemoryRange[];
  /** For each piece: the index of the range that it is part of. */
  readonly owners: readonly number[];
}

/**
 * At most `countMax` pieces and `bytesMax` bytes a batch, in order. Where a range is cut, the cut's address is a multiple of
 * `alignBytes`, which must divide `bytesMax` when ranges are not aligned to it: see frames, where only whole pages count.
 */
export function splitRanges(
  ranges: readonly MemoryRange[],
  countMax: number,
  bytesMax: number,
  alignBytes = 1,
): RangeBatch[] {
  const batches: { pieces: MemoryRange[]; owners: number[] }[] = [];
  let leftBytes = 0;
  let batch = { pieces: [] as MemoryRange[], owners: [] as number[] };
  const open = (): void => {
    batch = { pieces: [], owners: [] };
    batches.push(batch);
    leftBytes = bytesMax;
  };
  const add = (address: number, bytes: number, owner: number): void => {
    if (batches.length === 0 || batch.pieces.length === countMax) open();
    batch.pieces.push({ address, bytes });
    batch.owners.push(owner);
    leftBytes -= bytes;
  };
  ranges.forEach(({ address, bytes }, owner) => {
    let at = 0;
    do {
      let piece = Math.min(bytes - at, leftBytes);
      if (piece < bytes - at) piece -= (address + at + piece) % alignBytes;
      if (piece <= 0 && bytes > at) {
        open();
        continue;
      }
      add(address + at, piece, owner);
      at += piece;
    } while (at < bytes);
  });
  return batches;
}
