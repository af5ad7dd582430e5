/**
 * HotSpot's option flags, by name, out of its own table: the value as it is now, and where it is stored.
 *
 * Options matter twice: which collector runs, and whether something is on under which "dead" memory is not what it seems.
 */
import { type Mapping, readableEnd } from "./maps.ts";
import { type BoundedMemory, isAddress, unsupported, type View } from "./memory.ts";
import { readStrings, type VmStructs } from "./vm-structs.ts";

/** Flags that are looked at, with the bytes of their storage that are read. A release has some of them only. */
const wanted = {
  UseSerialGC: 1,
  UseParallelGC: 1,
  UseG1GC: 1,
  UseParNewGC: 1,
  UseConcMarkSweepGC: 1,
  UseZGC: 1,
  UseShenandoahGC: 1,
  UseEpsilonGC: 1,
  UseNUMA: 1,
  UseLargePages: 1,
  UseTransparentHugePages: 1,
  UseAdaptiveGCBoundary: 1,
  UseJVMCICompiler: 1,
  UseCompressedClassPointers: 1,
  UseCompactObjectHeaders: 1,
  ZapUnusedHeapArea: 1,
  AllocateHeapAt: 8,
  AllocateOldGenAt: 8,
  ObjectAlignmentInBytes: 4,
  MaxHeapSize: 8,
  G1PeriodicGCInterval: 8,
  G1PeriodicGCSystemLoadThreshold: 8,
  G1PeriodicGCInvokesConcurrent: 1,
} as const;

export type FlagName = keyof typeof wanted;

export interface Flag {
  readonly address: number;
  /** As an unsigned integer; of a double: its bits, rounded. Zero means zero in either case. */
  readonly value: number;
}

/** Releases 8 to 25 have 700 to 1300. */
const flagCountMax = 4000;

export class Flags {
  readonly #flags: ReadonlyMap<string, Flag>;

  constructor(flags: ReadonlyMap<string, Flag>) {
    this.#flags = flags;
  }

  get(name: FlagName): Flag | undefined {
    return this.#flags.get(name);
  }

  /** A flag that this release does not have is off. */
  isOn(name: FlagName): boolean {
    return (this.#flags.get(name)?.value ?? 0) !== 0;
  }
}

/** Three round trips. `table` and `count` are the values of JVMFlag::flags and ::numFlags. */
export async function readFlags(
  memory: BoundedMemory,
  structs: VmStructs,
  mappings: readonly Mapping[],
  table: number,
  count: number,
): Promise<Flags> {
  const stride = structs.size("JVMFlag", "Flag");
  const nameAt = structs.offset("JVMFlag::_name", "Flag::_name");
  const addressAt = structs.offset("JVMFlag::_addr", "Flag::_addr");
  if (!(count > 0 && count <= flagCountMax) || !(stride >= 16 && stride <= 256))
    throw unsupported(`has a strange table of flags (${count} of ${stride} bytes)`);
  if (!isAddress(table) || readableEnd(mappings, table, count * stride) < table + count * stride)
    throw unsupported("has its table of flags outside of its memory");
  const [rows] = (await memory.read([{ address: table, bytes: count * stride }])) as [View];
  const names = Array.from({ length: count }, (_, row) => rows.u64(row * stride + nameAt));
  const text = await readStrings(memory, mappings, names);
  const found: { name: FlagName; address: number }[] = [];
  for (const [row, nameAddress] of names.entries()) {
    const name = text(nameAddress) as FlagName | undefined;
    if (name === undefined || !Object.hasOwn(wanted, name)) continue;
    found.push({ name, address: rows.u64(row * stride + addressAt) });
  }
  const values = await memory.read(
    found.map(({ name, address }) => ({ address, bytes: wanted[name] })),
  );
  const flags = new Map<string, Flag>();
  for (const [index, { name, address }] of found.entries())
    flags.set(name, { address, value: (values[index] as View).word(0, wanted[name]) });
  return new Flags(flags);
}

export type Collector = "serial" | "parallel" | "g1";

const otherCollectors = {
  UseZGC: "ZGC: it moves objects while the application runs",
  UseShenandoahGC: "Shenandoah: it moves objects while the application runs",
  UseEpsilonGC: "Epsilon: it never collects",
  UseConcMarkSweepGC: "CMS: it frees memory while the application runs",
  UseParNewGC: "ParNew",
} as const;

/** Which collector runs; fails with the reason why it cannot be assisted. */
export function collectorOf(flags: Flags, isEight: boolean): Collector {
  for (const [flag, reason] of Object.entries(otherCollectors)) {
    if (flags.isOn(flag as FlagName)) throw unsupported(`collects with ${reason}`);
  }
  if (flags.isOn("UseG1GC")) {
    if (isEight)
      throw unsupported(
        "is of release 8 and collects with G1, whose tables do not tell its regions' types",
      );
    return "g1";
  }
  if (flags.isOn("UseParallelGC")) return "parallel";
  // Release 8 on a small machine takes Serial without turning its flag on.
  if (flags.isOn("UseSerialGC") || isEight) return "serial";
  throw unsupported("collects with something other than Serial, Parallel or G1");
}

/** Options under which the rules of this folder do not hold or were not tried. */
export function assertSafeOptions(flags: Flags): void {
  if (flags.isOn("ZapUnusedHeapArea"))
    throw unsupported("is a debug build, which checks what it has written into unused memory");
  if (flags.isOn("UseNUMA"))
    throw unsupported("runs with UseNUMA, where an eden is several and has no single top");
  if (flags.isOn("UseLargePages") && !flags.isOn("UseTransparentHugePages"))
    throw unsupported("runs with UseLargePages, whose memory is not ordinary pages");
  if (flags.isOn("UseAdaptiveGCBoundary"))
    throw unsupported("runs with UseAdaptiveGCBoundary, where the generations' border moves");
  if (flags.isOn("UseJVMCICompiler"))
    throw unsupported(
      "compiles with a compiler of its own (UseJVMCICompiler), which was not tried",
    );
  if (flags.isOn("AllocateHeapAt") || flags.isOn("AllocateOldGenAt"))
    throw unsupported("keeps its heap in a file (AllocateHeapAt)");
}
