import assert from "node:assert/strict";
import { test } from "node:test";
import { roundsText } from "./rounds.ts";

const nothing = {
  startMs: 0,
  durationMs: 1200,
  dirtyBytes: 0,
  pageCount: 0,
  zeroCount: 0,
  droppedCount: 0,
  droppedAreaCount: 0,
  staleFetchedCount: 0,
  compressedAwayBytes: 0,
  wireBytes: 0,
};

test("each round's bytes by kind; a kind that did not occur has no column", () => {
  const first = { ...nothing, index: 1, dirtyBytes: 64 << 20, pageCount: 2560, zeroCount: 12_800 };
  const rounds = [
    { ...first, droppedCount: 1024, droppedAreaCount: 768, wireBytes: 11 << 20 },
    {
      ...nothing,
      index: 2,
      durationMs: 45,
      dirtyBytes: 1 << 20,
      pageCount: 256,
      wireBytes: 1 << 20,
    },
  ];
  assert.equal(
    roundsText(rounds),
    `ROUND  TIME   DIRTY     SENT      ZERO      YOUNG LEFT OUT  AREAS LEFT OUT  ON THE WIRE
1      1.2 s  64.0 MiB  10.0 MiB  50.0 MiB  1.0 MiB         3.0 MiB         11.0 MiB
2      45 ms  1.0 MiB   1.0 MiB   0 B       0 B             0 B             1.0 MiB`,
  );
});

test("of many rounds the first and the last are shown", () => {
  const rounds = Array.from({ length: 200 }, (_, i) => ({ ...nothing, index: i + 1 }));
  const lines = (roundsText(rounds) ?? "").split("\n").slice(1);
  assert.deepEqual(
    lines.map((line) => line.split(" ")[0]),
    ["1", "2", "3", "...", "194", "195", "196", "197", "198", "199", "200"],
  );
  assert.equal(roundsText(rounds.slice(0, 11))?.split("\n").length, 12);
});

test("nothing is said without rounds", () => {
  assert.equal(roundsText([]), undefined);
});
