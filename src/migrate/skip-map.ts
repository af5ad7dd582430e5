/**
 * Which pages need not travel now, and which of them the destination therefore lacks.
 *
 * `hinted`: pages that somebody (an application, a test) declared disposable for the moment. Advice only.
 * `stale`: pages whose newest content was left out; the destination has an older one or none. A page stops being stale
 * when QEMU sends it again and it is kept. What is stale after the VM has stopped is fetched from the source's memory and
 * sent last. So a wrong hint costs time, never correctness.
 *
 * Memory: two bits a page, 64 KiB for each GiB of guest memory, allocated only for blocks that are ever hinted.
 */
import { PageBitmap } from "../base/index.ts";
import type { PageFilter, RamBlock } from "../qemu/stream/index.ts";

interface BlockMaps {
  readonly block: RamBlock;
  readonly hinted: PageBitmap;
  readonly stale: PageBitmap;
}

export class SkipMap implements PageFilter {
  readonly #maps: (BlockMaps | undefined)[] = [];
  /** Pages left out, each time counted. */
  droppedCount = 0;
  /** Pages that the destination lacks at the moment. */
  staleCount = 0;

  /** The hint bitmap of a block, to be changed in place at any time. */
  hints(block: RamBlock): PageBitmap {
    const known = this.#maps[block.index];
    if (known !== undefined) return known.hinted;
    const { pageCount } = block;
    const maps = { block, hinted: new PageBitmap(pageCount), stale: new PageBitmap(pageCount) };
    this.#maps[block.index] = maps;
    return maps.hinted;
  }

  /** Zero pages always travel: they cost 9 bytes, and are how an application's scrubbed memory reaches the destination. */
  keep(block: number, page: number, zero: boolean): boolean {
    const maps = this.#maps[block];
    if (maps === undefined) return true;
    if (!zero && maps.hinted.count > 0 && maps.hinted.has(page)) {
      if (maps.stale.add(page)) this.staleCount++;
      this.droppedCount++;
      return false;
    }
    if (maps.stale.count > 0 && maps.stale.delete(page)) this.staleCount--;
    return true;
  }

  /** Stale pages in batches of one block, ascending, each at most `pagesMax` long. Not to be changed meanwhile. */
  *staleBatches(pagesMax: number): Generator<{ block: RamBlock; pages: number[] }> {
    for (const maps of this.#maps) {
      if (maps === undefined) continue;
      let pages: number[] = [];
      for (let page = maps.stale.next(0); page >= 0; page = maps.stale.next(page + 1)) {
        pages.push(page);
        if (pages.length < pagesMax) continue;
        yield { block: maps.block, pages };
        pages = [];
      }
      if (pages.length > 0) yield { block: maps.block, pages };
    }
  }

  /** All stale pages have been sent. */
  forgetStale(): void {
    for (const maps of this.#maps) maps?.stale.clear();
    this.staleCount = 0;
  }
}
