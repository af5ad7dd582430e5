import assert from "node:assert/strict";
import { test } from "node:test";
import { GodwitError } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import type { AgentClient } from "./agent/index.ts";
import { type HoldJvmOptions, holdJvm } from "./hold-jvm.ts";
import type { HeapSnapshot, HotspotVm, PauseTimes } from "./hotspot/index.ts";
import { JvmParticipant } from "./jvm.ts";

const eden = 64 << 20;

/** A G1 as its reader shows it. Its counter counts every pause, `young` only those that empty eden. */
class FakeG1 {
  nowMs = 0;
  used = 0;
  pauses = 0;
  young = 0;
  tellsYoung = true;
  /** A collection begins while it is looked at. */
  isRestless = false;
  /** What each hold finds; with none left all pauses are collections. */
  holds: ("pause" | "collection" | "begun" | "nothing")[] = [];
  thaws = 0;
  isActive = false;
  /** The flag by which it is asked to collect. */
  flag = 0;
  /** The agent puts it back when the host is gone. */
  isFlagRestored = false;
  pauseTimes: PauseTimes | undefined;
  readonly clock: Clock = { nowMs: () => this.nowMs, wallMs: () => 0, after: timer };

  heap(): HeapSnapshot {
    const heap = {
      collections: this.pauses,
      active: this.isActive,
      settled: true,
      edenUsedBytes: this.used,
      edenFreeBytes: eden - this.used,
      youngBytes: eden,
      survivorUsedBytes: 0,
      oldUsedBytes: 0,
      dead: [],
      disposable: [],
    };
    return heap as unknown as HeapSnapshot;
  }

  open(): JvmParticipant {
    const vm = {
      collector: "g1",
      activeAddress: 8,
      counterAddress: 16,
      snapshot: async () => this.heap(),
      pauseTimes: async () => this.pauseTimes,
      periodicCollection: async () => ({
        set: { address: 24, bytes: Uint8Array.of(1) },
        restore: { address: 24, bytes: Uint8Array.of(0) },
        usualDelayMs: 500,
      }),
      youngCollections: async () => {
        if (this.isRestless) this.young++;
        return this.tellsYoung ? this.young : undefined;
      },
    };
    type Open = new (p: object, v: HotspotVm, h: HeapSnapshot, c: Clock) => JvmParticipant;
    const Participant = JvmParticipant as unknown as Open;
    return new Participant({}, vm as unknown as HotspotVm, this.heap(), this.clock);
  }

  readonly agent = {
    hold: async (_: object, wait: { counterAddress?: number; timeoutMs: number }) => {
      this.nowMs += 100;
      const next = wait.counterAddress === undefined ? "now" : this.holds.shift();
      if (next !== "now") this.isActive = next === "begun";
      if (this.isActive || next === "nothing") {
        this.nowMs += wait.timeoutMs;
        throw new GodwitError("AGENT_FAILED", "late", { details: { agentCode: "TIMED_OUT" } });
      }
      if (next !== "now") this.pauses++;
      if (next === "collection" || next === undefined) {
        this.young++;
        this.used = 0;
      }
      return { counterNow: 0, taskCount: 1, waitUs: 0, freezeUs: 0, gcUs: 0, retryCount: 0 };
    },
    thaw: async () => {
      this.thaws++;
    },
    write: async (
      _: object,
      __: number,
      [byte]: Uint8Array,
      how?: { restoreWhenAlone?: boolean },
    ) => {
      this.flag = byte as number;
      this.isFlagRestored = how?.restoreWhenAlone === true;
    },
  } as unknown as AgentClient;
}

function timer(_: number, run: () => void): () => void {
  queueMicrotask(run);
  return () => {};
}

async function lookAt(g1: FakeG1, jvm: JvmParticipant, nowMs: number, used: number): Promise<void> {
  g1.nowMs = nowMs;
  g1.used = used;
  await jvm.look();
}

test("G1: what pauses without emptying eden is not taken for a collection", async () => {
  const g1 = new FakeG1();
  const jvm = g1.open();
  for (let i = 0; i <= 6; i++) {
    // Every other span has a pause of the concurrent cycle.
    if (i % 2 === 1) g1.pauses++;
    await lookAt(g1, jvm, i * 400, i * 4_000_000);
  }
  assert.equal(Math.round(jvm.allocation.bytesPerMs ?? 0), 10_000);
  g1.pauses++;
  g1.young++;
  await lookAt(g1, jvm, 2_800, 0);
  await lookAt(g1, jvm, 3_200, 4_000_000);
  assert.equal(Math.round(jvm.allocation.bytesPerMs ?? 0), 10_000);
});

