/**
 * Pages that several VMs with one sink have in common. Every encoder of the source process has the same object, and so has
 * every decoder of the sink. The encoders decide what lies where, and say so; a page is referred to by its 128-bit hash, which
 * the decoder looks up, and computes again from what it found.
 *
 * This works while the sink decodes batches in the order in which the source encoded them, over all VMs. A batch that refers
 * to a page that is not there is refused; nothing wrong is ever decoded. The oldest page makes room for a new one.
 */
import { randomInt } from "node:crypto";
import { assert } from "../../base/index.ts";
import { type KernelHost, layout } from "../kernels/index.ts";
import { powerOfTwoFrom, type Workspace } from "./workspace.ts";

const { pageBytes } = layout;
/** Memory comes in steps of so many pages. */
const chunkPages = 256;
const hashWords = 4;
const tableBytesPerPage = hashWords * 4 + 8 + 16 + 16;

export class SharedPages {
  readonly pageCountMax: number;
  readonly #chunks: Uint8Array[] = [];
  /** Of each slot: its hash and its sketch. */
  readonly #hashes: Uint32Array;
  readonly #sketches: Uint32Array;
  readonly #isUsed: Uint8Array;
  /** Slot plus one by hash (open addressing), and by a number of a sketch (only a hint). */
  readonly #table: Uint32Array;
  readonly #hints: Uint32Array;
  #high = 0;
  #oldest = 0;
  /** Goes into every body, so that a sink notices that it knows other pages. 0: not known yet. */
  #generation: number;

  /** `memoryBytes`: bound of all of it; it grows as pages come. */
  constructor(memoryBytes: number) {
    this.pageCountMax = Math.max(1, Math.floor(memoryBytes / (pageBytes + tableBytesPerPage)));
    this.#hashes = new Uint32Array(this.pageCountMax * hashWords);
    this.#sketches = new Uint32Array(this.pageCountMax * hashWords);
    this.#isUsed = new Uint8Array(this.pageCountMax);
    this.#table = new Uint32Array(powerOfTwoFrom(this.pageCountMax * 2));
    this.#hints = new Uint32Array(powerOfTwoFrom(this.pageCountMax * 4));
    this.#generation = randomInt(1, 2 ** 32);
  }

  get generation(): number {
    return this.#generation;
  }

  get memoryBytes(): number {
    const tables = this.#hashes.length * 2 + this.#table.length + this.#hints.length;
    return this.#chunks.length * chunkPages * pageBytes + 4 * tables + this.#isUsed.length;
  }

