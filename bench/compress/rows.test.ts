import assert from "node:assert/strict";
import { test } from "node:test";
import { lineOf, resultsIn, type Whole } from "./rows.ts";
import { summarize } from "./summary.ts";

const moments = { startMs: 0, stopMs: undefined, resumeMs: undefined, heldMs: 0, endMs: 9 };
const done: Whole = {
  workload: "redis",
  link: 200,
  case: "godwit-auto",
  run: 2,
  finished: true,
  setupMs: 60,
  totalMs: 4_321,
  downtimeMs: 99,
  rounds: 3,
  wireBytes: 123_456,
  verified: true,
  ratio: 2.5,
  encodeMs: 700,
  moments,
  own: { ownTotalMs: 4_300, assist: {}, roundDetails: [] },
};
const givenUp: Whole = {
  ...done,
  case: "qemu-xbzrle",
  finished: false,
  setupMs: undefined,
  totalMs: undefined,
  downtimeMs: undefined,
  verified: undefined,
  ratio: undefined,
  encodeMs: undefined,
};

test("what is printed and read again gives the same summary", () => {
  const lines = [done, givenUp].map((one) => JSON.stringify(lineOf(one, { memoryMb: 512 })));
  const names = { workload: "idle", link: 100, case: "godwit-lz4", run: 1 };
  const others = [{ bench: "compress-link" }, { bench: "compress", ...names, error: "QEMU ended" }];
  const text = [...lines, ...others.map((line) => JSON.stringify(line)), ""].join("\n");
  const { runs, failures } = resultsIn(text);
  assert.deepEqual(summarize(runs), summarize([done, givenUp]));
  assert.deepEqual(failures, ["idle 100 Mbit/s godwit-lz4: QEMU ended"]);
});

test("what is no output of the bench is refused", () => {
  assert.throws(() => resultsIn("{"), /no line of this bench/);
  assert.throws(() => resultsIn("7"), /no line of this bench/);
  assert.throws(() => resultsIn('{"bench":"compress","workload":7}'), /workload is no text/);
  const { wireBytes: _, ...rest } = done;
  assert.throws(
    () => resultsIn(JSON.stringify({ bench: "compress", ...rest })),
    /without wireBytes/,
  );
});
