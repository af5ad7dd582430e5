/** The encoder around the chooser: real codecs, simulated time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { AutoEncoder, type Candidate } from "./index.ts";
import { codecIds, createEncoder, Decoders, type LinkState, type PageBatch } from "../index.ts";

const pageCount = 60;

function batch(first: number, fill: (page: Buffer, index: number) => void): PageBatch {
  const bytes = Buffer.alloc(pageCount * 4104);
  for (let i = 0; i < pageCount; i++) {
    bytes.writeBigUInt64BE(BigInt(first + i) * 4096n + 0x28n, i * 4104);
    fill(bytes.subarray(i * 4104 + 8, (i + 1) * 4104), first + i);
  }
  return { block: 0, pieces: [bytes], bytes: bytes.length, pageCount, zeroCount: 0 };
}

/** A migration of three rounds over a link, sent one batch after another; every body is decoded and compared. */
function migrate(linkMegabytes: number, memoryBytes: number) {
  let nowMs = 0;
  const clock: Clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    after: () => () => {},
  };
  const encoder = createEncoder("auto", { clock, memoryBytes, idleMs: () => idleMs });
  const decoders = new Decoders();
  const prng = new Prng(7);
  let [sinceMs, bytes, waitedMs, idleMs] = [0, 0, 0, 0];
  for (let round = 0; round < 3; round++) {
    for (let first = 0; first < 12_000; first += pageCount) {
      const all = batch(first, (page, index) => {
        page.fill(`page ${index} of a file `);
        page.writeUInt32LE(prng.integer(0, 2 ** 32 - 1), 400);
        // Half the bits of an eighth of each page are chance: nothing for lz4.
        const own = new Prng(index);
        for (let at = 0; at < 512; at += 4) {
          page.writeUInt32LE(own.integer(0, 2 ** 32 - 1) & 0x0f0f0f0f, 1024 + at);
        }
      });
      const body = Buffer.concat(encoder.encode(all));
      const range = { bytes: body, from: 0, to: body.length, hold: () => () => {} };
      const out = decoders.get(encoder.id).decode(range, all.bytes);
      const [records] = all.pieces;
      assert.ok(
        records !== undefined &&
          Buffer.compare(out.bytes.subarray(out.from, out.to), records) === 0,
      );
      // The thread takes a third of a ms for a batch, the link what it takes.
      const linkMs = body.length / linkMegabytes / 1000;
      nowMs += Math.max(0.3, linkMs);
      waitedMs += Math.max(0, linkMs - 0.3);
      idleMs += Math.max(0, linkMs - 0.3);
      bytes += body.length;
      if (nowMs - sinceMs < 50) continue;
      encoder.link?.({
        bytesPerMs: bytes / (nowMs - sinceMs),
        waitingShare: waitedMs / (nowMs - sinceMs),
      });
      [sinceMs, bytes, waitedMs] = [nowMs, 0, 0];
    }
    encoder.endBulk?.();
  }
  return encoder;
}

test("whatever it chooses, what comes out is what went in, and the sums are right [slow and fast link]", () => {
  for (const link of [5, 5000]) {
    const encoder = migrate(link, 64 << 20);
    const usage = encoder.usage?.() ?? [];
    const batches = usage.reduce((sum, { batchCount }) => sum + batchCount, 0);
    const pages = usage.reduce((sum, one) => sum + one.pageCount, 0);
    assert.deepEqual([batches, pages], [600, 36_000]);
    const names = usage.map(({ name }) => name);
    if (link === 5) assert.ok(names.some((name) => name.startsWith("hybrid-zstd")));
  }
});

test("on a slow link it comes to use a history, and says how often that helped", () => {
  const encoder = migrate(5, 128 << 20);
  const { hits = 0, misses = 0 } = encoder.counts ?? {};
  assert.ok(hits > 6000, `${hits} of ${hits + misses}`);
  assert.ok(encoder.memoryBytes <= 130 << 20);
});

