/**
 * An unmodified JVM, read from outside: what of its heap may be thrown away, and when.
 *
 * Opening takes about fifteen round trips and half a megabyte, once: the VM's own tables, its flags, where its heap's parts
 * are described. From then on a snapshot is one round trip. Nothing is ever executed in the JVM, and nothing is written
 * here: `phantom` and `periodicCollection` only say what to write.
 */
import { GodwitError } from "../../base/index.ts";
import { type MemoryRange, totalBytes } from "../ranges.ts";
import { assertSafeOptions, type Collector, collectorOf, type Flags, readFlags } from "./flags.ts";
import { openG1 } from "./g1.ts";
import {
  commonAddresses,
  type EdenPlace,
  type HeapCommon,
  type HeapReader,
  type HeapSnapshot,
  isReserved,
  type MemoryWrite,
  type RawHeap,
} from "./heap.ts";
import { type ArrayClass, type ClassEncoding, fillWithArrays, findArrayClass } from "./klass.ts";
import { clipToPlain, libraryStart, type Mapping, parseMaps, ProcessMappings } from "./maps.ts";
import {
  BoundedMemory,
  isAddress,
  openBudget,
  type ProcessMemory,
  snapshotBudget,
  unsupported,
  type View,
} from "./memory.ts";
import { PerfData, type PauseTimes } from "./perf-data.ts";
import { openParallel } from "./parallel.ts";
import { assertKnownRelease, releaseOf } from "./release.ts";
import { openSerial } from "./serial.ts";
import { readVmStructs, type VmStructs } from "./vm-structs.ts";

export interface PeriodicCollection {
  readonly set: MemoryWrite;
  readonly restore: MemoryWrite;
  /** From the thaw after `set` to the collection's start: half of the VM's polling interval, and its whole at most. */
  readonly usualDelayMs: number;
}

interface Parts {
  readonly version: string;
  readonly collector: Collector;
  readonly maxHeapBytes: number;
  readonly structs: VmStructs;
  readonly flags: Flags;
  readonly common: HeapCommon;
  readonly reader: HeapReader;
  readonly encoding: ClassEncoding;
}

/** Bytes of heap that are searched for an array's header, from the bottom of each space. */
const searchBytes = 64 << 10;

export class HotspotVm {
  readonly #memory: ProcessMemory;
  readonly #parts: Parts;
  readonly #mappings: ProcessMappings;
  #arrayClass: ArrayClass | undefined;
  #perfData: PerfData | "none" | undefined;
  /** Eden of the last snapshot, with what else is needed to search and to fill it. */
  readonly #edens = new WeakMap<HeapSnapshot, EdenPlace>();

  private constructor(memory: ProcessMemory, parts: Parts, mappings: ProcessMappings) {
    this.#memory = memory;
    this.#parts = parts;
    this.#mappings = mappings;
  }

  /** Fails with ASSIST_UNSUPPORTED: a sentence that says why this JVM travels as ordinary memory. */
  static async open(memory: ProcessMemory): Promise<HotspotVm> {
    const bounded = new BoundedMemory(memory, openBudget);
    const mappings = parseMaps(await bounded.maps());
    const library = libraryStart(mappings, "libjvm.so");
    if (library === undefined) throw unsupported("has no libjvm.so in its memory");
    const structs = await readVmStructs(bounded, mappings, library);
    const parts = await openParts(bounded, structs, mappings);
    const vm = new HotspotVm(memory, parts, new ProcessMappings(mappings));
    await vm.#assertPlainHeap(bounded);
    return vm;
  }

  /** As the VM itself says it: "17.0.19+10-Debian-1". */
  get version(): string {
    return this.#parts.version;
  }

  get collector(): Collector {
    return this.#parts.collector;
  }

  /** One byte, not zero while a collection stops the application. */
  get activeAddress(): number {
    return this.#parts.common.activeAddress;
  }

  /** A u32 that grows when a collection starts. */
  get counterAddress(): number {
    return this.#parts.common.counterAddress;
  }

  /** The -Xmx in force. */
  get maxHeapBytes(): number {
    return this.#parts.maxHeapBytes;
  }

  /** How long young collections took; undefined when the JVM does not say. Three round trips, then one. Fails with AGENT_*. */
  pauseTimes(): Promise<PauseTimes | undefined> {
    return this.#readPerfData((data, memory) => data.read(memory));
  }

  /**
   * How many young collections have begun: G1's counter at `counterAddress` counts other pauses as well. Undefined when the JVM
   * does not say. One round trip. Fails with AGENT_*.
   */
  youngCollections(): Promise<number | undefined> {
    return this.#readPerfData((data, memory) => data.youngCollections(memory));
  }