test("G1: a look during which a collection began teaches nothing", async () => {
  const g1 = new FakeG1();
  const jvm = g1.open();
  await lookAt(g1, jvm, 0, 0);
  g1.isRestless = true;
  await lookAt(g1, jvm, 400, 60_000_000);
  assert.equal(jvm.allocation.bytesPerMs, undefined);
});

test("G1 without performance data: its counter is all there is", async () => {
  const g1 = new FakeG1();
  g1.tellsYoung = false;
  const jvm = g1.open();
  await lookAt(g1, jvm, 0, 0);
  await lookAt(g1, jvm, 400, 4_000_000);
  assert.equal(Math.round(jvm.allocation.bytesPerMs ?? 0), 10_000);
});

test("the next collection is judged by those that were seen, not by those at a program's start", async () => {
  const g1 = new FakeG1();
  const jvm = g1.open();
  assert.equal(jvm.collectionMs, undefined);
  const seen = async (count: number, totalMs: number, lastMs: number): Promise<unknown> => {
    g1.pauseTimes = { count, totalMs, lastMs };
    await jvm.disposable();
    return jvm.collectionMs;
  };
  assert.equal(await seen(3, 900, 50), 50);
  assert.equal(await seen(5, 1_040, 60), 70);
  assert.equal(await seen(6, 1_130, 90), 90);
  // Whatever a guest says.
  assert.equal(await seen(2, 0, 40), 40);
});

test("a collection that is provoked may take longer than the last ones", async () => {
  const g1 = new FakeG1();
  const jvm = g1.open();
  g1.pauseTimes = { count: 3, totalMs: 900, lastMs: 100 };
  await jvm.disposable();
  assert.equal(jvm.provokedMs, 150);
});

test("Parallel may collect the whole heap when much survived", async () => {
  const g1 = new FakeG1();
  const jvm = g1.open();
  g1.pauseTimes = { count: 3, totalMs: 900, lastMs: 40 };
  await jvm.disposable();
  Object.assign(jvm.vm, { collector: "parallel" });
  const expected = (survivorUsedBytes: number): number => {
    jvm.heap = { ...jvm.heap, survivorUsedBytes };
    return jvm.provokedMs;
  };
  assert.equal(expected(12 << 20), 600);
  assert.equal(expected(1 << 20), 60);
});

function options(g1: FakeG1): HoldJvmOptions {
  return {
    clock: g1.clock,
    gc: "wait",
    untilMs: 10_000,
    holdMs: 10_000,
    linkBytesPerMs: 50_000,
    sendsRunning: false,
    pauseMsMax: 240,
    promotedBytesMax: 4 << 20,
    signal: new AbortController().signal,
    watchFree: false,
  };
}

test("held after a pause that emptied nothing: let go, and held after the next", async () => {
  const g1 = new FakeG1();
  g1.used = 32 << 20;
  g1.holds = ["pause", "pause", "collection"];
  const { attempts, heap } = await holdJvm(g1.agent, g1.open(), options(g1));
  assert.equal(attempts, 3);
  assert.equal(heap.edenUsedBytes, 0);
  assert.equal(g1.thaws, 2, "all but the last hold");
});

test("held after such a pause with hardly anything in eden: it is sent", async () => {
  const g1 = new FakeG1();
  g1.used = 1 << 20;
  g1.holds = ["pause"];
  assert.equal((await holdJvm(g1.agent, g1.open(), options(g1))).attempts, 1);
});

test("one that was asked for, and has begun, may take as long as there is time", async () => {
  const g1 = new FakeG1();
  g1.used = 32 << 20;
  g1.holds = ["begun", "collection"];
  const held = await holdJvm(g1.agent, g1.open(), { ...options(g1), gc: "provoke" });
  assert.equal(held.how, "provoked");
  assert.equal(held.heap.edenUsedBytes, 0);
  assert.equal(g1.flag, 0);
});

test("one that was asked for, and has not begun, or does not end: given up, and asked for no more", async () => {
  for (const last of ["nothing", "begun"] as const) {
    const g1 = new FakeG1();
    g1.used = 32 << 20;
    g1.holds = last === "begun" ? ["begun", "begun"] : ["nothing"];
    await assert.rejects(holdJvm(g1.agent, g1.open(), { ...options(g1), gc: "provoke" }), {
      code: last === "begun" ? "TIMEOUT" : "AGENT_FAILED",
    });
    // One that collects without end cannot be held, so that only the agent can put the flag back.
    if (last === "begun") assert.ok(g1.isFlagRestored);
    else assert.equal(g1.flag, 0);
    assert.deepEqual(g1.holds, []);
  }
});
