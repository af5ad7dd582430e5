/**
 * The pages of one epoch, each with its last version: filled from records in any order, read back in ascending order. Memory
 * is taken in chunks as pages come, and used again for the next epoch.
 */
import { assert } from "../base/index.ts";
import type { PageBatch } from "../codec/index.ts";
import {
  pageBytes,
  pageOfWord,
  pageRecordBytes,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../qemu/stream/index.ts";
import { recordBytesAt } from "./decode.ts";
import { traceBatchBytesMax } from "./format.ts";

const chunkPages = 256;
/** What a page's entry in a map takes, a page of zeros too. */
const entryBytes = 48;
/** In place of a slot. */
const zeroPage = -1;

export class EpochPages {
  /** By block: page → slot in the chunks, or `zeroPage`. */
  readonly #slots = new Map<number, Map<number, number>>();
  readonly #chunks: Uint8Array[] = [];
  #slotCount = 0;
  #count = 0;

  /** Distinct pages. */
  get count(): number {
    return this.#count;
  }

  /** What the pages of this epoch take. */
  get bytes(): number {
    return this.#slotCount * pageBytes + this.#count * entryBytes;
  }

  /** Takes a run of sound records. */
  put(block: number, bytes: Uint8Array, from: number, to: number): void {
    const slots = this.#slots.get(block) ?? new Map<number, number>();
    this.#slots.set(block, slots);
    const view = viewOf(bytes);
    for (let at = from; at < to; ) {
      const length = recordBytesAt(view, at);
      const page = pageOfWord(view, at);
      const known = slots.get(page);
      if (known === undefined) this.#count++;
      if (length === pageRecordBytes) {
        const slot = known === undefined || known === zeroPage ? this.#slotCount++ : known;
        this.#write(slot, bytes, at + 8);
        slots.set(page, slot);
        // The slot that a page gives up by becoming zero is lost until the epoch ends.
      } else slots.set(page, zeroPage);
      at += length;
    }
    assert(bytes.length >= to, "records lie in their memory");
  }

  /** In ascending order of block and page; each batch in memory of its own. */
  *batches(): Generator<PageBatch> {
    for (const block of [...this.#slots.keys()].toSorted((a, b) => a - b)) {
      const slots = this.#slots.get(block) as Map<number, number>;
      const writer = new BatchWriter(block);
      for (const page of Float64Array.from(slots.keys()).toSorted()) {
        const slot = slots.get(page) as number;
        if (slot === zeroPage) writer.zero(page);
        else writer.page(page, this.#read(slot));
        if (writer.isFull) yield writer.take();
      }
      if (!writer.isEmpty) yield writer.take();
    }
  }

  clear(): void {
    for (const slots of this.#slots.values()) slots.clear();
    this.#slotCount = 0;
    this.#count = 0;
  }

  #read(slot: number): Uint8Array {
    const chunk = this.#chunks[Math.floor(slot / chunkPages)] as Uint8Array;
    const at = (slot % chunkPages) * pageBytes;
    return chunk.subarray(at, at + pageBytes);
  }

  #write(slot: number, bytes: Uint8Array, at: number): void {
    const index = Math.floor(slot / chunkPages);
    this.#chunks[index] ??= Buffer.allocUnsafeSlow(chunkPages * pageBytes);
    this.#chunks[index].set(bytes.subarray(at, at + pageBytes), (slot % chunkPages) * pageBytes);
  }
}

/** Collects records of one block until they make a batch. */
export class BatchWriter {
  readonly #block: number;
  #bytes = Buffer.allocUnsafeSlow(traceBatchBytesMax);
  #at = 0;
  #pageCount = 0;
  #zeroCount = 0;

  constructor(block: number) {
    this.#block = block;
  }

  get isEmpty(): boolean {
    return this.#at === 0;
  }

  /** True when another page might not fit. */
  get isFull(): boolean {
    return this.#at + pageRecordBytes > traceBatchBytesMax;
  }

  page(page: number, content: Uint8Array): void {
    writePageWord(viewOf(this.#bytes), this.#at, page);
    this.#bytes.set(content, this.#at + 8);
    this.#at += pageRecordBytes;
    this.#pageCount++;
  }

  zero(page: number): void {
    writeZeroRecord(viewOf(this.#bytes), this.#at, page);
    this.#at += zeroRecordBytes;
    this.#zeroCount++;
  }

  /** A whole record as it is. */
  record(bytes: Uint8Array, from: number, to: number): void {
    this.#bytes.set(bytes.subarray(from, to), this.#at);
    this.#at += to - from;
    if (to - from === pageRecordBytes) this.#pageCount++;
    else this.#zeroCount++;
  }

  /** The batch in memory of its own; collecting begins anew. */
  take(): PageBatch {
    const bytes = this.#at;
    const piece = new Uint8Array(this.#bytes.subarray(0, bytes));
    const [pageCount, zeroCount] = [this.#pageCount, this.#zeroCount];
    this.#at = 0;
    this.#pageCount = 0;
    this.#zeroCount = 0;
    return { block: this.#block, pieces: [piece], bytes, pageCount, zeroCount };
  }
}

/** Of a run of sound records. */
export function countRecords(bytes: Uint8Array): { pageCount: number; zeroCount: number } {
  const view = viewOf(bytes);
  let pageCount = 0;
  let zeroCount = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = recordBytesAt(view, at);
    if (length === pageRecordBytes) pageCount++;
    else zeroCount++;
    at += length;
  }
  return { pageCount, zeroCount };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