/** Two steps besides records as they are, at a link that is full unless said otherwise; a batch every 10 ms, which takes no time. */
function paced() {
  let [nowMs, idleMs] = [0, 0];
  const clock: Clock = { nowMs: () => nowMs, wallMs: () => nowMs, after: () => () => {} };
  const candidate = (name: string): Candidate => {
    const encoder = { id: 0, name, memoryBytes: 0, reset: () => {}, encode: () => [] };
    return { name, use: () => encoder, bodyBytes: () => 0 };
  };
  const ladder = [candidate("none"), { ...candidate("hybrid"), bare: candidate("bare") }];
  const encoder = new AutoEncoder(ladder, "hybrid", clock, () => idleMs);
  const one = batch(0, (page) => page.fill("a page "));
  /** Answers the methods used meanwhile. `idleShare`: of this thread. */
  const pass = (ms: number, link: Partial<LinkState>, idleShare = 1): readonly string[] => {
    const before = new Map(encoder.usage().map(({ name, batchCount }) => [name, batchCount]));
    for (let i = 0; i < ms / 10; i++) {
      encoder.encode(one);
      nowMs += 10;
      idleMs += 10 * idleShare;
      encoder.link({ bytesPerMs: 12e3, waitingShare: 0.9, ...link });
    }
    const used = encoder.usage().filter((now) => now.batchCount > (before.get(now.name) ?? 0));
    return used.map(({ name }) => name);
  };
  return { encoder, pass };
}

test("over a faster link a first copy, and what is over soon after it, is compressed without a history", () => {
  const { encoder, pass } = paced();
  const fast = { bytesPerMs: 110e3 };
  assert.ok(pass(300, fast).includes("bare"));
  assert.ok(!pass(3_000, fast).includes("hybrid"));
  encoder.endBulk();
  assert.ok(!pass(900, fast).includes("hybrid"));
  assert.ok(pass(300, fast).includes("hybrid"));
});

test("over a slow link a first copy has a history as soon as both sides have time for it", () => {
  const { pass } = paced();
  // Half of it is enough, less is not.
  assert.deepEqual(pass(200, { destinationIdleShare: 0.4 }), ["none", "bare"]);
  assert.deepEqual(pass(40, { destinationIdleShare: 0.6 }), ["bare"]);
  assert.deepEqual(pass(10, {}, 0.4), ["bare"]);
  assert.deepEqual(pass(40, {}, 0.6), ["bare"]);
  assert.ok(pass(50, {}, 0.6).includes("hybrid"));
});

const busy = { bytesPerMs: 6e3, waitingShare: 0, destinationIdleShare: 0.02 };

test("and has none any more where a side is what bounds, not the link", () => {
  const { encoder, pass } = paced();
  pass(500, {});
  // The link carries what it can.
  pass(100, { ...busy, bytesPerMs: 12e3 });
  assert.deepEqual(pass(50, {}), ["hybrid"]);
  // Two looks are not enough.
  pass(20, busy);
  assert.ok(pass(50, {}).includes("hybrid"));
  pass(40, busy);
  assert.deepEqual(pass(200, {}), ["bare"]);
  encoder.endBulk();
  pass(1_000, busy);
  assert.ok(pass(300, busy).includes("hybrid"));
});

test("each time that it was given up it takes longer until it is tried again", () => {
  const { pass } = paced();
  pass(500, {});
  pass(50, { ...busy, destinationIdleShare: 1 }, 0.02);
  assert.deepEqual(pass(950, {}), ["bare"]);
  assert.ok(pass(200, {}).includes("hybrid"));
  pass(50, busy);
  assert.deepEqual(pass(3_900, {}), ["bare"]);
  assert.ok(pass(300, {}).includes("hybrid"));
});

test("who waits for other threads is not what bounds", () => {
  const { pass } = paced();
  pass(500, {});
  pass(200, { waitingShare: 0, besideShare: 0.9 }, 0.95);
  assert.ok(pass(50, {}).includes("hybrid"));
});

test("without memory for a history there is none", () => {
  const encoder = migrate(5, 0);
  assert.ok(encoder.usage?.().every(({ name }) => !name.startsWith("hybrid")));
  assert.equal(encoder.counts, undefined);
});

test("a state that was forgotten is no obstacle", () => {
  let nowMs = 0;
  const clock: Clock = { nowMs: () => nowMs, wallMs: () => nowMs, after: () => () => {} };
  const encoder = createEncoder("auto", { clock, idleMs: () => nowMs });
  const one = batch(0, (page) => page.fill("a page "));
  for (let i = 0; i < 40; i++) {
    encoder.encode(one);
    nowMs += 10;
    encoder.link?.({ bytesPerMs: 10e3, waitingShare: 0.9 });
  }
  encoder.reset();
  const decoders = new Decoders();
  for (let i = 0; i < 40; i++) {
    const body = Buffer.concat(encoder.encode(one));
    assert.notEqual(encoder.id, codecIds.none);
    decoders
      .get(encoder.id)
      .decode({ bytes: body, from: 0, to: body.length, hold: () => () => {} }, one.bytes);
  }
});