  async #readPerfData<T>(
    read: (data: PerfData, memory: BoundedMemory) => Promise<T>,
  ): Promise<T | undefined> {
    const bounded = new BoundedMemory(this.#memory, snapshotBudget);
    try {
      this.#perfData ??= (await PerfData.find(bounded, this.#parts.structs)) ?? "none";
      return this.#perfData === "none" ? undefined : await read(this.#perfData, bounded);
    } catch (error) {
      if (!(error instanceof GodwitError) || error.code !== "ASSIST_UNSUPPORTED") throw error;
      this.#perfData = "none";
      return undefined;
    }
  }

  /**
   * The heap now. One round trip; two after the first collection or a resize; one more when the process's mappings have to be
   * looked at again. While the VM runs it may be torn: good for hints only.
   */
  async snapshot(): Promise<HeapSnapshot> {
    const bounded = new BoundedMemory(this.#memory, snapshotBudget);
    return this.#clip(bounded, await this.#parts.reader.read(bounded, this.#mappings));
  }

  /**
   * What to write while the process is held, after a snapshot that was taken since and was not active: a dead array that
   * fills eden. The next allocation that needs a new piece of eden starts an ordinary young collection. The first call
   * takes four round trips, later ones none. Undefined: this way is not there (G1, an eden that is full, headers of
   * another form).
   */
  async phantom(snapshot: HeapSnapshot): Promise<readonly MemoryWrite[] | undefined> {
    const eden = this.#edens.get(snapshot);
    if (eden === undefined || snapshot.active || !this.#writesKnownHeaders()) return undefined;
    const array = await this.#findArrayClass(eden, snapshot);
    if (array === undefined) return undefined;
    const arrays = fillWithArrays(array, eden.top, eden.end);
    if (arrays === undefined || arrays.length === 0) return undefined;
    // Top last: until then nothing of this is part of the heap.
    return [...arrays, { address: eden.topAddress, bytes: u64(eden.end) }];
  }

  /**
   * G1: a flag to write while held, upon which the VM's service thread soon starts a collection, even in an idle
   * application; and the write that puts the old value back, to be done as soon as a collection was seen.
   *
   * The thread looks at the flag every second as long as it is 0 (G1PeriodicGCTask::execute, releases 12 and newer). With
   * G1PeriodicGCInvokesConcurrent, as by default, it starts a young collection, the first of a concurrent cycle; without,
   * it would be a full one. It gives up when the machine's load is above a threshold that is off by default, and while a
   * concurrent cycle is under way.
   */
  periodicCollection(): Promise<PeriodicCollection | undefined> {
    const { collector, flags } = this.#parts;
    const interval = flags.get("G1PeriodicGCInterval");
    const usable =
      collector === "g1" &&
      interval?.value === 0 &&
      flags.isOn("G1PeriodicGCInvokesConcurrent") &&
      !flags.isOn("G1PeriodicGCSystemLoadThreshold");
    if (!usable) return Promise.resolve(undefined);
    const { address } = interval;
    return Promise.resolve({
      set: { address, bytes: u64(periodicIntervalMs) },
      restore: { address, bytes: u64(0) },
      usualDelayMs: periodicPollMs / 2,
    });
  }

  #writesKnownHeaders(): boolean {
    const { flags } = this.#parts;
    const alignment = flags.get("ObjectAlignmentInBytes")?.value ?? 8;
    return alignment === 8 && !flags.isOn("UseCompactObjectHeaders");
  }

  async #findArrayClass(eden: EdenPlace, snapshot: HeapSnapshot): Promise<ArrayClass | undefined> {
    if (this.#arrayClass !== undefined) return this.#arrayClass;
    const { structs, encoding } = this.#parts;
    const bounded = new BoundedMemory(this.#memory, openBudget);
    await this.#mappings.refresh(bounded);
    const mappings = this.#mappings.current;
    const ranges = searchRanges(eden, snapshot, this.#parts.common.reserved, mappings);
    this.#arrayClass = await findArrayClass(bounded, structs, mappings, encoding, ranges);
    return this.#arrayClass;
  }

  /** Leaves nothing but plain memory of the process; looks at the mappings again when what is known does not cover all. */
  async #clip(bounded: BoundedMemory, raw: RawHeap): Promise<HeapSnapshot> {
    const { eden, ...rest } = raw;
    let disposable = clipToPlain(raw.disposable, this.#mappings.current);
    if (totalBytes(disposable) < totalBytes(raw.disposable)) {
      await this.#mappings.refresh(bounded);
      disposable = clipToPlain(raw.disposable, this.#mappings.current);
    }
    const dead = clipToPlain(raw.dead, this.#mappings.current);
    const snapshot = { ...rest, disposable, dead };
    if (eden !== undefined) this.#edens.set(snapshot, eden);
    return snapshot;
  }

  /** A heap in a file, in huge pages or shared with others is refused once, here, rather than being empty for ever. */
  async #assertPlainHeap(bounded: BoundedMemory): Promise<void> {
    const raw = await this.#parts.reader.read(bounded, this.#mappings);
    const snapshot = await this.#clip(bounded, raw);
    if (raw.disposable.length > 0 && snapshot.disposable.length === 0)
      throw unsupported("keeps its heap in a file, in shared memory or in huge pages");
  }
}

/**
 * The interval that is written. It does not matter for when the first collection comes, unless there was one just before; it
 * is the time for putting the old value back before the next one.
 */
const periodicIntervalMs = 100;
/** How often the VM looks whether the interval is still 0. */
const periodicPollMs = 1000;

async function openParts(
  memory: BoundedMemory,
  structs: VmStructs,
  mappings: readonly Mapping[],
): Promise<Parts> {
  const isEight = structs.optionalAddress("Flag::flags") !== undefined;
  const pointerTo = (...names: string[]): MemoryRange => ({
    address: structs.address(...names),
    bytes: 8,
  });
  const narrow = ["_narrow_klass._base", "_base"].map((name) => `CompressedKlassPointers::${name}`);
  const shifts = narrow.map((name) => name.replace("_base", "_shift"));
  const [heapPointer, flagTable, flagCount, release, base, shift] = (await memory.read([
    pointerTo("Universe::_collectedHeap"),
    pointerTo("JVMFlag::flags", "Flag::flags"),
    pointerTo("JVMFlag::numFlags", "Flag::numFlags"),
    pointerTo("Abstract_VM_Version::_s_vm_release"),
    pointerTo(...narrow, "Universe::_narrow_klass._base"),
    { ...pointerTo(...shifts, "Universe::_narrow_klass._shift"), bytes: 4 },
  ])) as [View, View, View, View, View, View];
  const version = await releaseOf(memory, mappings, release.u64(0), isEight);
  assertKnownRelease(version, isEight);
  const flags = await readFlags(memory, structs, mappings, flagTable.u64(0), flagCount.u64(0));
  const collector = collectorOf(flags, isEight);
  assertSafeOptions(flags);
  const heapAddress = heapPointer.u64(0);
  if (!isAddress(heapAddress)) throw unsupported("has not set up its heap yet");
  const common = await readCommon(memory, structs, heapAddress);
  const open = { serial: openSerial, parallel: openParallel, g1: openG1 }[collector];
  return {
    version,
    collector,
    // Never more than the reserved address space, whatever the flag says.
    maxHeapBytes: Math.min(flags.get("MaxHeapSize")?.value ?? Infinity, common.reserved.bytes),
    structs,
    flags,
    common,
    reader: await open(memory, structs, common, mappings),
    encoding: {
      compressed: flags.isOn("UseCompressedClassPointers"),
      base: base.u64(0),
      shift: Math.min(shift.u32(0), 31),
    },
  };
}

async function readCommon(
  memory: BoundedMemory,
  structs: VmStructs,
  heapAddress: number,
): Promise<HeapCommon> {
  const reservedAt = heapAddress + structs.offset("CollectedHeap::_reserved");
  const [start, words] = (await memory.read([
    { address: reservedAt + structs.offset("MemRegion::_start"), bytes: 8 },
    { address: reservedAt + structs.offset("MemRegion::_word_size"), bytes: 8 },
  ])) as [View, View];
  const reserved = { address: start.u64(0), bytes: words.u64(0) * 8 };
  if (!isReserved(reserved)) throw unsupported("has not set up its heap yet");
  return { ...commonAddresses(structs, heapAddress), reserved };
}

/** Where objects surely are: at the bottom of eden, of what lies before a dead part, and at the heap's very bottom. */
function searchRanges(
  eden: EdenPlace,
  snapshot: HeapSnapshot,
  reserved: MemoryRange,
  mappings: readonly Mapping[],
): MemoryRange[] {
  const parts: MemoryRange[] = [
    { address: eden.bottom, bytes: Math.min(searchBytes, eden.top - eden.bottom) },
    { address: reserved.address, bytes: searchBytes },
    ...snapshot.dead.map(({ address }) => ({
      address: Math.max(reserved.address, address - searchBytes),
      bytes: Math.min(searchBytes, address - reserved.address),
    })),
  ];
  // Each on its own: merging is not wanted here.
  return parts.flatMap((part) => (part.bytes > 0 ? clipToPlain([part], mappings) : []));
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
