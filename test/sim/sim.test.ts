import assert from "node:assert/strict";
import { test } from "node:test";
import { canaries } from "./canaries.ts";
import { Coverage } from "./coverage.ts";
import { World } from "./world.ts";

const seedCount = 10_000;

test("a migration keeps its promises under faults, and every fault hits every phase (seeds 1 to 10,000)", () => {
  const coverage = new Coverage();
  for (let seed = 1; seed <= seedCount; seed++) {
    const world = new World(seed).run();
    assert.deepEqual(world.violations, [], `replay with: npm run sim -- ${seed}`);
    coverage.add(world);
  }
  assert.deepEqual(coverage.missing(), []);
});

test("the same seed gives the same run, to the last line", () => {
  for (const seed of [1, 2, 3, 1234]) {
    const [first, second] = [new World(seed, { trace: true }), new World(seed, { trace: true })];
    assert.deepEqual(first.run().lines, second.run().lines);
  }
});

test("reading the trace changes nothing", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const traced = new World(seed, { trace: true }).run();
    assert.deepEqual(traced.outcomes, new World(seed).run().outcomes);
  }
});

for (const { name, machines, violation } of canaries) {
  test(`the simulator catches a mistake (canary: ${name})`, () => {
    for (let seed = 1; seed <= seedCount; seed++) {
      const { violations } = new World(seed, { machines }).run();
      if (violations.some((text) => violation.test(text))) return;
    }
    assert.fail(`no seed up to ${seedCount} caught it`);
  });
}
