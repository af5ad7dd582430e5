/**
 * Batches as a sender makes them, whatever pieces a trace was recorded in: a recording that keeps a sample of the pages has
 * batches of two or three, on which no method is what it is in life.
 */
import type { PageBatch } from "../codec/index.ts";
import type { TraceBatch } from "../trace/index.ts";

/** As the migration's own (batchBytesTarget in src/migrate/wire/format.ts). */
export const batchBytesTarget = 256 << 10;

/** Joins neighbours of one epoch and block up to `batchBytesTarget`; none is split. Copies nothing. */
export async function* rebatched(batches: AsyncIterable<TraceBatch>): AsyncGenerator<TraceBatch> {
  let open: TraceBatch | undefined;
  for await (const next of batches) {
    if (open !== undefined && !fits(open, next)) {
      yield open;
      open = undefined;
    }
    open = open === undefined ? next : { ...next, batch: joined(open.batch, next.batch) };
  }
  if (open !== undefined) yield open;
}

function fits(a: TraceBatch, b: TraceBatch): boolean {
  if (a.epoch !== b.epoch || a.batch.block !== b.batch.block) return false;
  return a.batch.bytes + b.batch.bytes <= batchBytesTarget;
}

function joined(a: PageBatch, b: PageBatch): PageBatch {
  return {
    block: a.block,
    pieces: [...a.pieces, ...b.pieces],
    bytes: a.bytes + b.bytes,
    pageCount: a.pageCount + b.pageCount,
    zeroCount: a.zeroCount + b.zeroCount,
  };
}
