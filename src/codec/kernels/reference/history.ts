/**
 * The encoder's slots. Which slot a page gets is decided as the kernels in WebAssembly decide it, so the same tables are used,
 * but pages are found by a map.
 */
import { layout } from "../layout.ts";
import { none, type PlainMemory } from "./memory.ts";

const sweepMax = 64;

/** Unique below 2^48 pages; a string, because 64 bits fit no number. */
type Key = string;

export class PlainHistory {
  readonly #memory: PlainMemory;
  readonly #slots = new Map<Key, number>();
  readonly #keys: (Key | undefined)[] = [];

  constructor(memory: PlainMemory) {
    this.#memory = memory;
  }

  /** The table in the workspace is not used: that it is empty says that there was a reset. */
  begin(): void {
    if (this.#memory.get(layout.high) > 0) return;
    this.#slots.clear();
    this.#keys.length = 0;
  }

  find(block: number, page: number): number {
    return this.#slots.get(`${block}/${page}`) ?? none;
  }

  isUsed(slot: number): boolean {
    return this.#keys[slot] !== undefined;
  }

  admit(block: number, page: number): number {
    const memory = this.#memory;
    const seen = this.#wasSeen(block, page);
    const high = memory.get(layout.high);
    const slot =
      high < memory.get(layout.slotCount) ? high : seen && high > 0 ? this.#sweep() : none;
    if (slot === none || (slot !== high && !this.#mayTake(slot))) {
      memory.add(layout.counts + layout.countRejected, 1);
      return none;
    }
    if (slot === high) memory.set(layout.high, high + 1);
    memory.bytes[memory.get(layout.marksAt) + slot] = slot === high ? 0 : layout.markValued;
    if (this.#remove(slot)) memory.add(layout.counts + layout.countEvicted, 1);
    const key = `${block}/${page}`;
    this.#keys[slot] = key;
    this.#slots.set(key, slot);
    return slot;
  }

  #remove(slot: number): boolean {
    const key = this.#keys[slot];
    if (key === undefined) return false;
    this.#slots.delete(key);
    this.#keys[slot] = undefined;
    return true;
  }

  #wasSeen(block: number, page: number): boolean {
    const memory = this.#memory;
    const high = block * 0x10000 + Math.floor(page / 2 ** 32);
    const low = Math.imul(page % 2 ** 32, 0x9e3779b1) + Math.imul(high, 0x85ebca77);
    const hash = Math.imul(low ^ ((low | 0) >>> 15), 0xc2b2ae3d) >>> 0;
    const bit = (hash & memory.get(layout.seenMask)) >>> 0;
    const at = memory.get(layout.seenAt) + (bit >>> 3);
    const byte = memory.byte(at);
    memory.bytes[at] = byte | (1 << (bit & 7));
    return ((byte >> (bit & 7)) & 1) === 1;
  }

  #mayTake(slot: number): boolean {
    const memory = this.#memory;
    const mark = memory.byte(memory.get(layout.marksAt) + slot);
    if ((mark & layout.markValued) === 0 || !this.isUsed(slot)) return true;
    const turn = memory.get(layout.turn);
    memory.set(layout.turn, turn + 1);
    return turn % 8 === 0;
  }

  #sweep(): number {
    const memory = this.#memory;
    const count = memory.get(layout.slotCount);
    for (let i = 0; i < sweepMax; i++) {
      const hand = memory.get(layout.hand);
      const mark = memory.get(layout.marksAt) + hand;
      memory.set(layout.hand, (hand + 1) % count);
      if ((memory.byte(mark) & layout.markUsed) === 0) return hand;
      memory.bytes[mark] = memory.byte(mark) & ~layout.markUsed;
    }
    return none;
  }

  touch(slot: number): void {
    const memory = this.#memory;
    const count = memory.get(layout.touched);
    memory.setU32(layout.touchedAt + 4 * count, slot);
    memory.set(layout.touched, count + 1);
  }

  drop(): void {
    const memory = this.#memory;
    for (let i = 0; i < memory.get(layout.touched); i++) {
      this.#remove(memory.u32(layout.touchedAt + 4 * i));
    }
    memory.set(layout.high, memory.get(layout.highBefore));
    memory.set(layout.touched, 0);
  }
}
