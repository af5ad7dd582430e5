/**
 * Which pages need not travel now, and which of them the destination therefore lacks.
 *
 * `hinted`: pages that somebody (an application, a test) declared disposable for the moment. Advice only.
 * `stale`: pages whose newest content was left out; the destination has an older one or none. A page stops being stale
 * when QEMU sends it again and it is kept. What is stale after the VM has stopped is fetched from the source's memory and
 * sent last. So a wrong hint costs time, never correctness.
 *
 * `zero`: pages that are zero at the destination, because that is what was sent last. A zero page need not be sent there
 * again: so an application's memory that is zeroed at the end costs nothing, if it was announced as zero before.
 *
 * Memory: four bits a page, 128 KiB for each GiB of guest memory, allocated only for blocks that are ever hinted.
 */
import { PageBitmap } from "../base/index.ts";
import type { PageFilter, RamBlock } from "../qemu/stream/index.ts";

interface BlockMaps {
  readonly block: RamBlock;
  readonly hinted: PageBitmap;
  readonly stale: PageBitmap;
  readonly zero: PageBitmap;
  /** Contents were sent, and not zero since: neither here nor in `zero` are pages of which nothing was sent yet. */
  readonly data: PageBitmap;
  /** Of the hinted pages, those that a program declared itself; for the report. */
  area: PageBitmap | undefined;
}

export class SkipMap implements PageFilter {
  readonly #maps: (BlockMaps | undefined)[] = [];
  /** Pages left out, each time counted. */
  droppedCount = 0;
  /** Those of them that a program declared itself. */
  droppedAreaCount = 0;
  /** Pages that the destination lacks at the moment. */
  staleCount = 0;

  /** The hint bitmap of a block, to be changed in place at any time. */
  hints(block: RamBlock): PageBitmap {
    const known = this.#maps[block.index];
    if (known !== undefined) return known.hinted;
    const { pageCount } = block;
    const hinted = new PageBitmap(pageCount);
    this.#maps[block.index] = {
      block,
      hinted,
      stale: new PageBitmap(pageCount),
      zero: new PageBitmap(pageCount),
      data: new PageBitmap(pageCount),
      area: undefined,
    };
    return hinted;
  }

  /** Declares pages of a block disposable, besides those that are. Pages past its end are ignored. */
  hint(block: RamBlock, firstPage: number, pageCount: number, isArea: boolean): void {
    const hinted = this.hints(block);
    const maps = this.#maps[block.index] as BlockMaps;
    const end = Math.min(firstPage + pageCount, block.pageCount);
    if (isArea) maps.area ??= new PageBitmap(block.pageCount);
    for (let page = firstPage; page < end; page++) {
      hinted.add(page);
      if (isArea) maps.area?.add(page);
    }
  }

  /** Nothing is disposable any more. What was left out stays stale. */
  clearHints(): void {
    for (const maps of this.#maps) {
      maps?.hinted.clear();
      maps?.area?.clear();
    }
  }

  get hintedCount(): number {
    return this.#maps.reduce((sum, maps) => sum + (maps?.hinted.count ?? 0), 0);
  }

  /** Pages that the destination lacks and that nobody calls disposable any more: they have to travel. */
  get owedCount(): number {
    let count = 0;
    for (const maps of this.#maps) {
      if (maps === undefined) continue;
      const { stale, hinted } = maps;
      for (let i = 0; i < stale.words.length; i++) {
        count += bitCount((stale.words[i] as number) & ~(hinted.words[i] as number));
      }
    }
    return count;
  }

  /**
   * Zero pages are never left out, but for those that are zero there already: they cost nine bytes, and are how an
   * application's scrubbed memory reaches the destination.
   */
  keep(block: number, page: number, zero: boolean): boolean {
    const maps = this.#maps[block];
    if (maps === undefined) return true;
    if (!zero && maps.hinted.count > 0 && maps.hinted.has(page)) {
      if (maps.stale.add(page)) this.staleCount++;
      this.droppedCount++;
      if (maps.area?.has(page) === true) this.droppedAreaCount++;
      return false;
    }
    if (maps.stale.count > 0 && maps.stale.delete(page)) this.staleCount--;
    if (!zero) {
      maps.data.add(page);
      maps.zero.delete(page);
      return true;
    }
    maps.data.delete(page);
    return maps.zero.add(page);
  }

  /**
   * Disposable pages of which nothing was sent yet, ascending, in batches as below: they are to be announced as zero, which
   * they will be in the end.
   */
  *takeBlank(pagesMax: number): Generator<{ block: RamBlock; pages: number[] }> {
    for (const maps of this.#maps) {
      if (maps === undefined) continue;
      const { hinted, data, zero } = maps;
      let pages: number[] = [];
      for (let page = hinted.next(0); page >= 0; page = hinted.next(page + 1)) {
        if (data.has(page) || !zero.add(page)) continue;
        // Contents that were never sent are owed, whatever comes.
        if (maps.stale.add(page)) this.staleCount++;
        pages.push(page);
        if (pages.length < pagesMax) continue;
        yield { block: maps.block, pages };
        pages = [];
      }
      if (pages.length > 0) yield { block: maps.block, pages };
    }
  }

  /**
   * Stale pages that nobody calls disposable (at the end: all, whatever anybody says), in batches of one block, ascending,
   * each at most `pagesMax` long. A batch is no longer stale once it was given: it must be sent.
   */
  *takeOwed(pagesMax: number, all: boolean): Generator<{ block: RamBlock; pages: number[] }> {
    for (const maps of this.#maps) {
      if (maps === undefined) continue;
      let pages: number[] = [];
      for (let page = maps.stale.next(0); page >= 0; page = maps.stale.next(page + 1)) {
        if (!all && maps.hinted.has(page)) continue;
        maps.stale.delete(page);
        this.staleCount--;
        maps.data.add(page);
        maps.zero.delete(page);
        pages.push(page);
        if (pages.length < pagesMax) continue;
        yield { block: maps.block, pages };
        pages = [];
      }
      if (pages.length > 0) yield { block: maps.block, pages };
    }
  }
}

function bitCount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return (((bits + (bits >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}
