import assert from "node:assert/strict";
import { test } from "node:test";
import { FlightWindow } from "./flight-window.ts";

type Kind = "usual" | "bulk" | "compressed bulk";

/** A link of a given rate and one-way delay with an endless buffer; answers bytes in flight and rate after `seconds`. */
function simulate(bytesPerMs: number, delayMs: number, seconds: number, kind: Kind) {
  const window = new FlightWindow(kind === "compressed bulk");
  window.isBulk = kind !== "usual";
  const arriving: { atMs: number; bytes: number }[] = [];
  let linkFreeMs = 0;
  let total = 0;
  let recent = 0;
  let carriedBytesPerMs = 0;
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs++) {
    while (arriving[0] !== undefined && arriving[0].atMs <= nowMs) {
      total = (arriving.shift() as { bytes: number }).bytes;
      window.acknowledged(total, nowMs, carriedBytesPerMs);
    }
    if (nowMs % 100 === 0) {
      carriedBytesPerMs = (total - recent) / 100;
      recent = total;
    }
    for (let i = 0; i < 1000 && !window.isFull; i++) {
      window.sent(64 << 10, nowMs);
      linkFreeMs = Math.max(linkFreeMs, nowMs) + (64 << 10) / bytesPerMs;
      arriving.push({ atMs: linkFreeMs + 2 * delayMs, bytes: window.sentBytes });
    }
  }
  return { inFlightBytes: window.sentBytes - window.ackedBytes, carriedBytesPerMs };
}

for (const [name, bytesPerMs, delayMs] of [
  ["100 Mbit/s, same rack", 12_500, 0.1],
  ["1 Gbit/s, same rack", 125_000, 0.1],
  ["1 Gbit/s, 40 ms round trip", 125_000, 20],
  ["200 Mbit/s, 100 ms round trip", 25_000, 50],
] as const) {
  test(`the link stays busy and the queue short [${name}]`, () => {
    for (const [kind, drainMsMin, drainMsMax] of [
      ["usual", 0, 60],
      ["bulk", 60, 180],
      ["compressed bulk", 180, 340],
    ] as const) {
      const { inFlightBytes, carriedBytesPerMs } = simulate(bytesPerMs, delayMs, 20, kind);
      assert(carriedBytesPerMs > bytesPerMs * 0.95, `${carriedBytesPerMs} of ${bytesPerMs}`);
      const drainMs = inFlightBytes / bytesPerMs - 2 * delayMs;
      assert(drainMs < drainMsMax, `${drainMs} ms would have to drain`);
      const isBounded = inFlightBytes >= 16 << 20;
      assert(isBounded || drainMs > drainMsMin, `${drainMs} ms are no queue for ${kind}`);
    }
  });
}

test("an acknowledgement that goes back or ahead is impossible", () => {
  const window = new FlightWindow();
  window.sent(100, 0);
  assert.equal(window.acknowledged(101, 1, 1), false);
  assert.equal(window.acknowledged(50, 1, 1), true);
  assert.equal(window.acknowledged(49, 1, 1), false);
});
