import assert from "node:assert/strict";
import { test } from "node:test";
import { type Run, summarize } from "./summary.ts";

function run(name: string, totalMs: number, more: Partial<Run> = {}): Run {
  return {
    workload: "javac",
    collector: "G1",
    case: name,
    run: 1,
    finished: true,
    totalMs,
    downtimeMs: 100,
    wireBytes: totalMs * 1000,
    verified: true,
    appDowntimeMs: totalMs / 10,
    appDowntimeEndMs: undefined,
    usualGapMs: 10,
    operationsPerSecond: 100,
    opsLost: 1,
    ...more,
  };
}

test("cases are compared with xen-rule where it ran, with plain godwit elsewhere, by medians of each workload and collector", () => {
  const runs = [
    run("godwit", 1000),
    run("godwit", 3000),
    run("godwit", 2000),
    run("godwit-assist", 500),
    run("xen-rule", 4000, { collector: "Serial" }),
    run("godwit", 2000, { collector: "Serial" }),
    run("godwit-assist", 400, { collector: "Serial" }),
    run("godwit-assist", 300, { workload: "alone" }),
  ];
  const told = summarize(runs).map((one) => [
    `${one.workload} ${one.collector} ${one.case}`,
    one.reference,
    one.totalPercent,
    one.wirePercent,
    one.appDowntimePercent,
  ]);
  assert.deepEqual(told, [
    ["javac G1 godwit", "godwit", 100, 100, 100],
    ["javac G1 godwit-assist", "godwit", 25, 25, 25],
    ["javac Serial xen-rule", "xen-rule", 100, 100, 100],
    ["javac Serial godwit", "xen-rule", 50, 50, 50],
    ["javac Serial godwit-assist", "xen-rule", 10, 10, 10],
    ["alone G1 godwit-assist", null, null, null, null],
  ]);
});

test("of what did not finish there is no time, and nothing to compare", () => {
  const [plain, assisted] = summarize([
    run("godwit", 1000, { finished: false }),
    run("godwit-assist", 500),
  ]);
  assert.equal(plain?.totalMs, null);
  assert.equal(assisted?.totalPercent, null);
  assert.equal(assisted?.wirePercent, null);
});
