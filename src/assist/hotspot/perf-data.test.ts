import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../base/index.ts";
import { BoundedMemory, type ProcessMemory, snapshotBudget } from "./memory.ts";
import { PerfData } from "./perf-data.ts";
import type { VmStructs } from "./vm-structs.ts";

const pointerAt = 0x7000;
const start = 0x10000;

/** Performance data as the JVM lays it out: written by a function of its own. */
function perfData(values: Readonly<Record<string, bigint>>): Buffer {
  const entries = Object.entries(values).map(([name, value]) => {
    const nameBytes = Math.ceil((name.length + 1) / 8) * 8;
    const entry = Buffer.alloc(24 + nameBytes + 8);
    entry.writeInt32LE(entry.length, 0);
    entry.writeInt32LE(20, 4);
    entry.write("J", 12, "latin1");
    entry.writeInt32LE(24 + nameBytes, 16);
    entry.write(name, 20, "latin1");
    entry.writeBigInt64LE(value, 24 + nameBytes);
    return entry;
  });
  const prologue = Buffer.alloc(32);
  prologue.writeUInt32BE(0xcafec0c0, 0);
  prologue[4] = 1;
  prologue[5] = 2;
  prologue.writeInt32LE(32 + entries.reduce((sum, { length }) => sum + length, 0), 8);
  prologue.writeInt32LE(32, 24);
  prologue.writeInt32LE(entries.length, 28);
  return Buffer.concat([prologue, ...entries]);
}

const usual = {
  "java.property.java.vm.name": 1n,
  "sun.gc.collector.0.invocations": 4n,
  "sun.gc.collector.0.lastEntryTime": 7_000_000_000n,
  "sun.gc.collector.0.lastExitTime": 7_120_000_000n,
  "sun.gc.collector.0.time": 200_000_000n,
  "sun.gc.collector.1.time": 900_000_000n,
  "sun.os.hrt.frequency": 1_000_000_000n,
};

function memoryOf(data: Uint8Array): BoundedMemory {
  const pointer = Buffer.alloc(8);
  pointer.writeBigUInt64LE(BigInt(start));
  const memory: ProcessMemory = {
    maps: async () => "",
    read: async (ranges) =>
      ranges.map(({ address, bytes }) =>
        address === pointerAt
          ? pointer
          : Buffer.from(data.subarray(address - start, address - start + bytes)),
      ),
  };
  return new BoundedMemory(memory, snapshotBudget);
}

const structs = (address: number | undefined): VmStructs =>
  ({ optionalAddress: () => address }) as unknown as VmStructs;

test("the mean and the last pause, in the JVM's own ticks", async () => {
  const memory = memoryOf(perfData(usual));
  const found = await PerfData.find(memory, structs(pointerAt));
  assert.deepEqual(await found?.read(memoryOf(perfData(usual))), {
    count: 4,
    totalMs: 200,
    lastMs: 120,
  });
});

test("how many young collections have begun", async () => {
  const found = await PerfData.find(memoryOf(perfData(usual)), structs(pointerAt));
  const more = { ...usual, "sun.gc.collector.0.invocations": 9n };
  assert.equal(await found?.youngCollections(memoryOf(perfData(more))), 9);
});

test("a JVM without performance data, or with data of another form, has none", async () => {
  assert.equal(await PerfData.find(memoryOf(perfData(usual)), structs(undefined)), undefined);
  const other = perfData(usual);
  other[0] = 0;
  assert.equal(await PerfData.find(memoryOf(other), structs(pointerAt)), undefined);
  const { "sun.os.hrt.frequency": _, ...fewer } = usual;
  assert.equal(await PerfData.find(memoryOf(perfData(fewer)), structs(pointerAt)), undefined);
});

test("while a collection is under way nothing is said", async () => {
  const found = await PerfData.find(memoryOf(perfData(usual)), structs(pointerAt));
  const entered = { ...usual, "sun.gc.collector.0.lastEntryTime": 8_000_000_000n };
  assert.equal(await found?.read(memoryOf(perfData(entered))), undefined);
});

test("whatever stands there, it ends, and figures are finite", async () => {
  const prng = new Prng(11);
  let readable = 0;
  for (let run = 0; run < 2_000; run++) {
    const data = perfData(usual);
    for (let i = 0; i <= run % 4; i++)
      data[prng.integer(0, data.length - 1)] = prng.integer(0, 255);
    try {
      const found = await PerfData.find(memoryOf(data), structs(pointerAt));
      const times = await found?.read(memoryOf(data));
      if (times === undefined) continue;
      readable++;
      for (const value of Object.values(times)) assert.ok(Number.isFinite(value) && value >= 0);
    } catch (error) {
      assert.equal((error as { code?: string }).code, "ASSIST_UNSUPPORTED", String(error));
    }
  }
  assert.ok(readable > 200, `${readable} of 2,000`);
});
