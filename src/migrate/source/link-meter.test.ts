import assert from "node:assert/strict";
import { test } from "node:test";
import { LinkMeter } from "./link-meter.ts";

test("time begins with the first acknowledgement, and looks come 5, 8, 12, 17, 26, 38, 50, 50 … ms apart", () => {
  const meter = new LinkMeter();
  const told: number[] = [];
  for (let nowMs = 500; nowMs <= 1000; nowMs++) {
    const state = meter.acknowledged((nowMs - 400) * 1000, 0, nowMs);
    if (state === undefined) continue;
    told.push(nowMs - 500);
    assert.deepEqual(state, {
      bytesPerMs: 1000,
      waitingShare: 0,
      besideShare: 0,
      destinationIdleShare: 0,
    });
  }
  assert.deepEqual(told, [5, 13, 25, 42, 68, 106, 156, 206, 256, 306, 356, 406, 456]);
});

test("waiting counts wherever it begins and ends, once however often it is said", () => {
  const meter = new LinkMeter();
  meter.waits(0);
  meter.acknowledged(0, 0, 100);
  meter.goesOn(104);
  assert.equal(meter.acknowledged(5000, 0, 110)?.waitingShare, 0.4);
  meter.waits(115);
  meter.waits(120);
  assert.equal(meter.acknowledged(6000, 0, 130)?.waitingShare, 0.75);
  // It still waits.
  meter.goesOn(140);
  meter.goesOn(150);
  assert.deepEqual(meter.acknowledged(6400, 0, 170), {
    bytesPerMs: 10,
    waitingShare: 0.25,
    besideShare: 0,
    destinationIdleShare: 0,
  });
});

test("waiting for other threads counts apart", () => {
  const meter = new LinkMeter();
  meter.acknowledged(0, 0, 100);
  meter.waitsBeside(102);
  meter.waitsBeside(104);
  assert.deepEqual(meter.acknowledged(1000, 0, 110), {
    bytesPerMs: 100,
    waitingShare: 0,
    besideShare: 0.8,
    destinationIdleShare: 0,
  });
  // It still waits.
  meter.goesOnBeside(115);
  meter.goesOnBeside(119);
  assert.equal(meter.acknowledged(2000, 0, 130)?.besideShare, 0.25);
});

test("a silence is one long span", () => {
  const meter = new LinkMeter();
  meter.acknowledged(100, 0, 0);
  assert.deepEqual(meter.acknowledged(600, 0, 5000), {
    bytesPerMs: 0.1,
    waitingShare: 0,
    besideShare: 0,
    destinationIdleShare: 0,
  });
});

test("the destination's idle time is a share of the span, whatever it says", () => {
  const meter = new LinkMeter();
  meter.acknowledged(0, 1000, 100);
  assert.equal(meter.acknowledged(1, 1002, 110)?.destinationIdleShare, 0.2);
  assert.equal(meter.acknowledged(2, 2 ** 52, 130)?.destinationIdleShare, 1);
  assert.equal(meter.acknowledged(3, 0, 170)?.destinationIdleShare, 0);
});
