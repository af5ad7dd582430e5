/** What every collector's reader answers, and what they share. */
import type { MemoryRange } from "../ranges.ts";
import type { ProcessMappings } from "./maps.ts";
import { addressMax, type BoundedMemory, isAddress, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** Bytes to be written while the process is held. */
export interface MemoryWrite {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Figures that predict when the next collection comes and what it leaves. */
export interface HeapFigures {
  readonly edenUsedBytes: number;
  /** What can still be allocated before a collection. G1: by its present plan, which it may change at each collection. */
  readonly edenFreeBytes: number;
  /** Committed: eden and both survivors, with what lies between; G1: eden and survivor regions, and eden regions to come. */
  readonly youngBytes: number;
  readonly survivorUsedBytes: number;
  /** G1: old, humongous and archive regions. */
  readonly oldUsedBytes: number;
  /** Within committed memory. G1: free regions. */
  readonly oldFreeBytes: number;
  /** Of the whole heap. */
  readonly committedBytes: number;
}

export interface HeapSnapshot extends HeapFigures {
  readonly collections: number;
  /** A collection is under way: nothing is dead. */
  readonly active: boolean;
  /** Disposable while the VM runs: hints. Whole young generation, free old space above top, free regions. */
  readonly disposable: readonly MemoryRange[];
  /** Dead at this instant if the process is held and not active. Exact bytes, ascending, disjoint. */
  readonly dead: readonly MemoryRange[];
  /**
   * False when dead memory had to be left out because the heap was caught in the middle of a change (G1 taking regions for
   * a large object): let go for a moment and hold again to have it all.
   */
  readonly settled: boolean;
}

/** Eden as the phantom needs it. */
export interface EdenPlace {
  /** Where eden's top is stored. */
  readonly topAddress: number;
  readonly bottom: number;
  readonly top: number;
  readonly end: number;
}

/** A snapshot before it is clipped to what the process's mappings allow. */
export interface RawHeap extends HeapSnapshot {
  readonly eden: EdenPlace | undefined;
}

/** How one collector's heap is read. */
export interface HeapReader {
  /** One round trip when nothing but tops has moved, else two or three. */
  read(memory: BoundedMemory, mappings: ProcessMappings): Promise<RawHeap>;
}

/** The words that all collectors share. */
export interface HeapCommon {
  readonly heapAddress: number;
  readonly activeAddress: number;
  readonly counterAddress: number;
  /** Address space that the heap may ever use. */
  readonly reserved: MemoryRange;
}

export function commonAddresses(
  structs: VmStructs,
  heapAddress: number,
): Omit<HeapCommon, "reserved"> {
  const active = structs.offset("CollectedHeap::_is_stw_gc_active", "CollectedHeap::_is_gc_active");
  return {
    heapAddress,
    activeAddress: heapAddress + active,
    counterAddress: heapAddress + structs.offset("CollectedHeap::_total_collections"),
  };
}

/** First in every reader's request: the active byte and the counter. */
export function commonRanges(common: HeapCommon): MemoryRange[] {
  return [
    { address: common.activeAddress, bytes: 1 },
    { address: common.counterAddress, bytes: 4 },
  ];
}

/** Part of the heap that is used from its bottom on. */
export interface Space {
  readonly bottom: number;
  readonly top: number;
  readonly end: number;
}

/** Undefined for anything that cannot be a space of this heap: torn by a collection, or made up. */
export function checkedSpace(space: Space, reserved: MemoryRange): Space | undefined {
  const { bottom, top, end } = space;
  if (![bottom, top, end].every((address) => isAddress(address) && address % 8 === 0))
    return undefined;
  const inside = bottom >= reserved.address && end <= reserved.address + reserved.bytes;
  return inside && bottom <= top && top <= end ? space : undefined;
}

export function used(space: Space | undefined): MemoryRange {
  return space === undefined
    ? { address: 0, bytes: 0 }
    : { address: space.bottom, bytes: space.top - space.bottom };
}

export function unused(space: Space | undefined): MemoryRange {
  return space === undefined
    ? { address: 0, bytes: 0 }
    : { address: space.top, bytes: space.end - space.top };
}

export function whole(space: Space | undefined): MemoryRange {
  return space === undefined
    ? { address: 0, bytes: 0 }
    : { address: space.bottom, bytes: space.end - space.bottom };
}

/** Whether no two of these touch the same byte. */
export function disjoint(ranges: readonly MemoryRange[]): boolean {
  const sorted = ranges.filter(({ bytes }) => bytes > 0).toSorted((a, b) => a.address - b.address);
  return sorted.every((range, index) => {
    const next = sorted[index + 1];
    return next === undefined || range.address + range.bytes <= next.address;
  });
}

/** Several fields of one object, in one range. */
export class FieldSpan {
  readonly #offsets: readonly number[];
  readonly #first: number;
  readonly bytes: number;

  /** Offsets of words of eight bytes (a smaller field's word is read whole: objects are padded to eight). */
  constructor(offsets: readonly number[]) {
    this.#offsets = offsets;
    this.#first = Math.min(...offsets);
    this.bytes = Math.max(...offsets) + 8 - this.#first;
  }

  range(object: number): MemoryRange {
    return { address: object + this.#first, bytes: this.bytes };
  }

  /** `at` is where the object's range begins in `view`. */
  u64(view: View, index: number, at = 0): number {
    return view.u64(at + (this.#offsets[index] ?? 0) - this.#first);
  }

  u32(view: View, index: number, at = 0): number {
    return view.u32(at + (this.#offsets[index] ?? 0) - this.#first);
  }
}

export function isReserved({ address, bytes }: MemoryRange): boolean {
  return isAddress(address) && bytes > 0 && address + bytes <= addressMax;
}
