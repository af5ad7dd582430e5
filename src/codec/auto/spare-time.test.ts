import assert from "node:assert/strict";
import { test } from "node:test";
import { SpareTime } from "./spare-time.ts";
import type { Seen } from "./surroundings.ts";

const left: Seen = {
  bytesPerMs: 25e3,
  waitingShare: 0.7,
  idleShare: 0.6,
  besideShare: 0,
  destinationIdleShare: 0.8,
};
/** The link has room, and this thread nothing left. */
const busy: Seen = { ...left, waitingShare: 0, idleShare: 0.02 };

/** Looks every 50 ms until then. */
function looking(time: SpareTime) {
  let nowMs = 0;
  return (seen: Seen, untilMs: number, encodeShare = 0, isLinkUsed = false): boolean => {
    for (; nowMs < untilMs; nowMs += 50) time.look(seen, encodeShare, isLinkUsed, nowMs);
    return time.isThere;
  };
}

test("time is there once both sides have had half of it left for 50 ms, what is encoded in apart", () => {
  const look = looking(new SpareTime());
  assert.equal(look(left, 50), false, "the first look");
  assert.equal(look(left, 100), true);
  const other = looking(new SpareTime());
  assert.equal(other({ ...left, destinationIdleShare: 0.4 }, 1_000), false, "the destination");
  assert.equal(other({ ...left, idleShare: 0.1 }, 2_000, 0.3), false, "this side");
  assert.equal(other({ ...left, idleShare: 0.1 }, 2_100, 0.5), true, "it only encodes");
  const beside = looking(new SpareTime());
  assert.equal(beside({ ...left, idleShare: 0.1, besideShare: 0.5 }, 100), true, "or others do");
});

test("it is gone after three looks in a row at a side that has none, and then has to be there for a second, for four, …", () => {
  const look = looking(new SpareTime());
  look(left, 100);
  assert.equal(look(busy, 200), true, "two looks");
  assert.equal(look(left, 250), true);
  assert.equal(look(busy, 400), false, "three");
  assert.equal(look(left, 1_400), false);
  assert.equal(look(left, 1_450), true);
  assert.equal(look(busy, 1_600), false);
  assert.equal(look(left, 5_600), false);
  assert.equal(look(left, 5_650), true);
});

test("a full link is not a sign of a side without time", () => {
  const look = looking(new SpareTime());
  look(left, 100);
  assert.equal(look({ ...left, idleShare: 0.02 }, 1_000), true);
  assert.equal(look(busy, 2_000, 0, true), true, "nor one that carries what it can");
  assert.equal(look(busy, 2_150), false);
});
