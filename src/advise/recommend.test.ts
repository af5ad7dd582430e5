/** Made-up figures in which each constraint decides once; fronts against their definition. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { paretoFront } from "./pareto.ts";
import { type Candidate, recommend } from "./recommend.ts";

const MB = 1e6;
const GiB = 2 ** 30;

const candidates: readonly Candidate[] = [
  { method: "none", ratio: 1, encodeMsPerMb: 0, memoryBytes: 0 },
  { method: "quick", ratio: 3, encodeMsPerMb: 0.2, memoryBytes: 1 * MB },
  { method: "strong", ratio: 20, encodeMsPerMb: 1, memoryBytes: 200 * MB },
  { method: "slow", ratio: 5, encodeMsPerMb: 20, memoryBytes: 1 * MB },
];
const plenty = { linkBytesPerSecond: 125 * MB, cpuShare: 1, memoryBytes: GiB };

test("a slow link is best used by the best ratio", () => {
  const { method, judgements, reason } = recommend(
    candidates,
    { ...plenty, linkBytesPerSecond: 12.5 * MB },
    10 * MB,
  );
  assert.equal(method, "strong");
  assert.deepEqual(
    judgements.map(({ sustainableBytesPerSecond, limit }) => [
      sustainableBytesPerSecond / MB,
      limit,
    ]),
    [
      [12.5, "link"],
      [37.5, "link"],
      [250, "link"],
      [50, "cpu"],
    ],
  );
  assert.match(
    reason,
    /^strong sustains the most: the VM may dirty 238 MiB\/s .*link of 100 Mbit\/s\./,
  );
  assert.match(reason, /Next is slow with 48 MiB\/s, limited by CPU time\./);
});

test("little CPU time makes a cheaper method the better one", () => {
  const { method, reason } = recommend(candidates, { ...plenty, cpuShare: 0.2 }, 10 * MB);
  assert.equal(method, "quick");
  assert.match(reason, /may dirty 358 MiB\/s/);
});

test("CPU time alone limits on a fast link", () => {
  const fast = { ...plenty, linkBytesPerSecond: 12_500 * MB };
  assert.equal(recommend(candidates, fast, 10 * MB).method, "none");
});

test("what does not fit the memory is not recommended, and that is said", () => {
  const { method, judgements, reason } = recommend(
    candidates,
    { ...plenty, memoryBytes: 100 * MB },
    10 * MB,
  );
  assert.equal(method, "quick");
  assert.equal(judgements[2]?.fitsMemory, false);
  assert.match(reason, /strong would sustain more, but keeps 191 MiB/);
  const nothing = recommend(candidates.slice(1), { ...plenty, memoryBytes: 10 }, 10 * MB);
  assert.equal(nothing.method, undefined);
});

test("of equals the one with less CPU time is taken, then the one with less memory", () => {
  const equal = [
    { method: "a", ratio: 10, encodeMsPerMb: 0.5, memoryBytes: 0 },
    { method: "b", ratio: 9.8, encodeMsPerMb: 0.3, memoryBytes: 9 * MB },
    { method: "c", ratio: 9.9, encodeMsPerMb: 0.3, memoryBytes: 5 * MB },
  ];
  const { method, reason } = recommend(equal, { ...plenty, linkBytesPerSecond: MB }, 0);
  assert.equal(method, "c");
  assert.match(reason, /a sustains about as much, and costs more CPU time or memory/);
});

test("a VM that dirties more than can be sent is told so", () => {
  const { judgements, reason } = recommend(candidates, plenty, 2000 * MB);
  assert.ok(judgements.every(({ fits }) => !fits));
  assert.match(reason, /more than that: it would take 80 % of the link and 200 % of a core/);
});

const tradeoff = fc.record({
  ratio: fc.integer({ min: 1, max: 12 }),
  encodeMsPerMb: fc.integer({ min: 0, max: 12 }),
});

test("the front has exactly those that none beats", () => {
  fc.assert(
    fc.property(fc.array(tradeoff, { maxLength: 20 }), (all) => {
      const isBeaten = (one: (typeof all)[number]) =>
        all.some(
          (other) =>
            other.ratio >= one.ratio &&
            other.encodeMsPerMb <= one.encodeMsPerMb &&
            (other.ratio > one.ratio || other.encodeMsPerMb < one.encodeMsPerMb),
        );
      const front = paretoFront(all);
      assert.deepEqual(new Set(front), new Set(all.filter((one) => !isBeaten(one))));
      const costs = front.map(({ encodeMsPerMb }) => encodeMsPerMb);
      assert.deepEqual(
        costs,
        costs.toSorted((a, b) => a - b),
      );
    }),
  );
});
