/**
 * How long collections take in a JVM, as it counts itself: its performance data, which `jstat` reads from a file that is also
 * mapped into the process (OpenJDK, perfMemory.hpp: a prologue of 32 bytes, then entries of a header, a name and a value).
 * On unless the JVM was started with -XX:-UsePerfData. Only estimates are made from it: what it says may be wrong.
 */
import { type BoundedMemory, isAddress, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** Of young collections. */
export interface PauseTimes {
  readonly count: number;
  readonly totalMs: number;
  readonly lastMs: number;
}

const prologueBytes = 32;
const magic = 0xc0c0feca;
/** PerfDataMemorySize is 32 KiB unless somebody changed it. */
const dataBytesMax = 256 << 10;
const entriesMax = 4_000;
const entryHeaderBytes = 20;
const nameBytesMax = 120;
const longType = "J".charCodeAt(0);
/** A pause longer than this is none: counters were read while they were written. */
const pauseMsMax = 600_000;

const names = {
  frequency: "sun.os.hrt.frequency",
  count: "sun.gc.collector.0.invocations",
  time: "sun.gc.collector.0.time",
  entry: "sun.gc.collector.0.lastEntryTime",
  exit: "sun.gc.collector.0.lastExitTime",
} as const;

type Addresses = Readonly<Record<keyof typeof names, number>>;

export class PerfData {
  readonly #addresses: Addresses;

  private constructor(addresses: Addresses) {
    this.#addresses = addresses;
  }

  /** Two or three round trips. Undefined when there is none, or it is of another form; fails with ASSIST_UNSUPPORTED, AGENT_*. */
  static async find(memory: BoundedMemory, structs: VmStructs): Promise<PerfData | undefined> {
    const pointer = structs.optionalAddress("PerfMemory::_start");
    if (pointer === undefined || !isAddress(pointer)) return undefined;
    const [start] = await memory.read([{ address: pointer, bytes: 8 }]);
    const address = (start as View).u64(0);
    if (!isAddress(address)) return undefined;
    const [prologue] = await memory.read([{ address, bytes: prologueBytes }]);
    const used = (prologue as View).u32(8);
    if ((prologue as View).u32(0) !== magic || used <= prologueBytes) return undefined;
    const bytes = Math.min(used, dataBytesMax);
    const [data] = await memory.read([{ address, bytes }]);
    const addresses = addressesIn(data as View);
    return addresses === undefined ? undefined : new PerfData(addresses);
  }

  /** How many young collections have begun. One round trip. */
  async youngCollections(memory: BoundedMemory): Promise<number> {
    const [count] = await memory.read([{ address: this.#addresses.count, bytes: 8 }]);
    return (count as View).u64(0);
  }

  /** One round trip. Undefined: no collection yet, or read while one ended. */
  async read(memory: BoundedMemory): Promise<PauseTimes | undefined> {
    const { frequency, count, time, entry, exit } = this.#addresses;
    const at = [frequency, count, time, entry, exit];
    const views = await memory.read(at.map((address) => ({ address, bytes: 8 })));
    const [ticksPerSecond, counted, ticks, entered, left] = views.map((view) => view.u64(0)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const totalMs = (ticks / ticksPerSecond) * 1000;
    const lastMs = ((left - entered) / ticksPerSecond) * 1000;
    // While a collection is under way it has been entered and not left.
    const isSound = totalMs >= 0 && totalMs < counted * pauseMsMax;
    if (!isSound || !(lastMs >= 0 && lastMs < pauseMsMax)) return undefined;
    return { count: counted, totalMs, lastMs };
  }
}

/** Where the values are; undefined unless all are there. */
function addressesIn(data: View): Addresses | undefined {
  const found = new Map<string, number>();
  const entryCount = Math.min(data.u32(28), entriesMax);
  let at = data.u32(24);
  for (let i = 0; i < entryCount && at + entryHeaderBytes <= data.length; i++) {
    const bytes = data.u32(at);
    const name = data.text(at + data.u32(at + 4), nameBytesMax);
    const value = at + data.u32(at + 16);
    const isLong = data.u8(at + 12) === longType && data.u32(at + 8) === 0;
    if (name !== undefined && isLong && value + 8 <= data.length) {
      found.set(name, data.address + value);
    }
    // Each is at least as long as its header: this ends.
    at += Math.max(entryHeaderBytes, bytes);
  }
  const entries = Object.entries(names).map(([key, name]) => [key, found.get(name)] as const);
  if (entries.some(([, address]) => address === undefined)) return undefined;
  return Object.fromEntries(entries) as Addresses;
}
