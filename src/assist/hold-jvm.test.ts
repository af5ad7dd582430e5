/** Against a scripted heap and an agent that only holds. What real JVMs do is tested in test/e2e/hotspot.test.ts and assist.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../io/index.ts";
import type { AgentClient } from "./agent/index.ts";
import { collect, type HoldJvmOptions } from "./hold-jvm.ts";
import type { HeapSnapshot } from "./hotspot/index.ts";
import type { JvmParticipant } from "./jvm.ts";

const mebibyte = 1 << 20;
const options: HoldJvmOptions = {
  clock: systemClock,
  gc: "provoke",
  untilMs: systemClock.nowMs() + 60_000,
  holdMs: 9_000,
  linkBytesPerMs: 50_000,
  sendsRunning: false,
  pauseMsMax: 280,
  promotedBytesMax: mebibyte,
  signal: new AbortController().signal,
  watchFree: false,
};

function heapOf(edenUsedBytes: number, collections: number, active = false): HeapSnapshot {
  const [edenFreeBytes, youngBytes] = [64 * mebibyte - edenUsedBytes, 64 * mebibyte];
  const figures = { edenUsedBytes, edenFreeBytes, youngBytes };
  const others = {
    survivorUsedBytes: 0,
    oldUsedBytes: 0,
    oldFreeBytes: 0,
    committedBytes: youngBytes,
  };
  const ranges = { disposable: [], dead: [] };
  return { collections, active, settled: true, ...figures, ...others, ...ranges };
}

/** A JVM whose next snapshots are these, and what was done to it. */
function scene(collector: "serial" | "g1", snapshots: HeapSnapshot[]) {
  const done: string[] = [];
  const held = { counterNow: 0, taskCount: 9, waitUs: 0, freezeUs: 0, gcUs: 0 };
  const agent = {
    hold: async (_: unknown, { counterAddress }: { counterAddress?: number }) => {
      done.push(counterAddress === undefined ? "hold" : "hold after a collection");
      return held;
    },
    thaw: async () => void done.push("thaw"),
    read: async () => [new Uint8Array(8)],
    write: async () => void done.push("write"),
  };
  const write = { address: 8, bytes: new Uint8Array(8) };
  const jvm = {
    process: { pid: 1 },
    vm: {
      collector,
      activeAddress: 16,
      counterAddress: 24,
      phantom: async () => [write],
      periodicCollection: async () => ({ set: write, restore: write, usualDelayMs: 500 }),
    },
    allocation: { fullInMs: () => undefined, pausedFor: (work: () => unknown) => work() },
    isIdle: false,
    provokedMs: 20,
    snapshot: async () => snapshots.shift() ?? assert.fail("no more snapshots"),
  };
  return { agent: agent as unknown as AgentClient, jvm: jvm as unknown as JvmParticipant, done };
}

for (const collector of ["serial", "g1"] as const) {
  // G1's way looks once more before it holds.
  const before = collector === "g1" ? [heapOf(60 * mebibyte, 8, true)] : [];

  test(`${collector}: one that was collecting already is not made to collect once more`, async () => {
    const { agent, jvm, done } = scene(collector, [...before, heapOf(mebibyte, 8)]);
    const { how } = await collect(agent, jvm, heapOf(60 * mebibyte, 8, true), options);
    assert.equal(how, "natural");
    assert.deepEqual(done, ["hold"], "it stands still, and nothing was written");
  });

  test(`${collector}: one whose eden is as full as before is made to collect`, async () => {
    const full = heapOf(60 * mebibyte, 7);
    const { agent, jvm, done } = scene(collector, [...(collector === "g1" ? [full] : []), full]);
    const { how } = await collect(agent, jvm, full, options);
    assert.equal(how, "provoked");
    assert.deepEqual(done.slice(0, 4), ["hold", "write", "thaw", "hold after a collection"]);
  });

  test(`${collector}: what fails while it stands still lets it go`, async () => {
    const { agent, jvm, done } = scene(collector, before);
    await assert.rejects(collect(agent, jvm, heapOf(60 * mebibyte, 8, true), options));
    assert.deepEqual(done, ["hold", "thaw"]);
  });
}
