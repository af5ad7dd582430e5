/**
 * Which pages of guest memory a QEMU process has never touched: anonymous private memory of which the kernel has no page reads as
 * zeros (Linux Documentation/admin-guide/mm/pagemap.rst). Memory of files, shared or huge pages is not judged: what is not in
 * the page table may well be in the file.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { HumanMonitor } from "./guest-memory.ts";
import { parseRamBlocks, type RamBlockPlace } from "./ram-blocks.ts";

const pageBytes = 4096;
const entryBytes = 8;
/** In the highest byte of an entry: present, or swapped out. */
const touchedBits = 0xc0;

/** Told of each page that was touched. */
export type OnTouched = (page: number) => void;

export class UntouchedMemory implements Disposable {
  readonly #descriptor: number;
  /** Those that can be judged. */
  readonly #places: ReadonlyMap<string, RamBlockPlace>;
  #entries = Buffer.alloc(0);

  private constructor(descriptor: number, places: ReadonlyMap<string, RamBlockPlace>) {
    this.#descriptor = descriptor;
    this.#places = places;
  }

  /** Undefined where nothing can be said: another user's process, a QEMU older than 8.0, no block that can be judged. */
  static async open(monitor: HumanMonitor, pid: number): Promise<UntouchedMemory | undefined> {
    try {
      const blocks = parseRamBlocks(await monitor.hmp("info ramblock"));
      const stretches = anonymousStretches(await readFile(`/proc/${pid}/maps`, "latin1"));
      const judged = blocks.filter((block) => isWithin(block, stretches));
      if (judged.length === 0) return undefined;
      const places = new Map(judged.map((block) => [block.name, block]));
      return new UntouchedMemory(openSync(`/proc/${pid}/pagemap`, "r"), places);
    } catch {
      return undefined;
    }
  }

  /** Whether this block has so many pages, and they can be judged. */
  has(block: string, pageCount: number): boolean {
    return pageCount * pageBytes <= (this.#places.get(block)?.usedBytes ?? -1);
  }

  /**
   * Looks at `pageCount` pages of a block from `page` on, in about 25 ns each. Answers false when nothing can be said, whatever
   * was told so far.
   */
  look(block: string, page: number, pageCount: number, onTouched: OnTouched): boolean {
    const place = this.#places.get(block);
    if (place === undefined || (page + pageCount) * pageBytes > place.usedBytes) return false;
    const bytes = pageCount * entryBytes;
    if (this.#entries.length < bytes) this.#entries = Buffer.allocUnsafeSlow(bytes);
    const position = (place.hostAddress / pageBytes + page) * entryBytes;
    try {
      if (readSync(this.#descriptor, this.#entries, 0, bytes, position) !== bytes) return false;
    } catch {
      return false;
    }
    for (let i = 0; i < pageCount; i++) {
      const highest = this.#entries[i * entryBytes + entryBytes - 1] as number;
      if ((highest & touchedBits) !== 0) onTouched(page + i);
    }
    return true;
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

/** In bytes of the process's address space; neighbours are one. */
export interface Stretch {
  readonly from: number;
  to: number;
}

/** Anonymous private writable memory in the text of /proc/PID/maps, in ascending order. */
export function anonymousStretches(maps: string): readonly Stretch[] {
  const found: Stretch[] = [];
  // from-to perms offset dev inode name: only what has no inode has no file.
  for (const match of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ 00:00 0(?:\s|$)/gm)) {
    const from = Number.parseInt(match[1] as string, 16);
    const to = Number.parseInt(match[2] as string, 16);
    const last = found.at(-1);
    if (last?.to === from) last.to = to;
    else found.push({ from, to });
  }
  return found;
}

function isWithin(
  { hostAddress, usedBytes }: RamBlockPlace,
  stretches: readonly Stretch[],
): boolean {
  if (hostAddress % pageBytes !== 0) return false;
  return stretches.some(({ from, to }) => from <= hostAddress && hostAddress + usedBytes <= to);
}
