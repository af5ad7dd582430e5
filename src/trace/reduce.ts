/** Makes a smaller trace of a trace: fewer pages of the base, a sample of the pages. Two passes, in memory for page numbers. */
import { crc32, crc32c } from "@node-rs/crc32";
import { GodwitError } from "../base/index.ts";
import { pageOfWord, pageRecordBytes } from "../qemu/stream/index.ts";
import { TraceFile, type TraceFileOptions } from "./create.ts";
import { recordBytesAt } from "./decode.ts";
import { BatchWriter } from "./epoch-pages.ts";
import type { TraceBatch, TraceHeader } from "./format.ts";
import { readTraceFrames, readTraceHeader } from "./open.ts";
import { keepsContent, keepsPage } from "./sample.ts";

export interface ReduceOptions extends TraceFileOptions {
  readonly base: TraceHeader["base"];
  /** One of so many pages of the later epochs; 1: all. */
  readonly pages: number;
  /** One of so many pages of the base that no later epoch writes; 0: none. */
  readonly basePages: number;
  /** Leave out of later epochs what a page held before. */
  readonly changedOnly?: boolean;
  readonly note?: string;
  readonly signal?: AbortSignal | undefined;
  /** How much of the second pass, which takes most of the time, is done: 0 to 1. Often. */
  readonly onProgress?: ((doneShare: number) => void) | undefined;
}

/** Page numbers by block. */
type PageSets = Map<number, Set<number>>;

interface Found {
  /** Written in a later epoch. */
  readonly touched: PageSets;
  /** Of the base's second sweep: what the first has of them counts no more. */
  readonly secondSweep: PageSets;
  /** Records, in bytes. */
  readonly rawBytes: number;
}

/** Writes `to` from what is kept of `from`. Fails as reading and writing do, or with CANCELLED; then there is no `to`. */
export async function reduceTrace(from: string, to: string, options: ReduceOptions): Promise<void> {
  const { base, pages, basePages, changedOnly = false, note, level = 12, windowLog } = options;
  const header = await readTraceHeader(from);
  const found = await findPages(from, options.signal);
  let doneBytes = 0;
  const isWhole = pages === 1 && base !== "touched";
  const reduced: TraceHeader = {
    ...header,
    base,
    ...(isWhole ? {} : { sampled: { pages, base: basePages } }),
    ...(changedOnly ? { changedOnly } : {}),
    note: note ?? header.note,
  };
  const file = await TraceFile.create(
    to,
    reduced,
    windowLog === undefined ? { level } : { level, windowLog },
  );
  try {
    const sweep = new SweepFinder();
    const versions = new Versions();
    for await (const frame of readTraceFrames(from)) {
      throwIfCancelled(options.signal);
      if (frame.type === "batch") {
        doneBytes += frame.batch.bytes;
        options.onProgress?.(doneBytes / found.rawBytes);
        const { block } = frame.batch;
        const isFirstSweep = frame.epoch === 0 && !sweep.isSecond(frame);
        keepBatch(file, frame, (page, content) => {
          const isChanged = !changedOnly || versions.replace(block, page, content);
          if (frame.epoch > 0) return isChanged && keepsPage(block, page, pages);
          if (isFirstSweep && has(found.secondSweep, block, page)) return false;
          return keepsBasePage(found, options, block, page, content);
        });
        await file.drained();
      } else if (frame.type === "epoch") file.endEpoch(frame.atMs, frame.dirtyCount);
    }
    throwIfCancelled(options.signal);
    await file.close();
  } finally {
    await file.abandon();
  }
}

function keepsBasePage(
  { touched }: Found,
  { base, pages, basePages }: ReduceOptions,
  block: number,
  page: number,
  content: Uint8Array | undefined,
): boolean {
  if (base === "none") return false;
  if (has(touched, block, page) && keepsPage(block, page, pages)) return true;
  if (base === "full" && pages === 1) return true;
  if (basePages === 0) return false;
  // Zero pages are all the same: they are chosen by their place.
  return content === undefined
    ? keepsPage(block, page, basePages)
    : keepsContent(content, basePages);
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true)
    throw new GodwitError("CANCELLED", "making it smaller was cancelled");
}

async function findPages(path: string, signal: AbortSignal | undefined): Promise<Found> {
  const touched: PageSets = new Map();
  const secondSweep: PageSets = new Map();
  const sweep = new SweepFinder();
  let rawBytes = 0;
  for await (const frame of readTraceFrames(path)) {
    throwIfCancelled(signal);
    if (frame.type !== "batch") continue;
    const { epoch, batch } = frame;
    rawBytes += batch.bytes;
    if (epoch === 0 && !sweep.isSecond(frame)) continue;
    const sets = epoch === 0 ? secondSweep : touched;
    const set = sets.get(batch.block) ?? new Set<number>();
    sets.set(batch.block, set);
    eachRecord(frame, (page) => void set.add(page));
  }
  return { touched, secondSweep, rawBytes };
}

/** What each page held last, as a hash of 53 bits. */
class Versions {
  readonly #hashes = new Map<number, Map<number, number>>();

  /** Answers whether it held something else, or nothing is known of it. */
  replace(block: number, page: number, content: Uint8Array | undefined): boolean {
    const hashes = this.#hashes.get(block) ?? new Map<number, number>();
    this.#hashes.set(block, hashes);
    // Together below 2^53: a number, not an object for each page.
    const hash =
      content === undefined ? 0 : crc32c(content) * 2 ** 21 + (crc32(content) >>> 11) + 1;
    const isSame = hashes.get(page) === hash;
    hashes.set(page, hash);
    return !isSame;
  }
}

/** Of the base's batches: whether pages come for the second time. */
class SweepFinder {
  #block = -1;
  #page = -1;
  #second = false;

  isSecond(frame: TraceBatch): boolean {
    const { block } = frame.batch;
    let first = -1;
    let last = -1;
    eachRecord(frame, (page) => {
      if (first === -1) first = page;
      last = page;
    });
    const ascends = block > this.#block || (block === this.#block && first > this.#page);
    if (!ascends) this.#second = true;
    this.#block = block;
    this.#page = last;
    return this.#second;
  }
}

/** `content` is undefined for a zero page. */
type Keep = (page: number, content: Uint8Array | undefined) => boolean;

function keepBatch(file: TraceFile, frame: TraceBatch, keep: Keep): void {
  const writer = new BatchWriter(frame.batch.block);
  eachRecord(frame, (page, bytes, at, length) => {
    const content = length === pageRecordBytes ? bytes.subarray(at + 8, at + length) : undefined;
    if (keep(page, content)) writer.record(bytes, at, at + length);
  });
  if (!writer.isEmpty) file.batch(frame.atMs, writer.take());
}

function eachRecord(
  { batch }: TraceBatch,
  each: (page: number, bytes: Uint8Array, at: number, length: number) => void,
): void {
  for (const bytes of batch.pieces) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; ) {
      const length = recordBytesAt(view, at);
      each(pageOfWord(view, at), bytes, at, length);
      at += length;
    }
  }
}

function has(sets: PageSets, block: number, page: number): boolean {
  return sets.get(block)?.has(page) === true;
}
