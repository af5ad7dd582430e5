/**
 * Where the guest's physical memory lies in the RAM blocks of the migration stream: HMP `info mtree -f`, the flat view of the
 * address space "memory" (which DMA and, outside of system management mode, the CPUs see).
 *
 *     FlatView #4
 *      AS "memory", root: system
 *      AS "cpu-memory-0", root: system
 *      Root memory region: system
 *       0000000000000000-00000000000c2fff (prio 0, ram): pc.ram
 *       00000000000c3000-00000000000e3fff (prio 0, rom): pc.ram @00000000000c3000
 *       …
 *       0000000100000000-00000001bfffffff (prio 0, ram): pc.ram @0000000080000000 KVM
 *
 * The text names memory regions. Main memory, NUMA nodes and DIMMs are called like their RAM blocks. Memory that belongs to
 * a device is not: region "vga.vram" is block "0000:00:01.0/vga.vram". Whoever looks such a name up finds no block, and should
 * pass over it; no guest keeps its data there.
 */
import { GodwitError } from "../../base/index.ts";

const pageBytes = 4096;

/** Pages `firstPage` to `firstPage + pageCount` of `block`. */
export type PieceUse = (block: string, firstPage: number, pageCount: number) => void;

/** Guest frames [first, end) are pages of `block` from `page` on. */
interface FrameRange {
  readonly first: number;
  readonly end: number;
  readonly block: string;
  readonly page: number;
}

export class PhysicalMap {
  /** Ascending, without overlap. */
  readonly #ranges: readonly FrameRange[];
  /** Index of the range that was hit last: neighbours are asked for together. */
  #last = 0;

  constructor(ranges: readonly FrameRange[]) {
    this.#ranges = ranges;
  }

  /** Frames that are writable memory. */
  get frameCount(): number {
    return this.#ranges.reduce((sum, { first, end }) => sum + end - first, 0);
  }

  /**
   * Calls `use` for each piece of the guest's frames that is writable memory, ascending. Frames that are anything else (ROM,
   * devices, nothing) are passed over.
   */
  forEachPiece(firstFrame: number, frameCount: number, use: PieceUse): void {
    const endFrame = firstFrame + frameCount;
    const ranges = this.#ranges;
    let index = this.#find(firstFrame);
    for (let range = ranges[index]; range !== undefined; range = ranges[++index]) {
      if (range.first >= endFrame) return;
      const first = Math.max(firstFrame, range.first);
      const end = Math.min(endFrame, range.end);
      if (end > first) use(range.block, range.page + first - range.first, end - first);
      this.#last = index;
    }
  }

  /** Index of the first range that ends behind `frame`. */
  #find(frame: number): number {
    const ranges = this.#ranges;
    const last = ranges[this.#last];
    if (last !== undefined && frame >= last.first && frame < last.end) return this.#last;
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ranges[middle] as FrameRange).end > frame) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Fails with QMP_INVALID when the text is not one of "info mtree -f". */
export function parsePhysicalMap(text: string): PhysicalMap {
  const ranges: FrameRange[] = [];
  for (const line of memoryView(text)) {
    const range = parseLine(line);
    if (range === undefined) continue;
    const before = ranges.at(-1);
    if (before !== undefined && range.first < before.end) {
      throw unreadable(`a range that begins before the one in front of it ends: ${cut(line)}`);
    }
    ranges.push(range);
  }
  if (ranges.length === 0) throw unreadable('no memory in the address space "memory"');
  return new PhysicalMap(ranges);
}

/** The lines of the view that is the address space "memory"; several address spaces may share one view. */
function* memoryView(text: string): Generator<string> {
  let wanted = false;
  for (const line of text.split("\n")) {
    if (line.startsWith(' AS "memory", root: ')) wanted = true;
    else if (!wanted) continue;
    else if (line.startsWith("  ")) yield line.trimEnd();
    else if (line.trim() === "") return;
  }
  if (!wanted) throw unreadable('no address space "memory"');
}

const linePattern = /^ {2}([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?([^)]+)\): (.+)$/;

/** Undefined for what is not writable memory, and for less than a page of it. */
function parseLine(line: string): FrameRange | undefined {
  const match = linePattern.exec(line);
  const [, first, last, kind, region] = match ?? [];
  if (first === undefined || last === undefined || region === undefined) {
    throw unreadable(`a line that cannot be read: ${cut(line)}`);
  }
  // Others: rom, romd, i/o, ramd (the memory of a device that was passed through).
  if (kind !== "ram") return undefined;
  const { block, offset } = parseRegion(region);
  const start = address(first, line);
  const end = address(last, line) + 1;
  const at = offset === undefined ? 0 : address(offset, line);
  if (end <= start) throw unreadable(`a range that ends before it begins: ${cut(line)}`);
  // Whole pages only; a page of the guest that is no page of the block cannot be told apart in the stream.
  if ((start - at) % pageBytes !== 0) return undefined;
  const firstFrame = Math.ceil(start / pageBytes);
  const endFrame = Math.floor(end / pageBytes);
  if (endFrame <= firstFrame) return undefined;
  const page = (at + firstFrame * pageBytes - start) / pageBytes;
  return { first: firstFrame, end: endFrame, block, page };
}

/** `NAME`, `NAME @OFFSET`, each with the accelerator behind it where that has mapped the range. */
function parseRegion(text: string): { block: string; offset: string | undefined } {
  const region = text.endsWith(" KVM") ? text.slice(0, -" KVM".length) : text;
  const at = region.lastIndexOf(" @");
  const offset = at < 0 ? "" : region.slice(at + 2);
  if (!/^[0-9a-f]{16}$/.test(offset)) return { block: region, offset: undefined };
  return { block: region.slice(0, at), offset };
}

function address(hex: string, line: string): number {
  const value = Number.parseInt(hex, 16);
  // No machine has as much memory; beyond, numbers would not be exact.
  if (value >= 2 ** 52) throw unreadable(`memory at an impossible address: ${cut(line)}`);
  return value;
}

function cut(line: string): string {
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}

function unreadable(what: string): GodwitError {
  return new GodwitError("QMP_INVALID", `"info mtree -f" has ${what}`);
}
