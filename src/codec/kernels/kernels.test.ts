/** The committed module is what the sources say; both builds compute the same; both know the same layout. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { buildKernels } from "../../../scripts/kernels.ts";
import { createKernels, createMemory, type KernelHost, layout } from "./index.ts";

const host: KernelHost = {
  sharedFind: () => 0,
  sharedSimilar: () => 0,
  sharedStore: () => 0,
  sharedLoad: () => 0,
  sharedKeep: () => 0,
};

test("the module in the tree is what its sources compile to", async () => {
  const committed = readFileSync(join(import.meta.dirname, "kernels.wasm"));
  assert.ok(committed.equals(await buildKernels()), "run: node scripts/kernels.ts");
  assert.ok(committed.length < 16 << 10, "kernels are small");
});

test("the kernels' layout is the host's", () => {
  const text = readFileSync(join(import.meta.dirname, "assembly/layout.as"), "utf8");
  const there = [...text.matchAll(/^export const (\w+): u32 = (\w+);/gm)]
    .map(([, name = "", value]) => [camel(name), Number(value)] as const)
    .filter(([name]) => name !== "none");
  assert.deepEqual(Object.fromEntries(there), { ...layout });
});

function camel(name: string): string {
  return name.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** What one build leaves for `bytes`: hash in two updates, and sketch of its first page. */
function results(build: "simd" | "plain", bytes: Uint8Array, cut: number, seed: number): Buffer {
  const memory = createMemory(1 << 20);
  const all = new Uint8Array(memory.buffer);
  const kernels = createKernels(build, memory, host);
  // Nothing is aligned in a batch.
  const at = 0x4003;
  all.set(bytes, at);
  kernels.hashBegin(seed);
  kernels.hashUpdate(at, cut);
  kernels.hashUpdate(at + cut, bytes.length - cut);
  kernels.hashEnd();
  kernels.sketchPage(at);
  const from = Math.min(layout.hashAt, layout.sketchAt);
  return Buffer.from(all.slice(from, from + 48));
}

test("hash and sketch are the same in both builds", () => {
  const bytes = fc.uint8Array({ maxLength: 300, size: "max" });
  fc.assert(
    fc.property(bytes, fc.nat(), fc.nat({ max: 0xffffffff }), (some, where, seed) => {
      const cut = some.length === 0 ? 0 : where % some.length;
      assert.deepEqual(results("simd", some, cut, seed), results("plain", some, cut, seed));
    }),
    { numRuns: 100 },
  );
});

test("a hash hears of every bit and of every length", () => {
  const seen = new Set<string>();
  const page = new Uint8Array(256);
  const add = (bytes: Uint8Array): void => {
    seen.add(results("simd", bytes, 0, 1).toString("hex", 0, 8));
  };
  for (let length = 0; length <= 256; length++) add(page.subarray(0, length));
  for (let bit = 0; bit < 2048; bit++) {
    const changed = page.slice();
    changed[bit >> 3] = 1 << (bit & 7);
    add(changed);
  }
  assert.equal(seen.size, 257 + 2048);
});

/** The hash of a page by its sums. */
function sumsOf(build: "simd" | "plain"): (page: Uint8Array) => string {
  const memory = createMemory(1 << 20);
  const all = new Uint8Array(memory.buffer);
  const kernels = createKernels(build, memory, host);
  return (page) => {
    all.set(page, 0x4003);
    kernels.hashBegin(1);
    kernels.hashPageSums(0x4003);
    kernels.hashEnd();
    return Buffer.from(all.subarray(layout.hashAt, layout.hashAt + 8)).toString("hex");
  };
}

test("a page's sums hear of every bit, and of words that changed places; both builds agree", () => {
  const [simd, plain] = [sumsOf("simd"), sumsOf("plain")];
  const page = Buffer.alloc(4096);
  for (let i = 0; i < 1024; i++) page.writeUInt32LE(Math.imul(i + 1, 0x9e3779b1) >>> 0, 4 * i);
  const seen = new Set([simd(page)]);
  assert.deepEqual([...seen], [plain(page)]);
  for (let bit = 0; bit < 32768; bit++) {
    const at = bit >> 3;
    const before = page[at] as number;
    page[at] = before ^ (1 << (bit & 7));
    seen.add(simd(page));
    page[at] = before;
  }
  assert.equal(seen.size, 1 + 32768);
  for (const [a, b] of [
    [0, 1],
    [0, 16],
    [3, 1011],
    [500, 1023],
  ] as const) {
    const moved = Buffer.from(page);
    page.copy(moved, 4 * a, 4 * b, 4 * b + 4);
    page.copy(moved, 4 * b, 4 * a, 4 * a + 4);
    assert.equal(simd(moved), plain(moved));
    seen.add(simd(moved));
  }
  assert.equal(seen.size, 1 + 32768 + 4);
});
