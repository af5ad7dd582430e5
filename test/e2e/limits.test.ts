/** What the user's limits do, with a guest that writes faster than they let it be copied. One guest for all. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sleep, systemClock } from "../../src/io/index.ts";
import type { MigrateOptions } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { Harness, type MigrationRun } from "./harness.ts";
import { assertArrived, assertOutcome, assertStayed, migrationSettings, skip } from "./support.ts";

const words = "godwit.run=writer godwit.mb=48 godwit.rate=100 godwit.mode=touch godwit.tickms=50";
const slow: Partial<MigrateOptions> = { bandwidthBytesPerSecond: 50e6, downtimeLimitMs: 50 };

let harness: Harness;
/** Where the guest runs now. */
let vm: LaunchedVm;
let settings: unknown;

before(async () => {
  if (skip !== false) return;
  harness = await Harness.create();
  vm = await harness.guest({ name: "limits", memory: "160M", words });
  settings = await migrationSettings(vm);
});
after(async () => {
  await harness?.[Symbol.asyncDispose]();
});

async function stays(run: MigrationRun, result: "failed" | "cancelled", code: string) {
  const outcome = await run.source.outcome;
  assertOutcome(outcome, result, code);
  assert.match(outcome.text, /; limits stays here$/);
  await assertStayed(harness, vm, run);
  assert.deepEqual(await migrationSettings(vm), settings, "QEMU's settings are put back");
  return outcome;
}

test("the bandwidth limit holds, and the user's cancel puts everything back [50 MB/s]", {
  skip,
}, async () => {
  const run = await harness.migrate(vm, { ...slow, whenStalled: "continue" });
  await run.source.reached("rounds");
  await sleep(systemClock, 600);
  const from = run.source.progress;
  await sleep(systemClock, 2_000);
  const to = run.source.progress;
  assert.ok(from !== undefined && to !== undefined);
  const bytes = to.wireBytes - from.wireBytes;
  const rate = bytes / ((to.elapsedMs - from.elapsedMs) / 1000);
  run.source.cancel();
  const outcome = await stays(run, "cancelled", "CANCELLED");
  assert.match(outcome.text, /cancelled by the user/);
  assert.ok(rate < 1.1 * 50e6, `${Math.round(rate)} bytes a second`);
  assert.ok(rate > 0.3 * 50e6, `${Math.round(rate)} bytes a second`);
});

test("cancelled while both sides get ready, it leaves QEMU's settings as they were", {
  skip,
}, async () => {
  for (const afterMs of [0, 2, 5, 10, 20, 40]) {
    const run = await harness.migrate(vm, { ...slow, verify: afterMs % 4 === 0 });
    await run.source.reached("setup");
    if (afterMs > 0) await sleep(systemClock, afterMs);
    run.source.cancel();
    await stays(run, "cancelled", "CANCELLED");
  }
});

test("a migration that takes longer than its timeout is cancelled [timeout cancel]", {
  skip,
}, async () => {
  const run = await harness.migrate(vm, { ...slow, whenStalled: "continue", timeoutMs: 2_500 });
  const outcome = await stays(run, "failed", "TIMEOUT");
  assert.match(outcome.text, /the migration took longer than 2500 ms/);
});

test("rounds that do not shrink end the migration when the user wants that [when-stalled cancel]", {
  skip,
}, async () => {
  const run = await harness.migrate(vm, { ...slow, whenStalled: "cancel" });
  const outcome = await stays(run, "cancelled", "CANCELLED");
  assert.match(outcome.text, /rounds no longer shrink: .* more than the limit of 50 ms/);
});

test("a migration that takes longer than its timeout is switched over [timeout switch-over]", {
  skip,
}, async () => {
  const timeout = { timeoutMs: 4_000, timeoutAction: "switch-over" } as const;
  const run = await harness.migrate(vm, { ...slow, whenStalled: "continue", ...timeout });
  const { there } = await assertArrived(harness, vm, run);
  assert.ok(run.source.said.includes("the timeout passed: switching over now"));
  vm = there;
});

test("the switch-over waits until the rest fits the downtime limit [1 s]", { skip }, async () => {
  const run = await harness.migrate(vm, { downtimeLimitMs: 1_000 });
  const { there, outcome } = await assertArrived(harness, vm, run);
  assert.match(
    run.source.said.join("\n"),
    /MiB are left, about \d+ ms: within the limit of 1000 ms/,
  );
  // Twice the limit: this machine may be busy with other tests.
  assert.ok((outcome.report.downtimeMs ?? Number.POSITIVE_INFINITY) < 2_000);
  vm = there;
});
