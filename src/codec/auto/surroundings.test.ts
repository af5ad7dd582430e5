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
  assert.equal(link.bytesPerMs, rate);
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
