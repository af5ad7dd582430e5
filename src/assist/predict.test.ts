import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { predict, type PredictionInput } from "./predict.ts";

const mebibyte = 1 << 20;

/** The guest of the figures in docs/JAVMM.md: 480 MB young, 300 MB/s of garbage, a link of 25 MB/s. */
const rapid: PredictionInput = {
  usedBytes: 720 * mebibyte,
  disposableBytes: 480 * mebibyte,
  disposableBytesMax: 480 * mebibyte,
  allocationBytesPerMs: 300_000,
  otherDirtyBytes: 20 * mebibyte,
  otherDirtyMs: 5_000,
  linkBytesPerMs: 25_000,
  downtimeLimitMs: 300,
  holdMs: 550,
  waitMs: 100,
  survivorBytes: 2 * mebibyte,
};

test("rapid short-lived garbage over a slow link: pays, about tenfold", () => {
  const { pays, with: assisted, without } = predict(rapid);
  assert.equal(pays, true);
  assert.ok(without.appDowntimeMs > 15_000, `${without.appDowntimeMs}`);
  assert.ok(assisted.totalMs < without.totalMs / 4);
  assert.ok(assisted.appDowntimeMs < 1_500);
});

test("a small young generation that hardly changes: nothing to gain", () => {
  const small = { disposableBytes: mebibyte, disposableBytesMax: mebibyte };
  const idle = { ...rapid, ...small, allocationBytesPerMs: 10, holdMs: 60 };
  assert.equal(predict(idle).pays, false);
});

test("a fast link and a slow scrub: the standstill would be longer", () => {
  const fast = { ...rapid, linkBytesPerMs: 200_000, allocationBytesPerMs: 100, holdMs: 600 };
  const { pays, text } = predict(fast);
  assert.equal(pays, false);
  assert.match(text, /longer/);
});

test("figures are finite and not negative, whatever is measured", () => {
  const amount = fc.double({ min: 0, max: 1e12, noNaN: true });
  fc.assert(
    fc.property(
      fc.record({
        usedBytes: amount,
        disposableBytes: amount,
        disposableBytesMax: amount,
        allocationBytesPerMs: amount,
        otherDirtyBytes: amount,
        otherDirtyMs: amount,
        linkBytesPerMs: fc.double({ min: 1, max: 1e8, noNaN: true }),
        downtimeLimitMs: fc.double({ min: 1, max: 1e5, noNaN: true }),
        holdMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
        waitMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
        survivorBytes: amount,
      }),
      (input) => {
        const { with: assisted, without } = predict(input);
        for (const estimate of [assisted, without]) {
          for (const value of Object.values(estimate))
            assert.ok(Number.isFinite(value) && value >= 0);
        }
      },
    ),
  );
});

test("a slow allocator stands still twice, for a shorter time each", () => {
  const slow = { ...rapid, allocationBytesPerMs: 10_000, linkBytesPerMs: 50_000, holdMs: 100 };
  const fast = { ...slow, allocationBytesPerMs: 70_000 };
  const [two, one] = [predict(slow).with.appDowntimeMs, predict(fast).with.appDowntimeMs];
  assert.ok(two >= slow.holdMs && two < one, `${two} and ${one} ms`);
  assert.ok(one - two > 80, `${two} and ${one} ms`);
});
