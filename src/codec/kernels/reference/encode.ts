/** A batch of records becomes streams; the history follows. */
import type { KernelHost } from "../kernels.ts";
import { layout } from "../layout.ts";
import type { PlainDelta } from "./delta.ts";
import type { PlainHash } from "./hash.ts";
import type { PlainHistory } from "./history.ts";
import { none, type PlainMemory, zigzag } from "./memory.ts";

const streamsAt = [
  layout.kindsAt,
  layout.pagesAt,
  layout.slotsAt,
  layout.topsAt,
  layout.masksAt,
  layout.wordsAt,
  layout.refsAt,
  layout.rawsAt,
] as const;
/** Numbers of streams. */
const [kinds, pages, slots, tops, masks, words, refs, raws] = [0, 1, 2, 3, 4, 5, 6, 7] as const;

/** Pages from here on are not kept. */
export const keptPagesMax = 2 ** 48 - 1;

/** So few changed words that another candidate would gain little. */
const nearWords = 32;

export class PlainEncode {
  readonly #memory: PlainMemory;
  readonly #delta: PlainDelta;
  readonly #hash: PlainHash;
  readonly #history: PlainHistory;
  readonly #host: KernelHost;
  /** Ends of the streams. */
  #ends: number[] = [];
  #methods = 0;
  #lastSlot = 0;
  #lastPage = 0;
  /** Slot of the page at hand, if it may not be a base. */
  #barred = none;

  constructor(
    memory: PlainMemory,
    delta: PlainDelta,
    hash: PlainHash,
    history: PlainHistory,
    host: KernelHost,
  ) {
    this.#memory = memory;
    this.#delta = delta;
    this.#hash = hash;
    this.#history = history;
    this.#host = host;
  }

  encode(input: number, bytes: number, block: number, seed: number): number {
    const memory = this.#memory;
    this.#begin();
    this.#hash.begin(seed);
    const end = input + bytes;
    let expected = 0;
    let runKind: number = none;
    let runLength = 0;
    let records = 0;
    for (let at = input; at < end; records++) {
      if (end - at < layout.zeroRecordBytes) return layout.badRecord;
      const page = memory.page(at);
      const flags = memory.view.getUint32(at + 4) & 0xfff;
      let kind: number = layout.kindZero;
      if (flags === 0x28) {
        if (end - at < layout.pageRecordBytes) return layout.badRecord;
        if (this.#end(raws) - layout.rawsAt >= 128 * 4096) return layout.badLength;
        this.#hash.sum(at + 8);
        this.#hash.sums();
        kind = this.#page(at + 8, block, page);
        at += layout.pageRecordBytes;
      } else {
        if (flags !== 0x22 || memory.byte(at + 8) !== 0) return layout.badRecord;
        at += layout.zeroRecordBytes;
      }
      memory.add(layout.counts + kind, 1);
      if (kind === runKind && page === expected) runLength++;
      else {
        this.#writeRun(runKind, runLength);
        runKind = kind;
        runLength = 1;
        this.#writeVarint(pages, zigzag(page - expected));
      }
      expected = page + 1;
    }
    this.#writeRun(runKind, runLength);
    memory.set(layout.records, records);
    this.#join();
    return layout.ok;
  }

  #begin(): void {
    const memory = this.#memory;
    memory.control.fill(0, layout.counts, layout.counts + layout.countCount);
    memory.set(layout.touched, 0);
    memory.set(layout.highBefore, memory.get(layout.high));
    this.#history.begin();
    this.#ends = [...streamsAt];
    this.#methods = memory.get(layout.methods);
    this.#lastSlot = 0;
    this.#lastPage = 0;
  }

