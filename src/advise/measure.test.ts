/** Figures of traces that are made up, whose ratio and times are known beforehand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BatchEncoder, PageBatch } from "../codec/index.ts";
import { createEncoder } from "../codec/index.ts";
import { decodeMbPerSMax, measure, methods, rebatched, survey } from "./index.ts";
import type { TraceBatch } from "../trace/index.ts";

const recordBytes = 4104;
const batchPages = 100;

function batch(seed: number): PageBatch {
  const bytes = Buffer.alloc(batchPages * recordBytes, seed);
  for (let i = 0; i < batchPages; i++) {
    bytes.writeBigUInt64BE(BigInt(i) * 4096n + 0x28n, i * recordBytes);
  }
  // In two pieces, cut in the middle of a page, as the receiver's slabs do.
  const pieces = [bytes.subarray(0, 5000), bytes.subarray(5000)];
  return { block: 0, pieces, bytes: bytes.length, pageCount: batchPages, zeroCount: 0 };
}

/** So many batches in the first copy and in each epoch. */
function trace(...counts: readonly number[]) {
  return async function* open(): AsyncGenerator<TraceBatch> {
    for (const [epoch, count] of counts.entries()) {
      for (let i = 0; i < count; i++) yield { epoch, atMs: epoch * 100, batch: batch(i + 1) };
    }
  };
}

/** A clock that goes on by `stepMs` each time that it is looked at. */
function stepping(stepMs: () => number): () => number {
  let ms = 0;
  return () => {
    ms += stepMs();
    return ms;
  };
}

const none = methods.find(({ name }) => name === "none") as (typeof methods)[number];
const zstd = methods.find(({ name }) => name === "zstd-1") as (typeof methods)[number];

test("pages as they are have ratio 1 in each phase", async () => {
  const figures = await measure(none, trace(2, 1, 3), { memoryBytes: 0 });
  assert.equal(figures.firstCopy?.ratio, 1);
  assert.equal(figures.epochs?.ratio, 1);
  assert.equal(figures.firstCopy?.rawBytes, 2 * batchPages * recordBytes);
  assert.equal(figures.epochs?.encodedBytes, 4 * batchPages * recordBytes);
  assert.equal(figures.memoryBytes, 0);
  assert.ok((figures.epochs?.decodeMbPerS ?? 0) <= decodeMbPerSMax);
});

test("pages full of one byte shrink, and come back", async () => {
  const figures = await measure(zstd, trace(1, 2), { memoryBytes: 0 });
  assert.ok((figures.epochs?.ratio ?? 0) > 100);
  assert.ok((figures.memoryBytes ?? 0) > 0);
});

test("times are those of the clock, over the megabytes of the records", async () => {
  const cpuMs = stepping(() => 3);
  const figures = await measure(none, trace(0, 1), { memoryBytes: 0, cpuMs });
  const mb = (batchPages * recordBytes) / 1e6;
  assert.ok(Math.abs((figures.epochs?.encodeMsPerMb ?? 0) - 3 / mb) < 1e-9);
  assert.ok(Math.abs((figures.epochs?.decodeMbPerS ?? 0) - mb / 0.003) < 1e-6);
});

test("of several passes the shortest time of each group counts", async () => {
  // 30 batches are two groups; per pass and group two looks for encoding and two for decoding.
  let look = 0;
  const cpuMs = stepping(() => {
    const [pass, group] = [Math.floor(look / 8), Math.floor((look++ % 8) / 4)];
    return pass === group ? 100 : 2;
  });
  const figures = await measure(none, trace(0, 30), { memoryBytes: 0, passCount: 2, cpuMs });
  const mb = (30 * batchPages * recordBytes) / 1e6;
  assert.ok(Math.abs((figures.epochs?.encodeMsPerMb ?? 0) - 4 / mb) < 1e-9);
});

test("a method that does not give back what it was given is found out", async () => {
  const lying: BatchEncoder = {
    ...createEncoder("none"),
    encode: ({ pieces }) => {
      const bytes = Buffer.concat(pieces);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      return [bytes];
    },
  };
  const made = measure({ ...none, make: () => lying }, trace(0, 1), { memoryBytes: 0 });
  await assert.rejects(made, { code: "VERIFY_MISMATCH", message: /none/ });
});

test("a method without memory is judged by a sample of the first copy, one with memory sees all", async () => {
  const options = { memoryBytes: 0, firstCopyBytesMax: 2.5 * batchPages * recordBytes };
  const seen = async (keepsPages: boolean): Promise<number> => {
    const figures = await measure({ ...none, keepsPages }, trace(10, 1), options);
    return (figures.firstCopy?.rawBytes ?? 0) / (batchPages * recordBytes);
  };
  // Every fourth of ten.
  assert.equal(await seen(false), 3);
  assert.equal(await seen(true), 10);
});

test("the limit on epochs takes whole ones", async () => {
  const options = { memoryBytes: 0, epochsBytesMax: 2.5 * batchPages * recordBytes };
  const figures = await measure(none, trace(1, 2, 3, 4), options);
  assert.equal(figures.epochs?.rawBytes, 5 * batchPages * recordBytes);
});

test("a measurement is given up when it is told to", async () => {
  const signal = AbortSignal.abort();
  await assert.rejects(measure(none, trace(0, 100), { memoryBytes: 0, signal }), {
    name: "AbortError",
  });
});

test("small batches of one epoch become such as a sender makes", async () => {
  const page = batch(1).pieces[0]?.subarray(0, recordBytes) ?? Buffer.alloc(0);
  const small = { block: 0, pieces: [page], bytes: recordBytes, pageCount: 1, zeroCount: 0 };
  async function* open(): AsyncGenerator<TraceBatch> {
    for (const epoch of [0, 1, 2]) {
      for (let i = 0; i < 70; i++) yield { epoch, atMs: epoch * 100, batch: small };
      yield { epoch, atMs: epoch * 100, batch: { ...small, block: 1 } };
    }
  }
  const found: number[][] = [];
  for await (const { epoch, batch: one } of rebatched(open())) {
    assert.equal(one.pieces.length, one.pageCount);
    assert.equal(one.bytes, one.pageCount * recordBytes);
    found.push([epoch, one.block, one.pageCount]);
  }
  const each = (epoch: number) => [
    [epoch, 0, 63],
    [epoch, 0, 7],
    [epoch, 1, 1],
  ];
  assert.deepEqual(found, [0, 1, 2].flatMap(each));
});

test("a trace that is empty has no figures, a survey counts what there is", async () => {
  const figures = await measure(none, trace(), { memoryBytes: 0 });
  assert.deepEqual([figures.firstCopy, figures.epochs], [undefined, undefined]);
  const found = await survey(trace(1, 2, 0, 3));
  assert.deepEqual(found, {
    firstCopyBytes: batchPages * recordBytes,
    epochsBytes: 5 * batchPages * recordBytes,
    epochCount: 2,
    pageCount: 5 * batchPages,
    zeroCount: 0,
    endMs: 300,
  });
});
