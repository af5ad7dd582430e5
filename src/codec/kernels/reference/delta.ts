/** Differences of two pages, as words or as runs of bytes. */
import { layout } from "../layout.ts";
import { bitCount, type PlainMemory } from "./memory.ts";

const { pageBytes, maskAt } = layout;

export class PlainDelta {
  readonly #memory: PlainMemory;
  /** Where `runs` and `applyRuns` came to. */
  runsEnd = 0;
  bytesEnd = 0;

  constructor(memory: PlainMemory) {
    this.#memory = memory;
  }

  /** Writes changed words and the mask; with `update` `old` becomes `page`. Answers how many, or more than `wordsMax`. */
  words(page: number, old: number, wordsAt: number, wordsMax: number, update: boolean): number {
    const memory = this.#memory;
    let count = 0;
    for (let i = 0; i < 64; i++) {
      let mask = 0;
      for (let bit = 0; bit < 8; bit++) {
        const at = 64 * i + 8 * bit;
        if (this.#isSame(page + at, old + at)) continue;
        mask |= 1 << bit;
        memory.copy(wordsAt + 8 * count++, page + at, 8);
      }
      memory.bytes[maskAt + i] = mask;
      if (count > wordsMax) break;
    }
    if (update) memory.copyPage(old, page);
    return Math.min(count, wordsMax + 1);
  }

  distance(page: number, old: number, wordsMax: number): number {
    let count = 0;
    for (let at = 0; at < pageBytes && count <= wordsMax; at += 8) {
      if (!this.#isSame(page + at, old + at)) count++;
    }
    return count;
  }

  #isSame(a: number, b: number): boolean {
    const memory = this.#memory;
    return memory.u32(a) === memory.u32(b) && memory.u32(a + 4) === memory.u32(b + 4);
  }

  runs(page: number, old: number, runsAt: number, bytesAt: number, bytesMax: number): number {
    const memory = this.#memory;
    const differs = (at: number): boolean => memory.byte(page + at) !== memory.byte(old + at);
    let runs = runsAt;
    let bytes = bytesAt;
    for (let at = 0; at < pageBytes; ) {
      let from = at;
      while (from < pageBytes && !differs(from)) from++;
      if (from === pageBytes && at === 0) return 0;
      runs = memory.writeVarint(runs, from - at);
      if (from === pageBytes) break;
      at = from;
      while (at < pageBytes && differs(at)) at++;
      runs = memory.writeVarint(runs, at - from);
      if (runs - runsAt + (bytes - bytesAt) + (at - from) > bytesMax) {
        memory.copyPage(old, page);
        return bytesMax + 1;
      }
      memory.copy(bytes, page + from, at - from);
      bytes += at - from;
    }
    memory.copyPage(old, page);
    this.runsEnd = runs;
    this.bytesEnd = bytes;
    return runs - runsAt + (bytes - bytesAt);
  }

  applyWords(old: number, out: number, wordsAt: number, update: boolean): number {
    const memory = this.#memory;
    let words = wordsAt;
    memory.copyPage(out, old);
    for (let i = 0; i < 512; i++) {
      if (((memory.byte(maskAt + (i >> 3)) >> (i & 7)) & 1) === 0) continue;
      memory.copy(out + 8 * i, words, 8);
      words += 8;
    }
    if (update) memory.copyPage(old, out);
    return words;
  }

  maskCount(): number {
    let count = 0;
    for (let i = 0; i < 64; i++) count += bitCount(this.#memory.byte(maskAt + i));
    return count;
  }

  applyRuns(
    out: number,
    runsAt: number,
    runsStop: number,
    bytesAt: number,
    bytesStop: number,
  ): boolean {
    const memory = this.#memory;
    let runs = runsAt;
    let bytes = bytesAt;
    for (let at = 0; at < pageBytes; ) {
      runs = memory.readVarint(runs, runsStop);
      if (runs === 0 || memory.varint > pageBytes - at) return false;
      at += memory.varint;
      if (at === pageBytes) break;
      runs = memory.readVarint(runs, runsStop);
      const length = memory.varint;
      if (runs === 0 || length > pageBytes - at || length > bytesStop - bytes) return false;
      memory.copy(out + at, bytes, length);
      at += length;
      bytes += length;
    }
    this.runsEnd = runs;
    this.bytesEnd = bytes;
    return true;
  }
}