  /** Forgets all pages. To be called together with `reset` of every encoder when the sink may have lost its own. */
  reset(generation: number = (this.#generation % (2 ** 32 - 1)) + 1): void {
    this.#generation = generation;
    this.#table.fill(0);
    this.#hints.fill(0);
    this.#isUsed.fill(0);
    this.#high = 0;
    this.#oldest = 0;
  }

  /** What kernels of `workspace` call. `stored` hears which slots an encoder filled. */
  host(workspace: Workspace, stored: number[]): KernelHost {
    const { bytes } = workspace;
    const hash = new Uint32Array(bytes.buffer, layout.hashAt, hashWords);
    const sketch = new Uint32Array(bytes.buffer, layout.sketchAt, hashWords);
    const pageAt = (at: number): Uint8Array => bytes.subarray(at, at + pageBytes);
    return {
      sharedFind: (page) => {
        const slot = this.#find(hash);
        return slot >= 0 && Buffer.compare(this.#page(slot), pageAt(page)) === 0 ? 1 : 0;
      },
      sharedSimilar: () => {
        const slot = this.#similar(sketch);
        if (slot < 0) return 0;
        bytes.set(this.#page(slot), layout.sharedPageAt);
        hash.set(this.#hashes.subarray(slot * hashWords, (slot + 1) * hashWords));
        return 1;
      },
      sharedStore: (page) => {
        // Another page with this hash: the decoder could not tell them apart.
        if (this.#find(hash) >= 0) return 0;
        const slot = this.#next();
        this.#put(slot, hash, pageAt(page));
        this.#sketches.set(sketch, slot * hashWords);
        for (const [i, feature] of sketch.entries()) {
          this.#hints[this.#hintOf(feature, i)] = slot + 1;
        }
        stored.push(slot);
        return slot + 1;
      },
      sharedLoad: (to) => {
        const slot = this.#find(hash);
        if (slot < 0) return 0;
        bytes.set(this.#page(slot), to);
        return 1;
      },
      sharedKeep: (page, slot) => {
        if (slot > this.#high || slot >= this.pageCountMax) return 0;
        // The encoder may have let go of it in a batch that it did not send.
        const known = this.#find(hash);
        if (known >= 0) this.#remove(known);
        this.#high = Math.max(this.#high, slot + 1);
        this.#put(slot, hash, pageAt(page));
        return 1;
      },
    };
  }

  /** Takes back what a batch stored that will not be sent. */
  drop(stored: readonly number[]): void {
    for (const slot of stored.toReversed()) {
      this.#remove(slot);
      // The decoder expects new slots one after another.
      if (slot === this.#high - 1) this.#high--;
    }
  }

  #next(): number {
    if (this.#high < this.pageCountMax) return this.#high++;
    const slot = this.#oldest;
    this.#oldest = (slot + 1) % this.pageCountMax;
    return slot;
  }

  #page(slot: number): Uint8Array {
    const chunk = this.#chunks[Math.floor(slot / chunkPages)];
    assert(chunk !== undefined, "a used slot has memory");
    const from = (slot % chunkPages) * pageBytes;
    return chunk.subarray(from, from + pageBytes);
  }

  #put(slot: number, hash: Uint32Array, page: Uint8Array): void {
    if (this.#isUsed[slot] === 1) this.#remove(slot);
    while (this.#chunks.length <= slot / chunkPages) {
      this.#chunks.push(Buffer.allocUnsafeSlow(chunkPages * pageBytes));
    }
    this.#page(slot).set(page);
    this.#hashes.set(hash, slot * hashWords);
    this.#isUsed[slot] = 1;
    const mask = this.#table.length - 1;
    let i = (hash[0] as number) & mask;
    while (this.#table[i] !== 0) i = (i + 1) & mask;
    this.#table[i] = slot + 1;
  }

  #find(hash: Uint32Array): number {
    const mask = this.#table.length - 1;
    for (let i = (hash[0] as number) & mask; ; i = (i + 1) & mask) {
      const entry = this.#table[i] as number;
      if (entry === 0) return -1;
      const at = (entry - 1) * hashWords;
      if (
        this.#hashes[at] === hash[0] &&
        this.#hashes[at + 1] === hash[1] &&
        this.#hashes[at + 2] === hash[2] &&
        this.#hashes[at + 3] === hash[3]
      ) {
        return entry - 1;
      }
    }
  }

  /** Moves what follows back, so that no gap cuts a search short. */
  #remove(slot: number): void {
    const mask = this.#table.length - 1;
    const home = (entry: number): number =>
      (this.#hashes[(entry - 1) * hashWords] as number) & mask;
    let gap = home(slot + 1);
    while (this.#table[gap] !== slot + 1) gap = (gap + 1) & mask;
    for (let i = (gap + 1) & mask; this.#table[i] !== 0; i = (i + 1) & mask) {
      const entry = this.#table[i] as number;
      if (((i - home(entry)) & mask) < ((i - gap) & mask)) continue;
      this.#table[gap] = entry;
      gap = i;
    }
    this.#table[gap] = 0;
    this.#isUsed[slot] = 0;
  }

  #hintOf(feature: number, i: number): number {
    return (feature * 4 + i) & (this.#hints.length - 1);
  }

  /** The page with most of the sketch in common, at least one number of it. */
  #similar(sketch: Uint32Array): number {
    let best = -1;
    let bestCount = 0;
    for (let i = 0; i < hashWords; i++) {
      const slot = (this.#hints[this.#hintOf(sketch[i] as number, i)] as number) - 1;
      if (slot < 0 || slot === best || this.#isUsed[slot] === 0) continue;
      let count = 0;
      for (let j = 0; j < hashWords; j++) {
        if (this.#sketches[slot * hashWords + j] === sketch[j]) count++;
      }
      if (count > bestCount) [best, bestCount] = [slot, count];
    }
    return best;
  }
}

/** For codecs that share nothing. */
export const noSharedPages: KernelHost = {
  sharedFind: () => 0,
  sharedSimilar: () => 0,
  sharedStore: () => 0,
  sharedLoad: () => 0,
  sharedKeep: () => 0,
};
