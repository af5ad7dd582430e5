import assert from "node:assert/strict";
import { test } from "node:test";
import { Link } from "./surroundings.ts";

/** The destination has no time: QEMU loads memory. */
const busy = { waitingShare: 0.6, idleShare: 0.6, besideShare: 0, destinationIdleShare: 0 };

test("what the destination left lying is no sign of a faster link, more than can lie there is", () => {
  const link = new Link();
  const first = link.bytesPerMs;
  const rate = first * 2;
  link.seen({ ...busy, bytesPerMs: first / 2 }, 50, false);
  for (let arrived = 0; arrived + (rate - first) * 50 <= 16 << 20; arrived += (rate - first) * 50) {
    link.seen({ ...busy, bytesPerMs: rate }, 50, false);
    assert.equal(link.bytesPerMs, first);
  }
  link.seen({ ...busy, bytesPerMs: rate }, 50, false);
  assert.ok(link.bytesPerMs > first * 1.5 && link.bytesPerMs <= rate, `${link.bytesPerMs}`);
});

test("after the destination has taken all there was the count begins anew", () => {
  const link = new Link();
  const first = link.bytesPerMs;
  for (let i = 0; i < 20; i++) {
    link.seen({ ...busy, bytesPerMs: first / 2, destinationIdleShare: 0.5 }, 50, false);
    link.seen({ ...busy, bytesPerMs: first / 2 }, 50, false);
    link.seen({ ...busy, bytesPerMs: first * 2 }, 50, false);
  }
  assert.ok(link.bytesPerMs <= first);
});

test("a destination that takes it unevenly shows no faster link", () => {
  const link = new Link();
  const first = link.bytesPerMs;
  link.seen({ ...busy, bytesPerMs: first / 2 }, 50, false);
  for (let i = 0; i < 200; i++) {
    link.seen({ ...busy, bytesPerMs: first * (i % 2 === 0 ? 1.4 : 0.6) }, 50, false);
    assert.equal(link.bytesPerMs, first);
  }
});

/** Full, and both sides have time. */
const full = { waitingShare: 0.9, idleShare: 0.9, besideShare: 0, destinationIdleShare: 0.9 };

/** Of 200 Mbit/s, seen for half a second. */
function slowLink(): Link {
  const link = new Link();
  for (let i = 0; i < 10; i++) link.seen({ ...full, bytesPerMs: 25_000 }, 50, false);
  assert.equal(link.bytesPerMs, 25_000);
  return link;
}

test("where the destination stands still now and then little is hoped of a link that was full, and bursts say nothing", () => {
  const link = slowLink();
  const stall = { ...busy, idleShare: 0, waitingShare: 0 };
  for (let i = 0; i < 40; i++) {
    const bytesPerMs = [2_000, 12_000, 38_000, 48_000][i % 4] as number;
    link.seen({ ...stall, bytesPerMs }, 50, false);
    assert.ok(link.bytesPerMs < 35_000, `${link.bytesPerMs}`);
  }
  link.seen({ ...full, bytesPerMs: 25_000 }, 50, false);
  assert.equal(link.bytesPerMs, 25_000);
});

test("one that was idle for a part of the time may have left the rest lying", () => {
  const link = slowLink();
  link.seen({ ...full, bytesPerMs: 12_000, destinationIdleShare: 0.4 }, 50, false);
  const beforeBytesPerMs = link.bytesPerMs;
  link.seen({ ...full, bytesPerMs: 38_000 }, 50, false);
  assert.equal(link.bytesPerMs, beforeBytesPerMs);
});

test("a link that became faster is seen to be, a little faster too", () => {
  for (const [bytesPerMs, destinationIdleShare] of [
    [32_000, 0.9],
    [32_000, 0.4],
    [100_000, 0.4],
  ] as const) {
    const link = slowLink();
    for (let i = 0; i < 8; i++) link.seen({ ...full, bytesPerMs, destinationIdleShare }, 50, false);
    assert.ok(Math.abs(link.bytesPerMs - bytesPerMs) < bytesPerMs * 0.03, `${link.bytesPerMs}`);
  }
});

test("who is busy while the link carries what it always did has not found it to be faster", () => {
  const thread = { ...full, idleShare: 0, waitingShare: 0, destinationIdleShare: 0.5 };
  const link = slowLink();
  for (let i = 0; i < 24; i++) link.seen({ ...thread, bytesPerMs: 23_500 }, 50, false);
  assert.ok(link.bytesPerMs < 30_000, `${link.bytesPerMs}`);
  // It carries less than it could: there is room.
  for (let i = 0; i < 24; i++) link.seen({ ...thread, bytesPerMs: 12_000 }, 50, false);
  assert.ok(link.bytesPerMs > 60_000, `${link.bytesPerMs}`);
});
