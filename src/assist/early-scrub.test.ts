import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Clock } from "../io/index.ts";
import type { AgentClient } from "./agent/index.ts";
import { dirtyDead, type EarlyScrubOptions, lateScrubBytes, scrubEarly } from "./early-scrub.ts";
import type { HeldJvm } from "./hold-jvm.ts";
import type { HeapSnapshot } from "./hotspot/index.ts";
import type { JvmParticipant } from "./jvm.ts";
import type { MemoryRange } from "./ranges.ts";

const pageBytes = 4096;
const mebibyte = 1 << 20;

/** A heap of one eden whose pages are zero or not; the program allocates whenever it is not held and time passes. */
class ModelHeap {
  readonly pages: Uint8Array;
  readonly bytesPerMs: number;
  top = 0;
  collections = 0;
  isHeld = false;
  standstills = 0;
  nowMs = 0;

  constructor(pageCount: number, bytesPerMs: number) {
    this.pages = new Uint8Array(pageCount).fill(1);
    this.bytesPerMs = bytesPerMs;
  }

  get bytes(): number {
    return this.pages.length * pageBytes;
  }

  pass(ms: number): void {
    this.nowMs += ms;
    if (!this.isHeld) this.allocate(Math.round(ms * this.bytesPerMs));
  }

  allocate(bytes: number): void {
    for (let left = bytes; left > 0; ) {
      const end = Math.min(this.bytes, this.top + left);
      this.pages.fill(1, Math.floor(this.top / pageBytes), Math.ceil(end / pageBytes));
      left -= end - this.top;
      this.top = end;
      if (end === this.bytes) this.collect();
    }
  }

  collect(): void {
    this.collections++;
    this.top = 0;
  }

  get dead(): MemoryRange[] {
    return this.top === this.bytes ? [] : [{ address: this.top, bytes: this.bytes - this.top }];
  }

  snapshot(): HeapSnapshot {
    const { dead, collections, top, bytes } = this;
    const disposable = [{ address: 0, bytes }];
    const figures = { edenUsedBytes: top, edenFreeBytes: bytes - top };
    return { dead, collections, disposable, active: false, settled: true, ...figures } as never;
  }

  /** What `scrub` does to memory, byte by byte; a page is zero only when all of it is. */
  zero(ranges: readonly MemoryRange[]): void {
    assert.ok(this.isHeld, "a program that runs was written to");
    for (const { address, bytes } of ranges) {
      assert.ok(address >= this.top && address + bytes <= this.bytes, "what is used was zeroed");
      this.pages.fill(0, Math.ceil(address / pageBytes), Math.floor((address + bytes) / pageBytes));
    }
  }
}

function worldOf(heap: ModelHeap) {
  const clock: Clock = {
    nowMs: () => heap.nowMs,
    wallMs: () => heap.nowMs,
    after(ms, run) {
      queueMicrotask(() => {
        heap.pass(ms);
        run();
      });
      return () => {};
    },
  };
  const agent = {
    hold: async () => {
      heap.standstills++;
      heap.isHeld = true;
      return { gcUs: 0 };
    },
    thaw: async () => {
      heap.isHeld = false;
    },
    scrub: async (_process: unknown, ranges: readonly MemoryRange[]) => heap.zero(ranges),
  };
  const jvm = {
    // A collector that is not made to collect before.
    vm: { collector: "g1" },
    heap: heap.snapshot(),
    allocation: { bytesPerMs: heap.bytesPerMs },
    isIdle: heap.bytesPerMs < 1000,
    provokedMs: 0,
    snapshot: async () => heap.snapshot(),
  };
  const options = {
    clock,
    gc: "auto",
    untilMs: 2_000,
    holdMs: 10_000,
    pauseMsMax: 240,
    watchFree: false,
    patient: false,
  };
  return {
    agent: agent as unknown as AgentClient,
    jvm: jvm as unknown as JvmParticipant,
    options: options as unknown as EarlyScrubOptions,
  };
}

