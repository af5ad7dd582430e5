/**
 * G1: a heap of equal regions, each with a type, a bottom, a top and an end.
 *
 * Dead while no collection runs: free regions, and what lies above top in eden and survivor regions (whoever allocates
 * moves top first). Old regions are left alone: their tails are small, and more than the application writes to them.
 *
 * One danger: a thread that allocates a large ("humongous") object takes free regions off the free list and writes
 * filler headers into them *before* it changes their type (G1CollectedHeap::humongous_obj_allocate_initialize_regions).
 * So free regions count as dead only if as many are on the free list as have the type Free; a process caught in between
 * keeps them for this time. Regions whose memory was given back to the system have the type Free, too, and are on no list:
 * when the numbers differ, those outside of the process's plain memory are left out of the count.
 */
import { type MemoryRange, mergeRanges } from "../ranges.ts";
import { freeListOffset } from "./free-list.ts";
import {
  checkedSpace,
  commonRanges,
  FieldSpan,
  type HeapCommon,
  type HeapReader,
  type RawHeap,
  type Space,
  unused,
  used,
  whole,
} from "./heap.ts";
import { coverage, type Mapping, type ProcessMappings } from "./maps.ts";
import { type BoundedMemory, isAddress, unsupported, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** HotSpot aims at 2048 regions; a heap that was allowed to grow a lot, or tiny regions by option, may have more. */
const regionCountMax = 16_384;
/** A range more costs about as much as this many bytes. */
const gapBytes = 256;

const regionTypes = ["HeapRegion", "G1HeapRegion"] as const;

/** Names of a field in the classes that held it in one release or another. */
function names(classes: readonly string[], field: string): string[] {
  return classes.map((name) => `${name}::${field}`);
}

interface Tags {
  readonly free: number;
  readonly eden: number;
  readonly survivor: number;
}

interface Regions {
  readonly active: boolean;
  readonly collections: number;
  readonly freeListLength: number | undefined;
  readonly edenCommittedBytes: number;
  /** Committed now or once, with their types. */
  readonly list: readonly { readonly tag: number; readonly space: Space }[];
}

export class G1Reader implements HeapReader {
  readonly #common: HeapCommon;
  readonly #regionBytes: number;
  readonly #tableAddress: number;
  readonly #freeListAddress: number | undefined;
  readonly #edenCommittedAddress: number;
  readonly #span: FieldSpan;
  readonly #tags: Tags;
  /** The table of regions as last seen: where it is, and each region's object (0: never committed). */
  #table: MemoryRange = { address: 0, bytes: 0 };
  #objects: number[] = [];

  constructor(
    structs: VmStructs,
    common: HeapCommon,
    found: {
      regionBytes: number;
      freeListAddress: number | undefined;
      monitoring: number;
    },
  ) {
    const constant = (name: string): number =>
      structs.constant(`HeapRegionType::${name}`, `G1HeapRegionType::${name}`);
    const manager = structs.offset("G1CollectedHeap::_hrm");
    const regions = structs.offset(
      ...names(["HeapRegionManager", "G1HeapRegionManager"], "_regions"),
    );
    const spaces = [
      ...regionTypes,
      "G1ContiguousSpace",
      "CompactibleSpace",
      "ContiguousSpace",
      "Space",
    ];
    const type =
      structs.offset(...names(regionTypes, "_type")) +
      structs.offset(...names(["HeapRegionType", "G1HeapRegionType"], "_tag"));
    this.#common = common;
    this.#regionBytes = found.regionBytes;
    this.#tableAddress = common.heapAddress + manager + regions;
    this.#freeListAddress = found.freeListAddress;
    this.#edenCommittedAddress =
      found.monitoring +
      structs.offset(
        "G1MonitoringSupport::_eden_space_committed",
        "G1MonitoringSupport::_eden_committed",
      );
    this.#span = new FieldSpan([
      type,
      ...["_bottom", "_top", "_end"].map((field) => structs.offset(...names(spaces, field))),
    ]);
    this.#tags = {
      free: constant("FreeTag"),
      eden: constant("EdenTag"),
      survivor: constant("SurvTag"),
    };
    this.#tableOffsets = [
      structs.offset("G1HeapRegionTable::_base"),
      structs.offset("G1HeapRegionTable::_length"),
    ];
  }

  readonly #tableOffsets: readonly [number, number];

  async read(memory: BoundedMemory, mappings: ProcessMappings): Promise<RawHeap> {
    for (let attempt = 0; attempt < 3; attempt++) {
      const regions = await this.#readOnce(memory);
      if (regions === undefined) continue;
      return this.#heap(regions, await this.#freeRegions(memory, mappings, regions));
    }
    throw unsupported("changes its table of regions all the time");
  }

  /** All regions that are on the free list, or undefined when it cannot be told which ones are. */
  async #freeRegions(
    memory: BoundedMemory,
    mappings: ProcessMappings,
    regions: Regions,
  ): Promise<Space[] | undefined> {
    const free = regions.list.filter(({ tag }) => tag === this.#tags.free);
    const spaces = free.map(({ space }) => space);
    if (spaces.length === regions.freeListLength) return spaces;
    for (const isFresh of [false, true]) {
      if (isFresh) await mappings.refresh(memory);
      const covers = coverage(mappings.current);
      const committed = spaces.filter((space) => covers(whole(space)));
      if (committed.length === regions.freeListLength) return committed;
    }
    return undefined;
  }

  /** Undefined when the table of regions had changed: it is known now. */
  async #readOnce(memory: BoundedMemory): Promise<Regions | undefined> {
    const objects = this.#objects.filter((object) => object !== 0);
    const clusters = clustered(objects.toSorted((a, b) => a - b).map((o) => this.#span.range(o)));
    const fixed: MemoryRange[] = [
      ...commonRanges(this.#common),
      { address: this.#edenCommittedAddress, bytes: 8 },
      ...this.#tableOffsets.map((at) => ({ address: this.#tableAddress + at, bytes: 8 })),
    ];
    if (this.#freeListAddress !== undefined)
      fixed.push({ address: this.#freeListAddress, bytes: 4 });
    const tables = this.#table.bytes > 0 ? [this.#table] : [];
    const views = await memory.read([...fixed, ...tables, ...clusters]);
    const [active, counter, edenCommitted, base, length] = views as [View, View, View, View, View];
    const table = views[fixed.length];
    const count = length.u64(0);
    const address = base.u64(0);
    if (!(count > 0 && count <= regionCountMax) || !isAddress(address))
      throw unsupported(`has a strange number of regions (${count})`);
    if (address !== this.#table.address || count * 8 !== this.#table.bytes || table === undefined) {
      this.#table = { address, bytes: count * 8 };
      const [now] = (await memory.read([this.#table])) as [View];
      this.#objects = pointers(now);
      return undefined;
    }
    const now = pointers(table);
    if (now.some((object, index) => object !== this.#objects[index])) {
      this.#objects = now;
      return undefined;
    }
    return {
      active: active.u8(0) !== 0,
      collections: counter.u32(0),
      edenCommittedBytes: edenCommitted.u64(0),
      freeListLength: this.#freeListAddress === undefined ? undefined : views[5]?.u32(0),
      list: this.#regions(views.slice(fixed.length + 1)),
    };
  }

  /** Regions that lie where their index says; anything else was torn by a change, or made up, and saves nothing. */
  #regions(clusters: readonly View[]): { tag: number; space: Space }[] {
    const { reserved } = this.#common;
    return this.#objects.flatMap((object, index) => {
      if (object === 0) return [];
      const { address, bytes } = this.#span.range(object);
      const view = containing(clusters, address);
      const at = address - (view?.address ?? 0);
      if (view === undefined || at + bytes > view.length) return [];
      const [bottom, top, end] = [1, 2, 3].map((field) => this.#span.u64(view, field, at)) as [
        number,
        number,
        number,
      ];
      const space = checkedSpace({ bottom, top, end }, reserved);
      const expected = reserved.address + index * this.#regionBytes;
      if (space?.bottom !== expected || end - bottom !== this.#regionBytes) return [];
      return [{ tag: this.#span.u32(view, 0, at), space }];
    });
  }

  #heap(regions: Regions, listed: readonly Space[] | undefined): RawHeap {
    const { free: freeTag, eden: edenTag, survivor: survivorTag } = this.#tags;
    const of = (tag: number): Space[] =>
      regions.list.filter((region) => region.tag === tag).map(({ space }) => space);
    const free = listed ?? of(freeTag);
    const [eden, survivors] = [of(edenTag), of(survivorTag)];
    const young = [...eden, ...survivors];
    const bytes = (ranges: readonly MemoryRange[]): number =>
      ranges.reduce((sum, range) => sum + range.bytes, 0);
    const tails = young.map(unused);
    const edenUsedBytes = bytes(eden.map(used));
    const freeBytes = free.length * this.#regionBytes;
    const toCome = Math.max(0, regions.edenCommittedBytes - edenUsedBytes);
    const edenFreeBytes = Math.min(toCome, freeBytes + bytes(eden.map(unused)));
    const heapUsedBytes = bytes(regions.list.map(({ space }) => used(space)));
    const survivorUsedBytes = bytes(survivors.map(used));
    return {
      active: regions.active,
      collections: regions.collections,
      disposable: mergeRanges([...free, ...young].map(whole)),
      dead: regions.active ? [] : mergeRanges([...(listed ?? []).map(whole), ...tails]),
      settled: listed !== undefined,
      edenUsedBytes,
      edenFreeBytes,
      youngBytes: bytes(survivors.map(whole)) + edenUsedBytes + edenFreeBytes,
      survivorUsedBytes,
      oldUsedBytes: heapUsedBytes - edenUsedBytes - survivorUsedBytes,
      oldFreeBytes: freeBytes,
      // Regions that were given back to the system are in the table as free ones.
      committedBytes:
        (regions.list.length - (of(freeTag).length - free.length)) * this.#regionBytes,
      eden: undefined,
    };
  }
}

function pointers(table: View): number[] {
  return Array.from({ length: table.length / 8 }, (_, index) => {
    const object = table.u64(index * 8);
    return isAddress(object) ? object : 0;
  });
}

/** Ascending ranges, those near each other joined. */
function clustered(ranges: readonly MemoryRange[]): MemoryRange[] {
  const clusters: { address: number; bytes: number }[] = [];
  for (const { address, bytes } of ranges) {
    const last = clusters.at(-1);
    if (last !== undefined && address <= last.address + last.bytes + gapBytes)
      last.bytes = Math.max(last.bytes, address + bytes - last.address);
    else clusters.push({ address, bytes });
  }
  return clusters;
}

function containing(clusters: readonly View[], address: number): View | undefined {
  let low = 0;
  let high = clusters.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((clusters[middle] as View).address <= address) low = middle;
    else high = middle - 1;
  }
  return clusters[low];
}

/** Two round trips. */
export async function openG1(
  memory: BoundedMemory,
  structs: VmStructs,
  common: HeapCommon,
  mappings: readonly Mapping[],
): Promise<G1Reader> {
  const heap = common.heapAddress;
  const manager = heap + structs.offset("G1CollectedHeap::_hrm");
  const managerBytes = structs.size("HeapRegionManager", "G1HeapRegionManager");
  const setBytes = structs.size("HeapRegionSetBase", "G1HeapRegionSetBase");
  const monitoring = structs.offset(
    "G1CollectedHeap::_monitoring_support",
    "G1CollectedHeap::_g1mm",
  );
  if (!(managerBytes <= 4096 && setBytes <= 1024))
    throw unsupported(`has a strange manager of regions (${managerBytes} bytes)`);
  const [managerView, setView, support, regionSize] = (await memory.read([
    { address: manager, bytes: managerBytes },
    { address: heap + structs.offset("G1CollectedHeap::_old_set"), bytes: setBytes },
    { address: heap + monitoring, bytes: 8 },
    { address: structs.address(...names(regionTypes, "GrainBytes")), bytes: 8 },
  ])) as [View, View, View, View];
  const regionBytes = regionSize.u64(0);
  const isPower = Number.isSafeInteger(Math.log2(regionBytes));
  if (!isPower || regionBytes < 1 << 20 || regionBytes > 2 ** 29)
    throw unsupported(`has regions of a strange size (${regionBytes})`);
  const lengthAt = structs.offset(
    ...names(["HeapRegionSetBase", "G1HeapRegionSetBase"], "_length"),
  );
  const list = await freeListOffset(memory, mappings, managerView, setView);
  return new G1Reader(structs, common, {
    regionBytes,
    freeListAddress: list === undefined ? undefined : manager + list + lengthAt,
    monitoring: support.u64(0),
  });
}