  #end(stream: number): number {
    return this.#ends[stream] as number;
  }

  #writeByte(stream: number, byte: number): void {
    const at = this.#end(stream);
    this.#memory.bytes[at] = byte;
    this.#ends[stream] = at + 1;
  }

  #writeVarint(stream: number, value: number): void {
    this.#ends[stream] = this.#memory.writeVarint(this.#end(stream), value);
  }

  #writeRun(kind: number, length: number): void {
    if (length === 0) return;
    const short = Math.min(length - 1, 15);
    this.#writeByte(kinds, kind | (short << 4));
    if (short === 15) this.#writeVarint(kinds, length - 16);
  }

  #join(): void {
    const memory = this.#memory;
    const lengths = streamsAt.map((from, i) => this.#end(i) - from);
    const small = lengths.slice(0, raws).reduce((sum, one) => sum + one, 0);
    let to = layout.rawsAt - small;
    memory.set(layout.streamsAt, to - layout.headerBytes);
    for (const [i, length] of lengths.entries()) {
      memory.set(layout.lengths + i, length);
      if (i < raws) memory.copy(to, streamsAt[i] as number, length);
      to += length;
    }
  }

  #writeSlot(slot: number, page: number): void {
    this.#writeVarint(slots, zigzag(slot - this.#lastSlot - (page - this.#lastPage)));
    this.#lastSlot = slot;
    this.#lastPage = page;
  }

  #writeMask(): void {
    for (let i = 0; i < 64; i += 8) {
      let top = 0;
      for (let j = 0; j < 8; j++) {
        const byte = this.#memory.byte(layout.maskAt + i + j);
        if (byte === 0) continue;
        top |= 1 << j;
        this.#writeByte(masks, byte);
      }
      this.#writeByte(tops, top);
    }
  }

  #uses(method: number): boolean {
    return (this.#methods & method) !== 0;
  }

  #slotAt(slot: number): number {
    return this.#memory.get(layout.historyAt) + slot * layout.pageBytes;
  }

  #mark(slot: number): void {
    this.#memory.bytes[this.#memory.get(layout.marksAt) + slot] =
      layout.markUsed | layout.markValued;
  }

  #page(at: number, block: number, page: number): number {
    const memory = this.#memory;
    if (memory.isZero(at)) return layout.kindZeroFull;
    let slot: number = none;
    this.#barred = none;
    if (memory.get(layout.slotCount) > 0 && page < keptPagesMax) {
      slot = this.#history.find(block, page);
      const isHit = slot !== none;
      memory.add(layout.counts + (isHit ? layout.countHits : layout.countMisses), 1);
      if (!isHit) slot = this.#history.admit(block, page);
      if (slot !== none) this.#history.touch(slot);
      if (isHit) this.#mark(slot);
      if (!isHit || this.#uses(layout.useDelta)) this.#barred = slot;
      if (isHit && this.#uses(layout.useDelta)) {
        const kind = this.#ownDelta(at, this.#slotAt(slot));
        if (kind !== layout.kindRaw) {
          this.#writeSlot(slot, page);
          return kind;
        }
      }
    }
    const kind = this.#other(at, slot, page);
    if (slot === none) return kind;
    this.#writeSlot(slot, page);
    memory.copyPage(this.#slotAt(slot), at);
    return kind | 1;
  }

  #ownDelta(at: number, old: number): number {
    const wordsMax = this.#memory.get(layout.deltaWordsMax);
    const wordsAt = this.#end(words);
    if (this.#uses(layout.useXbzrle)) {
      const bytes = this.#delta.runs(at, old, this.#end(masks), wordsAt, wordsMax * 8);
      if (bytes === 0) return layout.kindSame;
      if (bytes > wordsMax * 8) return layout.kindRaw;
      this.#ends[masks] = this.#delta.runsEnd;
      this.#ends[words] = this.#delta.bytesEnd;
      return layout.kindDelta;
    }
    const count = this.#delta.words(at, old, wordsAt, wordsMax, true);
    if (count === 0) return layout.kindSame;
    return this.#takeWords(count, wordsMax) ? layout.kindDelta : layout.kindRaw;
  }

  /** The words just written, and their mask, are part of the batch, unless they are too many. */
  #takeWords(count: number, wordsMax: number): boolean {
    if (count > wordsMax) return false;
    this.#writeMask();
    this.#ends[words] = this.#end(words) + 8 * count;
    return true;
  }

  #other(at: number, own: number, page: number): number {
    const memory = this.#memory;
    if (this.#uses(layout.useSparse)) {
      const most = memory.get(layout.similarWordsMax) >>> 1;
      const count = this.#delta.words(at, layout.zeroPageAt, this.#end(words), most, false);
      if (this.#takeWords(count, most)) return layout.kindSparse;
    }
    if (this.#uses(layout.useCopies | layout.useShared)) {
      if (this.#uses(layout.useShared)) this.#hash.page(at);
      const kind = this.#copy(at, own, page);
      if (kind !== none) return kind;
    }
    if (this.#uses(layout.useSimilar)) {
      this.#hash.sketch(at);
      const kind = this.#similar(at, own, page);
      if (kind !== none) return kind;
    }
    const end = this.#end(raws);
    memory.copyPage(end, at);
    this.#ends[raws] = end + layout.pageBytes;
    if (this.#uses(layout.useShared)) {
      this.#hash.page(at);
      this.#writeVarint(refs, this.#host.sharedStore(at));
    }
    return layout.kindRaw;
  }

  #copy(at: number, own: number, page: number): number {
    const memory = this.#memory;
    if (this.#uses(layout.useCopies)) {
      const hint = this.#hash.hint() & memory.get(layout.copiesMask);
      const base = this.#hinted(memory.get(layout.copiesAt), hint, own);
      if (base !== none && memory.isEqual(at, this.#slotAt(base))) {
        this.#mark(base);
        this.#writeSlot(base, page);
        return layout.kindCopy;
      }
    }
    if (!this.#uses(layout.useShared) || this.#host.sharedFind(at) === 0) return none;
    this.#writeRef();
    return layout.kindShared;
  }

  /** What the table named until now, if it may be a base; from now on it names `own`. */
  #hinted(table: number, hint: number, own: number): number {
    const memory = this.#memory;
    const at = table + 4 * (hint >>> 0);
    const entry = memory.u32(at);
    if (own !== none) memory.setU32(at, own + 1);
    if (entry === 0 || entry - 1 === this.#barred || entry > memory.get(layout.high)) return none;
    return this.#history.isUsed(entry - 1) ? entry - 1 : none;
  }

  #writeRef(): void {
    const end = this.#end(refs);
    this.#memory.copy(end, layout.hashAt, 16);
    this.#ends[refs] = end + 16;
  }

  #similar(at: number, own: number, page: number): number {
    const memory = this.#memory;
    const wordsMax = memory.get(layout.similarWordsMax);
    const bases = [0, 1, 2, 3].map((i) => {
      const feature = memory.u32(layout.sketchAt + 4 * i);
      const hint = ((feature << 2) | i) & memory.get(layout.sketchesMask);
      return this.#hinted(memory.get(layout.sketchesAt), hint, own);
    });
    let best: number = none;
    let fewest = wordsMax + 1;
    for (const base of new Set(bases)) {
      if (base === none || (best !== none && fewest <= nearWords)) continue;
      const count = this.#delta.distance(at, this.#slotAt(base), fewest - 1);
      if (count < fewest) [best, fewest] = [base, count];
    }
    if (best === none) return this.#sharedSimilar(at, wordsMax);
    const count = this.#delta.words(at, this.#slotAt(best), this.#end(words), wordsMax, false);
    this.#mark(best);
    this.#writeSlot(best, page);
    this.#takeWords(count, wordsMax);
    return layout.kindSimilar;
  }

  #sharedSimilar(at: number, wordsMax: number): number {
    if (!this.#uses(layout.useShared) || this.#host.sharedSimilar() === 0) return none;
    const base = layout.sharedPageAt;
    const count = this.#delta.words(at, base, this.#end(words), wordsMax, false);
    if (!this.#takeWords(count, wordsMax)) return none;
    this.#writeRef();
    return layout.kindSharedSimilar;
  }
}
