import assert from "node:assert/strict";
import { test } from "node:test";
import { Start } from "./start.ts";

const look = { idleShare: 0.5, besideShare: 0 };

test("a very slow link is known at the second look in a row that finds both sides waiting, others at the third", () => {
  for (const [bytesPerMs, known] of [
    [25_000, [false, true]],
    [60_000, [false, false, true]],
  ] as const) {
    const start = new Start();
    const seen = { ...look, bytesPerMs, waitingShare: 0.9, destinationIdleShare: 0.8 };
    const looks = (count: number): boolean[] =>
      Array.from({ length: count }, () => start.isSlow(seen));
    assert.deepEqual(looks(1), [false]);
    assert.equal(start.isSlow({ ...seen, destinationIdleShare: 0 }), false);
    assert.deepEqual(looks(known.length), known);
  }
});

test("a destination that has enough to do is no slow link, nor is a source with little to send", () => {
  for (const [waitingShare, destinationIdleShare] of [
    [1, 0.1],
    [0.1, 1],
  ] as const) {
    const start = new Start();
    const seen = { ...look, bytesPerMs: 25_000, waitingShare, destinationIdleShare };
    for (let i = 0; i < 5; i++) assert.equal(start.isSlow(seen), false);
  }
});

test("a link whose bytes grow with what is in flight is not known yet, nor slow beyond 1 Gbit/s", () => {
  const start = new Start();
  const seen = { ...look, waitingShare: 0.9, destinationIdleShare: 0.8 };
  for (const bytesPerMs of [20_000, 40_000, 80_000, 119_000, 200_000, 200_000]) {
    assert.equal(start.isSlow({ ...seen, bytesPerMs }), false);
  }
  assert.equal(start.isSlow({ ...seen, bytesPerMs: 119_000 }), false);
  assert.equal(start.isSlow({ ...seen, bytesPerMs: 119_000 }), true);
});

test("what may be in flight grows with each look, and with what arrives", () => {
  const start = new Start();
  assert.equal(start.inFlightBytesMax(0), 256 << 10);
  assert.equal(start.inFlightBytesMax(50_000), 500_000);
  start.isSlow({ ...look, bytesPerMs: 10_000, waitingShare: 0, destinationIdleShare: 1 });
  assert.equal(start.inFlightBytesMax(0), 512 << 10);
  assert.equal(start.inFlightBytesMax(100_000), 2_000_000);
});

test("it is over some time after the first look, however late that comes", () => {
  const start = new Start();
  assert.deepEqual(
    [start.isOver(9000), start.isOver(9249), start.isOver(9250)],
    [false, false, true],
  );
});

test("what has carried so little for so long while records waited is slow, whoever else seems to wait", () => {
  for (const [bytesPerMs, waitingShare, slow] of [
    [24_000, 0.5, true],
    [40_000, 0.5, false],
    // There was little to send.
    [24_000, 0.1, false],
  ] as const) {
    const start = new Start();
    const at = (ms: number): boolean =>
      start.wasSlow(5_000 + ms, 1e6 + ms * bytesPerMs, waitingShare);
    assert.deepEqual([at(0), at(60), at(119), at(120)], [false, false, false, slow]);
  }
});
