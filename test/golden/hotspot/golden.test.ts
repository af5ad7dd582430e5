/** Real JVMs of five releases, read from captures, against what these JVMs said of themselves. See README.md. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { jdkReleases } from "../../../scripts/setup/jdk.ts";
import { type HeapSnapshot, HotspotVm } from "../../../src/assist/hotspot/index.ts";
import type { MemoryRange } from "../../../src/assist/ranges.ts";
import { type Capture, loadCaptures, Replay } from "./captures.ts";

for (const release of jdkReleases) {
  for (const capture of loadCaptures(release)) {
    const title = `[${release}, ${capture.name}]`;
    test(`the heap is what the JVM says it is ${title}`, async () => {
      const vm = await HotspotVm.open(new Replay(capture));
      const heap = await vm.snapshot();
      assert.equal(vm.version, capture.version);
      assert.equal(vm.collector, capture.name.split("-")[0]);
      assert.equal(vm.maxHeapBytes, 96 << 20);
      assert.equal(heap.active, false);
      assert.equal(heap.settled, true);
      assert.ok(heap.collections >= 2, "Still.java collects twice at least");
      if (vm.collector === "g1") assertRegions(heap, capture);
      else assertSpaces(heap, capture.oracle);
    });

    test(`opening takes 25 round trips at most, a snapshot one ${title}`, async () => {
      const memory = new Replay(capture);
      const vm = await HotspotVm.open(memory);
      assert.ok(memory.requestCount <= 25, `${memory.requestCount} requests`);
      assert.ok(memory.readBytes < 1 << 20, `${memory.readBytes} bytes`);
      const opened = memory.requestCount;
      await vm.snapshot();
      assert.equal(memory.requestCount - opened, 1);
    });

    test(`a dead array fills eden exactly, where there is one eden ${title}`, async () => {
      const vm = await HotspotVm.open(new Replay(capture));
      const heap = await vm.snapshot();
      const writes = await vm.phantom(heap);
      if (vm.collector === "g1") return assert.equal(writes, undefined);
      const { eden } = spaces(capture.oracle);
      const [array, top] = writes as { address: number; bytes: Uint8Array }[];
      assert.ok(array !== undefined && top !== undefined && writes?.length === 2);
      assert.equal(array.address, eden?.top);
      assert.equal(Buffer.from(array.bytes).readBigUInt64LE(0), 1n, "unlocked, no hash");
      assert.equal(Number(Buffer.from(top.bytes).readBigUInt64LE(0)), eden?.end);
    });
  }
}

for (const release of jdkReleases) {
  for (const capture of loadCaptures(release).filter(({ name }) => name.startsWith("parallel"))) {
    test(`what lies between young spaces is dead, as long as nothing else lies there [${release}, ${capture.name}]`, async () => {
      const { eden, old } = spaces(capture.oracle);
      const memory = new Replay(capture);
      const vm = await HotspotVm.open(memory);
      const before = await vm.snapshot();
      // As the collector leaves it when it shrinks eden.
      replaceWord(memory, eden.end, eden.end - 0x10_0000, [eden.bottom, eden.top]);
      const heap = await vm.snapshot();
      assert.equal(heap.edenFreeBytes, before.edenFreeBytes - 0x10_0000);
      assert.deepEqual(heap.dead, before.dead);
      assert.deepEqual(heap.disposable, before.disposable);
      assert.equal(heap.youngBytes, before.youngBytes);
      // Something else lies there: a small old space, whatever moved it.
      const bottom = eden.end - 0x8_0000;
      replaceWord(memory, old.end, bottom + 0x4_0000, [old.bottom, old.top]);
      replaceWord(memory, old.top, bottom + 0x2_0000, [old.bottom]);
      replaceWord(memory, old.bottom, bottom, [bottom + 0x2_0000, bottom + 0x4_0000]);
      const strange = await vm.snapshot();
      assert.equal(strange.settled, true);
      assert.equal(strange.oldUsedBytes, 0x2_0000);
      const moved = { bottom, top: bottom + 0x2_0000, end: bottom + 0x4_0000 };
      for (const { address, bytes } of [...strange.dead, ...strange.disposable]) {
        assert.ok(!overlap(address, bytes, moved));
      }
    });
  }
}

function overlap(address: number, bytes: number, { bottom, top }: Space): boolean {
  return address < top && bottom < address + bytes;
}

/** In the object that also has the other words, within some hundred bytes. */
function replaceWord(memory: Replay, from: number, to: number, near: readonly number[]): void {
  for (const { bytes } of memory.pieces) {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at + 8 <= view.length; at += 8) {
      if (Number(view.readBigUInt64LE(at)) !== from) continue;
      const around = view.subarray(Math.max(0, at - 64), at + 64);
      const has = (word: number): boolean => {
        const wanted = Buffer.alloc(8);
        wanted.writeBigUInt64LE(BigInt(word));
        return around.includes(wanted);
      };
      if (near.every(has)) view.writeBigUInt64LE(BigInt(to), at);
    }
  }
}

interface Space {
  readonly bottom: number;
  readonly top: number;
  readonly end: number;
}

