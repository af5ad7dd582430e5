/**
 * Hints that mean nothing, for tests of the stale-page bookkeeping: at each round another random share of all pages is
 * declared disposable. Whatever is dropped, the destination's memory must be equal in the end.
 */
import type { Prng } from "../base/index.ts";
import type { RamBlock } from "../qemu/stream/index.ts";
import type { SkipMap } from "./skip-map.ts";

export class RandomHints {
  readonly #skip: SkipMap;
  readonly #blocks: readonly RamBlock[];
  readonly #share: number;
  readonly #prng: Prng;

  constructor(skip: SkipMap, blocks: readonly RamBlock[], share: number, prng: Prng) {
    this.#skip = skip;
    this.#blocks = blocks;
    this.#share = share;
    this.#prng = prng;
    this.refresh();
  }

  refresh(): void {
    for (const block of this.#blocks) {
      const hints = this.#skip.hints(block);
      hints.clear();
      for (let page = 0; page < block.pageCount; page++) {
        if (this.#prng.chance(this.#share)) hints.add(page);
      }
    }
  }
}