test("a heap that cannot be read right after its collection: nobody stays held", async () => {
  const heap = new ModelHeap(16_000, 5_000);
  heap.allocate(40 * mebibyte);
  const { agent, jvm, options } = worldOf(heap);
  const broken = Object.assign(jvm, {
    heap: heap.snapshot(),
    allocation: { bytesPerMs: heap.bytesPerMs, fullInMs: () => 100 },
    snapshot: async () => {
      if (heap.isHeld) throw new Error("torn");
      return heap.snapshot();
    },
  });
  const patient = { ...options, patient: true } as unknown as EarlyScrubOptions;
  await assert.rejects(scrubEarly(agent, broken, patient), /torn/);
  assert.equal(heap.isHeld, false);
});

test("what need not be zeroed at the end is zero, whatever was allocated and collected since", async () => {
  const step = fc.oneof(fc.nat(3 * mebibyte), fc.constant("collect" as const));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 8_000, max: 20_000 }),
      fc.nat(20_000),
      fc.array(step, { maxLength: 4 }),
      async (pageCount, bytesPerMs, steps) => {
        const heap = new ModelHeap(pageCount, bytesPerMs);
        const { agent, jvm, options } = worldOf(heap);
        const clean = await scrubEarly(agent, jvm, options);
        assert.equal(heap.isHeld, false);
        for (const one of steps) {
          if (one === "collect") heap.collect();
          else heap.allocate(one);
        }
        // Held at last, after one more collection.
        const before = { collections: heap.collections, ranges: heap.dead };
        heap.collect();
        const held = { heap: heap.snapshot(), freeBefore: before } as unknown as HeldJvm;
        heap.isHeld = true;
        heap.zero(dirtyDead(held, clean));
        const notZero = heap.pages.indexOf(1);
        assert.equal(notZero, -1, `page ${notZero} of ${pageCount}`);
      },
    ),
    { numRuns: 60 },
  );
});

test("a slow allocator has little left to zero at the end, and never stands still for long", async () => {
  const heap = new ModelHeap(25_000, 10_000);
  const { agent, jvm, options } = worldOf(heap);
  const clean = await scrubEarly(agent, jvm, options);
  const held = {
    heap: heap.snapshot(),
    freeBefore: { collections: heap.collections, ranges: heap.dead },
  } as unknown as HeldJvm;
  const left = dirtyDead(held, clean).reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(left < 4 * pageBytes, `${left} bytes of ${heap.bytes}`);
  assert.ok(heap.standstills >= 6, `${heap.standstills} slices`);
});

test("a fast allocator, or a small heap, is left alone until the end", async () => {
  for (const heap of [new ModelHeap(25_000, 300_000), new ModelHeap(1_000, 10)]) {
    const { agent, jvm, options } = worldOf(heap);
    assert.equal(await scrubEarly(agent, jvm, options), undefined);
    assert.equal(heap.standstills, 0);
  }
});

test("a fast allocator with a large heap stands still a few times, just before it is held", async () => {
  const largeHeap = () => new ModelHeap(130_000, 300_000);
  for (const [collector, patient] of [
    ["g1", false],
    ["parallel", true],
  ] as const) {
    const heap = largeHeap();
    const { agent, jvm, options } = worldOf(heap);
    Object.assign(jvm, { vm: { collector } });
    assert.equal(await scrubEarly(agent, jvm, { ...options, patient }), undefined);
    assert.equal(heap.standstills, 0);
  }
  const heap = largeHeap();
  const { agent, jvm, options } = worldOf(heap);
  Object.assign(jvm, { vm: { collector: "parallel" } });
  const clean = await scrubEarly(agent, jvm, options);
  const freeBefore = { collections: heap.collections, ranges: heap.dead };
  heap.collect();
  const held = { heap: heap.snapshot(), freeBefore } as unknown as HeldJvm;
  const left = dirtyDead(held, clean).reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(left < heap.bytes * 0.25, `${left} bytes of ${heap.bytes}`);
  assert.ok(heap.standstills <= 12, `${heap.standstills} slices`);
  heap.isHeld = true;
  heap.zero(dirtyDead(held, clean));
  assert.equal(heap.pages.indexOf(1), -1);
});

