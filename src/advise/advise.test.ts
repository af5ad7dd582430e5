/** The advisor as a whole on a made-up trace: a first copy of noise of which each epoch changes a word a page. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/index.ts";
import type { PageBatch } from "../codec/index.ts";
import type { TraceBatch } from "../trace/index.ts";
import { type AdviceInput, advise, methods } from "./index.ts";

const recordBytes = 4104;
const pageCount = 100;

/** What does not compress, but for its addresses. */
function noise(): Buffer {
  const prng = new Prng(1);
  const bytes = Buffer.alloc(pageCount * recordBytes);
  for (let at = 0; at < bytes.length; at += 4)
    bytes.writeUInt32LE(prng.integer(0, 2 ** 32 - 1), at);
  for (let i = 0; i < pageCount; i++) {
    bytes.writeBigUInt64BE(BigInt(i) * 4096n + 0x28n, i * recordBytes);
  }
  return bytes;
}

function batchOf(bytes: Buffer): PageBatch {
  return { block: 0, pieces: [bytes], bytes: bytes.length, pageCount, zeroCount: 0 };
}

function trace(epochCount: number) {
  return async function* open(): AsyncGenerator<TraceBatch> {
    const first = noise();
    for (let epoch = 0; epoch <= epochCount; epoch++) {
      const bytes = Buffer.from(first);
      for (let i = 0; i < pageCount; i++) bytes.writeUInt32LE(epoch, i * recordBytes + 800);
      yield { epoch, atMs: epoch * 100, batch: batchOf(bytes) };
    }
  };
}

/** Each look at the clock takes `stepMs`. */
function input(epochCount: number, stepMs = 0): AdviceInput {
  let ms = 0;
  return {
    name: "made up",
    open: trace(epochCount),
    intervalMs: 100,
    constraints: { linkBytesPerSecond: 125e6, cpuShare: 0.2, memoryBytes: 64 << 20 },
    clock: { nowMs: () => (ms += stepMs), wallMs: () => 0, after: () => () => {} },
    say: () => {},
  };
}

test("all methods are measured; those that keep pages know the first copy", async () => {
  const advice = await advise({ ...input(4), sampledPages: 3 });
  assert.deepEqual(
    advice.methods.map(({ method }) => method),
    methods.map(({ name }) => name),
  );
  // 4 epochs in 0.4 s, of which a third of the pages was recorded.
  assert.equal(Math.round(advice.dirtyBytesPerSecond), pageCount * recordBytes * 10 * 3);
  const ratio = (name: string) => advice.methods.find(({ method }) => method === name)?.ratio ?? 0;
  for (const { name, isSingle } of methods) if (isSingle) assert.ok(ratio(name) < 1.1, name);
  for (const name of ["delta", "delta-xbzrle", "hybrid", "hybrid+lz4", "hybrid+zstd-1"]) {
    assert.ok(ratio(name) > 30, `${name}: ${ratio(name)}`);
  }
  assert.ok(advice.methods.every(({ memoryBytes }) => memoryBytes <= 64 << 20));
  assert.deepEqual(advice.leftOut, []);
});

test("methods for which there is no time are left out, and named", async () => {
  const advice = await advise({ ...input(1, 10), budgetMs: 35 });
  assert.deepEqual(
    advice.leftOut,
    methods.slice(3).map(({ name }) => name),
  );
  const nothing = await advise({ ...input(1, 10), budgetMs: 5 });
  assert.deepEqual([nothing.methods, nothing.recommended], [[], undefined]);
  assert.match(nothing.reason, /No method could be measured/);
});

test("a VM that writes nothing needs no advice", async () => {
  const advice = await advise(input(0));
  assert.deepEqual([advice.epochCount, advice.dirtyBytesPerSecond], [0, 0]);
  assert.match(advice.reason, /No page was written/);
});
