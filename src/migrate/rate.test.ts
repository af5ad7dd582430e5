import assert from "node:assert/strict";
import { test } from "node:test";
import { firstRoundEnds, RecordRate } from "./rate.ts";

const MiB = 1 << 20;

test("a codec multiplies what the link carries, up to what it encodes in that time", () => {
  const rate = new RecordRate();
  assert.equal(rate.recordsPerMs(100), 100);
  // 10 MiB became 1 MiB, at 1 MiB/ms.
  rate.update(10 * MiB, MiB, 10);
  assert.equal(rate.recordsPerMs(1000), 10_000);
  assert.equal(rate.recordsPerMs(10 * MiB), MiB);
});

test("the ratio is that of the pages which keep the link busy, not of those that shrink to nothing in passing", () => {
  const rate = new RecordRate();
  let [raw, body] = [0, 0];
  for (let i = 0; i < 10; i++) rate.update((raw += 12 * MiB), (body += 12 * MiB), 0);
  for (let i = 0; i < 10; i++) rate.update((raw += 130 * MiB), (body += MiB / 2), 0);
  assert.equal(rate.recordsPerMs(100), 100);
});

test("what was long ago does not count, and little says nothing", () => {
  const rate = new RecordRate();
  let [raw, body] = [0, 0];
  rate.update((raw += 10 * MiB), (body += 10 * MiB), 0);
  assert.equal(rate.recordsPerMs(50), 50);
  for (let i = 0; i < 20; i++) rate.update((raw += 4 * MiB), (body += MiB), 0);
  assert.equal(rate.recordsPerMs(50), 200);
  rate.update(raw + MiB / 2, body + MiB / 2, 0);
  assert.equal(rate.recordsPerMs(50), 200);
});

test("what the pass before shrank to is the best guess of the next one, with some care", () => {
  const rate = new RecordRate();
  let [raw, body] = [0, 0];
  const copy = (ratio: number, count: number): void => {
    for (let i = 0; i < count; i++) rate.update((raw += 2 * MiB), (body += (2 * MiB) / ratio), 0);
  };
  copy(2, 40);
  rate.passBegan(raw, body);
  assert.equal(rate.recordsPerMs(100), 200, "the first copy is all there is");
  // Most of what was dirtied shrinks to nothing, and the middle of all bodies is as it was.
  copy(100, 10);
  copy(2, 5);
  assert.equal(rate.recordsPerMs(100), 200);
  rate.passBegan(raw, body);
  assert.equal(
    Math.round(rate.recordsPerMs(100)),
    Math.round(100 * 0.8 * (15 / (10 / 100 + 5 / 2))),
  );
  // What has gone since shrinks much less.
  copy(2, 1);
  assert.equal(rate.recordsPerMs(100), 200);
  // Too short to tell: it counts with the next one.
  rate.passBegan(raw, body);
  copy(2, 1);
  rate.passBegan(raw, body);
  assert.equal(rate.recordsPerMs(100), 200);
  // It shrank less than the middle of what was seen lately: then that holds.
  copy(1, 3);
  rate.passBegan(raw, body);
  assert.equal(rate.recordsPerMs(100), 100);
});

test("a codec that grows what it is given is slower than none, and a link that is not known stays unknown", () => {
  const rate = new RecordRate();
  rate.update(4 * MiB, 8 * MiB, 1);
  assert.equal(rate.recordsPerMs(100), 50);
  assert.equal(rate.recordsPerMs(0), 0);
});

test("the first round ends when four fifths were sent, or when half a second is left", () => {
  assert.equal(firstRoundEnds(0, 0, 1000), false);
  assert.equal(firstRoundEnds(10_000, 799, 1000), false);
  assert.equal(firstRoundEnds(10_000, 800, 1000), true);
  // 0.7 s for 600 pages: 0.47 s for the rest; 0.8 s: more than half a second.
  assert.equal(firstRoundEnds(700, 600, 1000), true);
  assert.equal(firstRoundEnds(800, 600, 1000), false);
});
