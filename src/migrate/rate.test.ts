import assert from "node:assert/strict";
import { test } from "node:test";
import { RecordRate } from "./rate.ts";

const MiB = 1 << 20;

test("a codec multiplies what the link carries, up to what it encodes in that time", () => {
  const rate = new RecordRate();
  assert.equal(rate.recordsPerMs(100), 100);
  // 10 MiB became 1 MiB, at 1 MiB/ms.
  rate.update(10 * MiB, MiB, 10);
  assert.equal(rate.recordsPerMs(1000), 10_000);
  assert.equal(rate.recordsPerMs(10 * MiB), MiB);
});

test("only what was sent since the last look counts, and little says nothing", () => {
  const rate = new RecordRate();
  rate.update(10 * MiB, 10 * MiB, 0);
  assert.equal(rate.recordsPerMs(50), 50);
  rate.update(14 * MiB, 11 * MiB, 0);
  assert.equal(rate.recordsPerMs(50), 200);
  rate.update(14.5 * MiB, 11.5 * MiB, 0);
  assert.equal(rate.recordsPerMs(50), 200);
  rate.update(15 * MiB, 11.25 * MiB, 0);
  assert.equal(rate.recordsPerMs(50), 200);
});

test("a codec that grows what it is given is slower than none, and a link that is not known stays unknown", () => {
  const rate = new RecordRate();
  rate.update(4 * MiB, 8 * MiB, 1);
  assert.equal(rate.recordsPerMs(100), 50);
  assert.equal(rate.recordsPerMs(0), 0);
});
