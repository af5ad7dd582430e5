import assert from "node:assert/strict";
import { test } from "node:test";
import { skip } from "../e2e/support.ts";
import { soak } from "./soak.ts";

test("four migrations back and forth pass and leave nothing behind [seed 11]", {
  skip,
}, async (context) => {
  const report = await soak({
    count: 4,
    seed: 11,
    withCodecs: false,
    line: (text) => context.diagnostic(text),
  });
  assert.equal(report.passed, 4);
  assert.equal(report.failed, 0);
  assert.deepEqual(report.leftovers, []);
  assert.ok(report.workerBytesLast < 128 << 20);
});