/** The four spaces in the text that Serial and Parallel print: "[bottom, top, end)", Serial's old one has one word more. */
function spaces(text: string): Record<"eden" | "from" | "to" | "old", Space> {
  const space = (name: string): Space => {
    const line = new RegExp(`^ +${name} .*used \\[(.*)\\)`, "m").exec(text)?.[1];
    const words = (line ?? "").split(/, ?/).map((word) => Number.parseInt(word, 16));
    const [bottom, top, end] = [words[0], words[1], words.at(-1)];
    assert.ok(bottom !== undefined && top !== undefined && end !== undefined, `${name} in ${text}`);
    return { bottom, top, end };
  };
  return {
    eden: space("eden space"),
    from: space("from space"),
    to: space("to +space"),
    old: space("(?:the|object) +space"),
  };
}

function assertSpaces(heap: HeapSnapshot, text: string): void {
  const { eden, from, to, old } = spaces(text);
  const all = [eden, from, to, old];
  const young = [eden, from, to].map(({ bottom, end }): [number, number] => [bottom, end]);
  // What Parallel left between them when it resized them.
  const inOrder = young.toSorted(([a], [b]) => a - b);
  for (const [i, [bottom]] of inOrder.slice(1).entries()) {
    const [, end] = inOrder[i] as [number, number];
    if (end < bottom) young.push([end, bottom]);
  }
  const gaps = young.slice(3);
  const tails = all.map(({ top, end }): [number, number] => [top, end]);
  assert.deepEqual(heap.dead, joined([...tails, ...gaps]));
  assert.deepEqual(heap.disposable, joined([...young, [old.top, old.end]]));
  assert.equal(heap.edenUsedBytes, eden.top - eden.bottom);
  assert.equal(heap.edenFreeBytes, eden.end - eden.top);
  assert.ok(heap.survivorUsedBytes > 1 << 20, "Still.java leaves a MiB in a survivor");
  assert.equal(heap.survivorUsedBytes, from.top - from.bottom + to.top - to.bottom);
  assert.equal(heap.oldUsedBytes, old.top - old.bottom);
  assert.equal(heap.oldFreeBytes, old.end - old.top);
  assert.equal(
    heap.youngBytes,
    young.reduce((sum, [bottom, end]) => sum + end - bottom, 0),
  );
  assert.equal(heap.committedBytes, heap.youngBytes + old.end - old.bottom);
}

/** "garbage-first heap total 65536K, used 16974K …" and "region size 1024K, 4 young (4096K), 2 survivors (2048K)". */
function assertRegions(heap: HeapSnapshot, { oracle, regions }: Capture): void {
  const number = (pattern: RegExp): number => Number(pattern.exec(oracle)?.[1]);
  const regionBytes = number(/region size (\d+)K/) << 10;
  const [youngCount, survivorCount] = [number(/(\d+) young/), number(/(\d+) survivors/)];
  const usedBytes = number(/used (\d+)K/) << 10;
  assert.equal(heap.committedBytes, number(/total (?:reserved \d+K, committed )?(\d+)K/) << 10);

  // The log is as of the last collection's end; since then free regions have become eden.
  const listed = regions.map((line) => {
    const [, bottom, top, end, type = ""] = line.split(" ");
    const [b, t, e] = [bottom, top, end].map((word) => Number.parseInt(word ?? "", 16));
    return { bottom: b ?? 0, top: t ?? 0, end: e ?? 0, type };
  });
  const ofType = (type: string): typeof listed => listed.filter((region) => region.type === type);
  const edenCount = youngCount - survivorCount;
  assert.equal(ofType("S").length, survivorCount);
  assert.equal(heap.oldFreeBytes, (ofType("F").length - edenCount) * regionBytes);
  const sum = (list: typeof listed): number =>
    list.reduce((s, { bottom, top }) => s + top - bottom, 0);
  assert.equal(heap.survivorUsedBytes, sum(ofType("S")));
  const kept = listed.filter(({ type }) => !["F", "E", "S"].includes(type));
  assert.equal(heap.oldUsedBytes, sum(kept));
  const used = heap.edenUsedBytes + heap.survivorUsedBytes + heap.oldUsedBytes;
  // G1 counts a region in which it still allocates as full or as empty.
  assert.ok(Math.abs(used - usedBytes) <= regionBytes, `${used} used, the JVM says ${usedBytes}`);

  const live = listed.filter(({ type }) => type !== "F").map(({ bottom, top }) => [bottom, top]);
  const mayDie = [...ofType("F"), ...ofType("S")].map(({ top, end }): [number, number] => [
    top,
    end,
  ]);
  for (const range of heap.dead) {
    assert.ok(
      !live.some(([from = 0, to = 0]) => from < range.address + range.bytes && range.address < to),
    );
    assert.ok(
      joined(mayDie).some(
        (may) =>
          range.address >= may.address && range.address + range.bytes <= may.address + may.bytes,
      ),
      "dead memory lies in free regions and in survivors' ends",
    );
  }
  const survivorTails = ofType("S").reduce((s, { top, end }) => s + end - top, 0);
  const deadBytes = heap.dead.reduce((s, { bytes }) => s + bytes, 0);
  assert.ok(deadBytes >= heap.oldFreeBytes + survivorTails);
  assert.ok(deadBytes <= heap.oldFreeBytes + survivorTails + regionBytes);
}

/** Ascending, neighbours joined, empty ones left out. */
function joined(pairs: readonly (readonly [number, number])[]): MemoryRange[] {
  const result: { address: number; bytes: number }[] = [];
  for (const [from, to] of pairs.toSorted(([a], [b]) => a - b)) {
    const last = result.at(-1);
    if (from === to) continue;
    if (last?.address !== undefined && last.address + last.bytes === from) last.bytes += to - from;
    else result.push({ address: from, bytes: to - from });
  }
  return result;
}
