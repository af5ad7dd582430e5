/** Traces recorded every 25 ms, measured at longer intervals as `npm run bench -- codec` does. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../base/index.ts";
import { readTrace, TraceFile } from "../trace/index.ts";
import { measure, methods, survey } from "./index.ts";

const recordBytes = 4104;
const pagesOfGuest = 600;
const basePages = 200;

/** By epoch: page → what it is full of. After the base 125 epochs: three seconds and an eighth. */
function guest(): readonly ReadonlyMap<number, number>[] {
  const prng = new Prng(5);
  const epochs = [new Map(Array.from({ length: basePages }, (_, page) => [page, 1 + (page % 9)]))];
  for (let epoch = 1; epoch <= 125; epoch++) {
    const pages = Array.from({ length: 6 }, () => prng.integer(0, pagesOfGuest - 1));
    epochs.push(new Map(pages.map((page) => [page, prng.integer(1, 255)])));
  }
  return epochs;
}

const header = {
  vmName: "one",
  workload: "",
  qemuVersion: "10.0.13",
  accelerator: "tcg",
  blocks: [{ name: "pc.ram", lengthBytes: pagesOfGuest * 4096 }],
  memoryBytes: pagesOfGuest * 4096,
  intervalMs: 25,
  base: "full",
  note: "",
} as const;

async function write(path: string, epochs: readonly ReadonlyMap<number, number>[]): Promise<void> {
  const file = await TraceFile.create(path, header, { windowLog: 20 });
  for (const [epoch, written] of epochs.entries()) {
    const pages = [...written].toSorted(([a], [b]) => a - b);
    for (let i = 0; i < pages.length; i += 60) {
      const some = pages.slice(i, i + 60);
      const bytes = Buffer.alloc(some.length * recordBytes);
      for (const [at, [page, fill]] of some.entries()) {
        bytes.writeBigUInt64BE(BigInt(page) * 4096n + 0x28n, at * recordBytes);
        bytes.fill(fill, at * recordBytes + 8, (at + 1) * recordBytes);
      }
      const counts = { bytes: bytes.length, pageCount: some.length, zeroCount: 0 };
      file.batch(epoch * 25, { block: 0, pieces: [bytes], ...counts });
    }
    file.endEpoch(epoch * 25);
  }
  await file.close();
}

/** Distinct pages of each merged epoch, counted by hand. */
function pagesAt(intervalMs: number, epochs: readonly ReadonlyMap<number, number>[]): number[] {
  const found: number[] = [];
  for (let from = 1; from < epochs.length; from += intervalMs / 25) {
    const parts = epochs.slice(from, from + intervalMs / 25);
    found.push(new Set(parts.flatMap((part) => [...part.keys()])).size);
  }
  return found;
}

test("epochs of 25 ms make those of 100 and 1000: fewer pages, the same first copy, all decoded again", async () => {
  const folder = await mkdtemp(join(tmpdir(), "godwit-advise-"));
  try {
    const path = join(folder, "t.gtrace");
    const epochs = guest();
    await write(path, epochs);
    let last = Number.POSITIVE_INFINITY;
    for (const intervalMs of [25, 100, 1000]) {
      const counts = pagesAt(intervalMs, epochs);
      const pageCount = counts.reduce((sum, count) => sum + count, 0);
      assert.ok(pageCount < last, "pages that are written again count once");
      last = pageCount;
      const open = () => readTrace(path, { intervalMs });
      const found = await survey(open);
      assert.equal(found.epochCount, Math.ceil((125 * 25) / intervalMs));
      assert.deepEqual([found.pageCount, found.endMs], [pageCount, 125 * 25]);
      for (const name of ["none", "zstd-1", "hybrid+zstd-1"]) {
        const method = methods.find((one) => one.name === name) as (typeof methods)[number];
        const { firstCopy, epochs: later } = await measure(method, open, { memoryBytes: 32 << 20 });
        assert.equal(firstCopy?.rawBytes, basePages * recordBytes);
        assert.equal(later?.rawBytes, pageCount * recordBytes);
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
