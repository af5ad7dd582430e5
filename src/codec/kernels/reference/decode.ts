/** Streams become records again; nothing in them is trusted. */
import type { KernelHost } from "../kernels.ts";
import { layout } from "../layout.ts";
import type { PlainDelta } from "./delta.ts";
import { keptPagesMax } from "./encode.ts";
import type { PlainHash } from "./hash.ts";
import { bitCount, type PlainMemory, unzigzag } from "./memory.ts";

/** Numbers of streams. */
const [kinds, pages, slots, tops, masks, words, refs, raws] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const pagesMax = 2 ** 52;

export class PlainDecode {
  readonly #memory: PlainMemory;
  readonly #delta: PlainDelta;
  readonly #hash: PlainHash;
  readonly #host: KernelHost;
  /** Where each stream is read, and where it ends. */
  readonly #at = Array.from({ length: 8 }, () => 0);
  readonly #ends = Array.from({ length: 8 }, () => 0);
  #lastSlot = 0;
  #lastPage = 0;
  /** What the last `readSlot` read. */
  #slot = 0;

  constructor(memory: PlainMemory, delta: PlainDelta, hash: PlainHash, host: KernelHost) {
    this.#memory = memory;
    this.#delta = delta;
    this.#hash = hash;
    this.#host = host;
  }

  decode(outAt: number, bytes: number, block: number, seed: number): number {
    const memory = this.#memory;
    this.#begin();
    this.#hash.begin(seed);
    const end = outAt + bytes;
    let out = outAt;
    let page = 0;
    while (this.#left(kinds) > 0) {
      const token = memory.byte(this.#take(kinds, 1));
      const kind = token & 15;
      let length = (token >> 4) + 1;
      if (length === 16) {
        if (!this.#readVarint(kinds)) return layout.badLength;
        length += memory.varint;
      }
      if (!this.#readVarint(pages)) return layout.badLength;
      page += unzigzag(memory.varint);
      const each = kind === layout.kindZero ? layout.zeroRecordBytes : layout.pageRecordBytes;
      if (length > Math.floor((end - out) / each)) return layout.badLength;
      if (page < 0 || page + length > pagesMax) return layout.badPage;
      memory.add(layout.counts + kind, length);
      for (; length > 0; length--, page++, out += each) {
        memory.view.setUint32(out, Math.floor(page / 0x100000));
        const flags = kind === layout.kindZero ? 0x22 : 0x28;
        memory.view.setUint32(out + 4, ((page % 0x100000) * 0x1000 + flags) >>> 0);
        if (kind === layout.kindZero) memory.bytes[out + 8] = 0;
        else {
          const fault = this.#page(kind, out + 8, block, page);
          if (fault !== layout.ok) return fault;
          this.#hash.sum(out + 8);
          this.#hash.sums();
        }
      }
    }
    if (out !== end) return layout.badLength;
    return this.#at.every((at, i) => at === this.#ends[i]) ? layout.ok : layout.badRest;
  }

  #begin(): void {
    const memory = this.#memory;
    memory.control.fill(0, layout.counts, layout.counts + layout.countCount);
    let at = layout.bodyAt + layout.headerBytes;
    for (let i = 0; i < 8; i++) {
      this.#at[i] = at;
      at += memory.get(layout.lengths + i);
      this.#ends[i] = at;
    }
    this.#lastSlot = 0;
    this.#lastPage = 0;
  }

  #left(stream: number): number {
    return (this.#ends[stream] as number) - (this.#at[stream] as number);
  }

  /** The caller has checked that there are so many. */
  #take(stream: number, bytes: number): number {
    const at = this.#at[stream] as number;
    this.#at[stream] = at + bytes;
    return at;
  }

  #readVarint(stream: number): boolean {
    const at = this.#memory.readVarint(this.#at[stream] as number, this.#ends[stream] as number);
    if (at > 0) this.#at[stream] = at;
    return at > 0;
  }

  #readSlot(page: number): boolean {
    const memory = this.#memory;
    if (!this.#readVarint(slots)) return false;
    const value = this.#lastSlot + (page - this.#lastPage) + unzigzag(memory.varint);
    const high = memory.get(layout.high);
    if (value < 0 || value > high || value >= memory.get(layout.slotCount)) return false;
    this.#lastSlot = value;
    this.#lastPage = page;
    this.#slot = value;
    return true;
  }

