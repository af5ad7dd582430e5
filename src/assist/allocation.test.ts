import assert from "node:assert/strict";
import { test } from "node:test";
import { AllocationMeter } from "./allocation.ts";

const eden = 100_000;
const use = (collections: number, used: number) => ({
  collections,
  active: false,
  edenUsedBytes: used,
  edenFreeBytes: eden - used,
});

test("the rate counts what collections emptied in between", () => {
  const meter = new AllocationMeter();
  meter.update(use(3, 10_000), 0);
  assert.equal(meter.bytesPerMs, undefined);
  meter.update(use(3, 20_000), 100);
  assert.equal(meter.bytesPerMs, 100);
  meter.update(use(5, 20_000), 400);
  const rate = (100 * 100 + (200_000 / 300) * 300) / 400;
  assert.equal(Math.round(meter.bytesPerMs ?? 0), Math.round(rate));
  assert.equal(Math.round(meter.fullInMs(use(5, 85_000)) ?? 0), Math.round(15_000 / rate));
});

test("one collection in a short span says nothing, in a long one little is lost", () => {
  const meter = new AllocationMeter();
  meter.update(use(1, 10_000), 0);
  meter.update(use(1, 20_000), 100);
  meter.update(use(2, 5_000), 200);
  assert.equal(meter.bytesPerMs, 100);
  meter.update(use(2, 15_000), 300);
  assert.equal(meter.bytesPerMs, 100);
  meter.update(use(3, 15_000), 1_300);
  assert.equal(meter.bytesPerMs, 100);
});

test("too short a span says nothing; an idle heap never fills", () => {
  const meter = new AllocationMeter();
  meter.update(use(1, 0), 0);
  meter.update(use(1, 50_000), 10);
  assert.equal(meter.bytesPerMs, undefined);
  meter.update(use(1, 0), 100);
  assert.equal(meter.bytesPerMs, 0);
  assert.equal(meter.watchedMs, 100);
  assert.equal(meter.fullInMs(use(1, 0)), undefined);
});

test("a collection that was provoked in a half empty eden is no allocation", async () => {
  const meter = new AllocationMeter();
  meter.update(use(1, 10_000), 0);
  meter.update(use(1, 20_000), 100);
  await meter.pausedFor(async () => meter.update(use(2, 5_000), 200));
  meter.update(use(2, 15_000), 300);
  meter.update(use(2, 25_000), 400);
  assert.equal(meter.bytesPerMs, 100);
  await assert.rejects(meter.pausedFor(() => Promise.reject(new Error("gone"))));
  meter.update(use(2, 35_000), 500);
  meter.update(use(2, 45_000), 600);
  assert.equal(meter.bytesPerMs, 100, "it goes on after a failure");
});

test("nothing is learned from a collection under way: the program stands still, and the counter may lag", () => {
  const meter = new AllocationMeter();
  meter.update({ ...use(1, 90_000), active: true }, 0);
  meter.update({ ...use(1, 90_000), active: true }, 120);
  assert.equal(meter.bytesPerMs, undefined, "it is not idle");
  meter.update(use(2, 5_000), 200);
  meter.update({ ...use(2, 0), active: true }, 300);
  meter.update(use(2, 25_000), 400);
  assert.equal(meter.bytesPerMs, 100);
});

test("where each short span has a collection, two of them tell", () => {
  const meter = new AllocationMeter();
  meter.update(use(1, 50_000), 0);
  meter.update(use(2, 60_000), 120);
  assert.equal(meter.bytesPerMs, undefined);
  meter.update(use(3, 50_000), 250);
  assert.equal(meter.bytesPerMs, 800);
  assert.equal(meter.watchedMs, 250);
  meter.update(use(4, 60_000), 370);
  assert.equal(meter.bytesPerMs, 800);
});

test("a burst at the beginning counts for as long as it lasted", () => {
  const meter = new AllocationMeter();
  meter.update(use(1, 0), 0);
  meter.update(use(1, 60_000), 100);
  meter.update(use(1, 60_000), 1_100);
  assert.equal(Math.round(meter.bytesPerMs ?? 0), Math.round(60_000 / 1_100));
});

test("an eden that is nearly full now will have been emptied, one that nobody fills stays as it is", () => {
  const meter = new AllocationMeter();
  assert.equal(meter.usedLaterBytes(use(1, 90_000), 1_000, 4_000), 90_000);
  meter.update(use(1, 10_000), 0);
  meter.update(use(1, 20_000), 100);
  const later = (used: number, fromMs: number, toMs: number): number =>
    Math.round(meter.usedLaterBytes(use(1, used), fromMs, toMs));
  // 100 bytes per ms: empty again after 100 ms, then up to 40,000.
  assert.equal(later(90_000, 100, 500), 20_000);
  assert.equal(later(20_000, 100, 500), 50_000);
  // Whatever is in it now, after many collections it is half full.
  for (const used of [0, 50_000, 99_000]) {
    const bytes = later(used, 1_000, 101_000);
    assert.ok(bytes > 35_000 && bytes < 65_000, `${bytes}`);
  }
  assert.equal(meter.usedLaterBytes({ ...use(1, 0), edenFreeBytes: 0 }, 0, 1_000), 0);
});
