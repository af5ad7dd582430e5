/** The text of /proc/PID/maps: which parts of an address space are what. */
import { type MemoryRange, mergeRanges } from "../ranges.ts";
import { addressMax, type BoundedMemory } from "./memory.ts";

export interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly private: boolean;
  readonly offset: number;
  readonly inode: number;
  readonly path: string;
}

/** More than the default vm.max_map_count of any distribution. */
const mappingCountMax = 300_000;

const line =
  /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-])([w-])[x-]([ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)$/;

/** Mappings in ascending order; lines that are none, or that overlap what came before, are left out. */
export function parseMaps(text: string): Mapping[] {
  const mappings: Mapping[] = [];
  let last = 0;
  for (const row of text.split("\n")) {
    const match = line.exec(row);
    if (match === null) continue;
    const start = Number.parseInt(match[1] ?? "", 16);
    const end = Number.parseInt(match[2] ?? "", 16);
    if (!(start >= last && end > start && end <= addressMax)) continue;
    if (mappings.length === mappingCountMax) break;
    last = end;
    mappings.push({
      start,
      end,
      readable: match[3] === "r",
      writable: match[4] === "w",
      private: match[5] === "p",
      offset: Number.parseInt(match[6] ?? "", 16),
      inode: Number(match[7]),
      path: match[8] ?? "",
    });
  }
  return mappings;
}

/**
 * Where a library's file begins in memory. A deleted file (its package was upgraded under the running process) is as
 * good: nothing is read from disk.
 */
export function libraryStart(mappings: readonly Mapping[], name: string): number | undefined {
  const found = mappings.find(
    ({ offset, path, readable }) =>
      offset === 0 && readable && path.replace(/ \(deleted\)$/, "").endsWith(`/${name}`),
  );
  return found?.start;
}

/** Private memory without a file, readable and writable: the only kind whose contents may be thrown away. */
export function isPlainMemory(mapping: Mapping): boolean {
  const { readable, writable, inode, path } = mapping;
  if (!readable || !writable || !mapping.private || inode !== 0) return false;
  // Named anonymous memory ("[anon:Java: heap]") is plain; "[heap]" and "[stack]" are never a Java heap.
  return path === "" || path.startsWith("[anon");
}

/** Index of the first mapping that ends after `address`. By halves: a hostile process has many mappings. */
function firstEndingAfter(mappings: readonly { readonly end: number }[], address: number): number {
  let low = 0;
  let high = mappings.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((mappings[middle] as Mapping).end > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The mapping that contains `address`. */
export function mappingAt(mappings: readonly Mapping[], address: number): Mapping | undefined {
  const mapping = mappings[firstEndingAfter(mappings, address)];
  return mapping !== undefined && mapping.start <= address ? mapping : undefined;
}

/** End of the readable memory that contains `address`, or `address` itself if there is none; at most `bytesMax` further. */
export function readableEnd(
  mappings: readonly Mapping[],
  address: number,
  bytesMax: number,
): number {
  let end = address;
  for (let index = firstEndingAfter(mappings, address); index < mappings.length; index++) {
    const mapping = mappings[index] as Mapping;
    if (mapping.start > end || !mapping.readable || end >= address + bytesMax) break;
    end = mapping.end;
  }
  return Math.min(end, address + bytesMax);
}

/** The parts of ascending, disjoint `ranges` that lie in plain memory. */
export function clipToPlain(
  ranges: readonly MemoryRange[],
  mappings: readonly Mapping[],
): MemoryRange[] {
  const clipped: MemoryRange[] = [];
  let at = 0;
  for (const { address, bytes } of ranges) {
    const end = address + bytes;
    while (at < mappings.length && (mappings[at] as Mapping).end <= address) at++;
    for (let next = at; next < mappings.length; next++) {
      const mapping = mappings[next] as Mapping;
      if (mapping.start >= end) break;
      if (!isPlainMemory(mapping)) continue;
      const from = Math.max(address, mapping.start);
      clipped.push({ address: from, bytes: Math.min(end, mapping.end) - from });
    }
  }
  return mergeRanges(clipped);
}

/** Tells of a range whether all of it is plain memory. */
export function coverage(mappings: readonly Mapping[]): (range: MemoryRange) => boolean {
  const joined = mergeRanges(
    mappings
      .filter(isPlainMemory)
      .map(({ start, end }) => ({ address: start, bytes: end - start })),
  );
  const plain = joined.map(({ address, bytes }) => ({ start: address, end: address + bytes }));
  return ({ address, bytes }) => {
    const span = plain[firstEndingAfter(plain, address)];
    return span !== undefined && span.start <= address && address + bytes <= span.end;
  };
}

/** The mappings of a process as last seen. They change only when the process maps or unmaps: so they are kept. */
export class ProcessMappings {
  #mappings: readonly Mapping[];

  constructor(mappings: readonly Mapping[]) {
    this.#mappings = mappings;
  }

  get current(): readonly Mapping[] {
    return this.#mappings;
  }

  /** One round trip. */
  async refresh(memory: BoundedMemory): Promise<void> {
    this.#mappings = parseMaps(await memory.maps());
  }
}