  #readMask(): boolean {
    const memory = this.#memory;
    if (this.#left(tops) < 8) return false;
    const top = this.#take(tops, 8);
    let count = 0;
    for (let i = 0; i < 8; i++) count += bitCount(memory.byte(top + i));
    if (this.#left(masks) < count) return false;
    for (let i = 0; i < 64; i++) {
      const has = (memory.byte(top + (i >> 3)) >> (i & 7)) & 1;
      memory.bytes[layout.maskAt + i] = has === 1 ? memory.byte(this.#take(masks, 1)) : 0;
    }
    return this.#delta.maskCount() * 8 <= this.#left(words);
  }

  #slotAt(slot: number): number {
    return this.#memory.get(layout.historyAt) + slot * layout.pageBytes;
  }

  /** The two halves of a key, as they lie in the table of keys. */
  #keyAt(slot: number): number {
    return this.#memory.get(layout.keysAt) + 8 * slot;
  }

  #page(kind: number, out: number, block: number, page: number): number {
    const memory = this.#memory;
    if (kind === layout.kindZeroFull) {
      memory.bytes.fill(0, out, out + layout.pageBytes);
      return layout.ok;
    }
    const low = page % 2 ** 32;
    const high = block * 0x10000 + Math.floor(page / 2 ** 32);
    if (kind === layout.kindSame || kind === layout.kindDelta) {
      if (!this.#readSlot(page)) return layout.badSlot;
      if (this.#slot >= memory.get(layout.high) || page >= keptPagesMax) return layout.badSlot;
      const key = this.#keyAt(this.#slot);
      if (memory.u32(key) !== low || memory.u32(key + 4) !== high) return layout.badKey;
      const old = this.#slotAt(this.#slot);
      if (kind === layout.kindDelta) return this.#ownDelta(old, out);
      memory.copyPage(out, old);
      return layout.ok;
    }
    const fault = this.#other(kind & 14, out, page);
    if (fault !== layout.ok || (kind & 1) === 0) return fault;
    if (!this.#readSlot(page) || page >= keptPagesMax) return layout.badSlot;
    if (this.#slot === memory.get(layout.high)) memory.set(layout.high, this.#slot + 1);
    memory.setU32(this.#keyAt(this.#slot), low);
    memory.setU32(this.#keyAt(this.#slot) + 4, high);
    memory.copyPage(this.#slotAt(this.#slot), out);
    return layout.ok;
  }

  #ownDelta(old: number, out: number): number {
    const memory = this.#memory;
    if ((memory.get(layout.methods) & layout.useXbzrle) === 0) return this.#words(old, out, true);
    memory.copyPage(out, old);
    const [runsStop, bytesStop] = [this.#ends[masks] as number, this.#ends[words] as number];
    const [runs, bytes] = [this.#at[masks] as number, this.#at[words] as number];
    if (!this.#delta.applyRuns(out, runs, runsStop, bytes, bytesStop)) return layout.badMask;
    this.#at[masks] = this.#delta.runsEnd;
    this.#at[words] = this.#delta.bytesEnd;
    memory.copyPage(old, out);
    return layout.ok;
  }

  #words(base: number, out: number, update: boolean): number {
    if (!this.#readMask()) return layout.badMask;
    this.#at[words] = this.#delta.applyWords(base, out, this.#at[words] as number, update);
    return layout.ok;
  }

  #other(kind: number, out: number, page: number): number {
    const memory = this.#memory;
    switch (kind) {
      case layout.kindRaw:
        return this.#raw(out);
      case layout.kindSparse:
        return this.#words(layout.zeroPageAt, out, false);
      case layout.kindCopy:
      case layout.kindSimilar: {
        if (!this.#readSlot(page) || this.#slot >= memory.get(layout.high)) return layout.badSlot;
        const base = this.#slotAt(this.#slot);
        if (kind === layout.kindSimilar) return this.#words(base, out, false);
        memory.copyPage(out, base);
        return layout.ok;
      }
      default:
        if (!this.#sharedPage(out)) return layout.badShared;
        return kind === layout.kindShared ? layout.ok : this.#words(out, out, false);
    }
  }

  #sharedPage(out: number): boolean {
    const memory = this.#memory;
    if (!this.#isShared || this.#left(refs) < 16) return false;
    const ref = this.#take(refs, 16);
    memory.copy(layout.hashAt, ref, 16);
    if (this.#host.sharedLoad(out) === 0) return false;
    this.#hash.page(out);
    return [0, 4, 8, 12].every((i) => memory.u32(layout.hashAt + i) === memory.u32(ref + i));
  }

  get #isShared(): boolean {
    return (this.#memory.get(layout.methods) & layout.useShared) !== 0;
  }

  #raw(out: number): number {
    const memory = this.#memory;
    if (this.#left(raws) < layout.pageBytes) return layout.badLength;
    memory.copyPage(out, this.#take(raws, layout.pageBytes));
    if (!this.#isShared) return layout.ok;
    if (!this.#readVarint(refs)) return layout.badShared;
    const { varint } = memory;
    if (varint === 0) return layout.ok;
    this.#hash.page(out);
    return varint < 2 ** 32 && this.#host.sharedKeep(out, varint - 1) !== 0
      ? layout.ok
      : layout.badShared;
  }
}
