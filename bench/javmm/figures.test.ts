import assert from "node:assert/strict";
import { test } from "node:test";
import { isSteady, noticed } from "./figures.ts";

/** A beat each 10 ms with 5 operations, except from `from` to `to`. */
function beats(from: number, to: number): [number, number][] {
  const times = Array.from({ length: 500 }, (_, i) => 10_000 + i * 10);
  return times
    .filter((ms) => ms <= from || ms >= to)
    .map((ms, i) => [ms, i * 5] as [number, number]);
}

const moments = { startMs: 12_000, stopMs: 13_000, resumeMs: 13_700, heldMs: 500, endMs: 13_700 };

test("what the bench held the VM for is no downtime of the application", () => {
  const found = noticed(beats(13_000, 13_710), moments, 1000);
  assert.equal(found.appDowntimeMs, 210);
  assert.equal(found.usualGapMs, 10);
  assert.equal(found.operationsPerSecond, 500);
  // 1200 ms at 500 a second, of which 1000 ms were worked.
  assert.equal(found.opsLost, 100);
});

test("a long gap elsewhere in the migration counts", () => {
  const long = beats(12_100, 12_600).filter(([ms]) => ms <= 13_000 || ms >= 13_710);
  assert.equal(noticed(long, moments, 1000).appDowntimeMs, 500);
});

test("a gap before the migration is the usual one", () => {
  const found = noticed(beats(11_500, 11_800), { ...moments, heldMs: 0 }, 1000);
  assert.equal(found.usualGapMs, 300);
  assert.equal(found.appDowntimeMs, 10);
});

test("an application that gets faster is not steady yet", () => {
  assert.equal(isSteady(beats(0, 0), 14_000, 1000), true);
  assert.equal(isSteady(beats(0, 0), 11_500, 1000), false);
  assert.equal(isSteady(beats(13_000, 13_200), 14_000, 1000), false);
});