test("what lies beyond the last slice is left to the end, and counted there", () => {
  const disposableBytes = 4096 * mebibyte;
  const heap = { edenBytes: disposableBytes, disposableBytes, collectsAtOnce: true };
  for (const allocationBytesPerMs of [1, 100_000, 1_000_000]) {
    const late = lateScrubBytes({ ...heap, allocationBytesPerMs });
    assert.ok(late >= disposableBytes - 24 * 64 * mebibyte, `${late} at ${allocationBytesPerMs}`);
    assert.ok(late < disposableBytes);
  }
});

test("the estimate never exceeds what there is", () => {
  const amount = fc.double({ min: 0, max: 1e12, noNaN: true });
  fc.assert(
    fc.property(
      fc.record({
        allocationBytesPerMs: fc.option(amount, { nil: undefined }),
        edenBytes: amount,
        disposableBytes: amount,
        collectsAtOnce: fc.boolean(),
      }),
      (input) => {
        const late = lateScrubBytes(input);
        assert.ok(late >= 0 && late <= input.disposableBytes, `${late}`);
      },
    ),
  );
});

test("after a collection it works as long as it stood still before it is held again", async () => {
  for (const [gcMs, worksMs] of [
    [10, 50],
    [170, 170],
    [900, 240],
  ] as const) {
    const heap = new ModelHeap(25_000, 10_000);
    heap.top = heap.bytes / 2;
    const { agent, jvm, options } = worldOf(heap);
    const holdsAtMs: number[] = [];
    const hold = async (_: unknown, { counterAddress }: { counterAddress?: number }) => {
      heap.isHeld = true;
      if (counterAddress === undefined) return holdsAtMs.push(heap.nowMs);
      heap.nowMs += gcMs;
      heap.collect();
      return { gcUs: gcMs * 1000 };
    };
    const set = { address: 0, bytes: new Uint8Array(1) };
    const collecting = Object.assign(jvm, {
      vm: {
        collector: "g1",
        counterAddress: 8,
        periodicCollection: async () => ({ usualDelayMs: 0, set, restore: set }),
      },
      allocation: {
        bytesPerMs: heap.bytesPerMs,
        fullInMs: () => 5_000,
        pausedFor: (work: () => unknown) => work(),
      },
    });
    const provoking = Object.assign(agent, { hold, write: async () => {} });
    const patient = { ...options, gc: "provoke", untilMs: 10_000, patient: true } as const;
    await scrubEarly(provoking, collecting, patient);
    assert.equal((holdsAtMs[1] as number) - gcMs, (holdsAtMs[0] as number) + worksMs);
  }
});

test("a program whose collection would take too long is not made to collect", async () => {
  const heap = new ModelHeap(25_000, 10_000);
  heap.top = heap.bytes / 2;
  const { agent, jvm, options } = worldOf(heap);
  const asked: string[] = [];
  const phantom = async (): Promise<undefined> => void asked.push("phantom");
  const natural = { hold: () => Promise.reject(new Error("asked to collect")) };
  const parallel = (provokedMs: number) =>
    Object.assign(jvm, {
      vm: { collector: "parallel", phantom },
      provokedMs,
      allocation: {
        bytesPerMs: heap.bytesPerMs,
        fullInMs: () => 5_000,
        pausedFor: (work: () => unknown) => work(),
      },
    });
  const limited = { ...options, pauseMsMax: 240 };
  const clean = await scrubEarly(agent, parallel(400), limited);
  assert.ok(
    clean !== undefined && heap.top >= heap.bytes / 2,
    "what is free is zeroed all the same",
  );
  assert.equal(asked.length, 0);
  await assert.rejects(
    scrubEarly(natural as unknown as AgentClient, parallel(100), limited),
    /collect/,
  );
});
