/** Small things that the end-to-end tests share. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { isRunning, sleep, systemClock, systemProcesses } from "../../src/io/index.ts";
import type { MigrationOutcome } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { findQemu } from "../../src/qemu/probe/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { type Harness, type MigrationRun, runState } from "./harness.ts";

/** The option `skip` of tests that need a QEMU: false, or why there is none. */
export const skip: string | false = await findQemu().then(
  () => false as const,
  (error: unknown) => String(error),
);

/** Writes to its memory without end; a round of it takes long enough to be seen. */
export const busyWords =
  "godwit.run=writer godwit.mb=24 godwit.rate=40 godwit.mode=touch godwit.tickms=50";

export function assertOutcome(
  outcome: MigrationOutcome,
  result: MigrationOutcome["result"],
  code?: string,
): void {
  assert.equal(outcome.result, result, outcome.text);
  assert.equal(outcome.error?.code, code, outcome.text);
  assert.ok(outcome.text.length > 10, outcome.text);
}

/** The source said done, the VM runs at the destination only, its own checks go on, and nothing is left behind. */
export async function assertArrived(
  harness: Harness,
  vm: LaunchedVm,
  run: MigrationRun,
): Promise<{ there: LaunchedVm; outcome: MigrationOutcome }> {
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "done");
  const there = await run.prepared;
  const arrived = await (await run.destination).outcome;
  assertOutcome(arrived, "done");
  assert.equal(await runState(vm), "postmigrate");
  assert.equal(await runState(there), "running");
  await harness.ticks(there, 2);
  await assertClean(harness, run);
  return { there, outcome };
}

/** The VM runs at the source, its own checks go on, the destination's QEMU is gone, and nothing is left behind. */
export async function assertStayed(
  harness: Harness,
  vm: LaunchedVm,
  run: MigrationRun,
): Promise<void> {
  assert.equal(await runState(vm), "running");
  await harness.ticks(vm, 2);
  await assertClean(harness, run);
  const there = await Promise.race([run.prepared, sleep(systemClock, 0)]);
  if (there !== undefined) await gone(there);
}

export async function gone(vm: LaunchedVm, deadlineMs = 10_000): Promise<void> {
  const endMs = systemClock.nowMs() + deadlineMs;
  while (isRunning(systemProcesses, vm)) {
    assert.ok(systemClock.nowMs() < endMs, `QEMU ${vm.pid} was left behind`);
    await sleep(systemClock, 20);
  }
}

/** Both workers have ended by themselves; no socket, no note. */
export async function assertClean(
  harness: Harness,
  run: Pick<MigrationRun, "source" | "destination">,
): Promise<void> {
  assert.equal(await run.source.ended, "exit code 0");
  const destination = await Promise.race([run.destination, sleep(systemClock, 0)]);
  if (destination !== undefined) assert.equal(await destination.ended, "exit code 0");
  assert.deepEqual(await leftovers(harness), []);
}

/** Files in the runtime directories of both sides. */
export async function leftovers(harness: Harness): Promise<string[]> {
  const found: string[] = [];
  for (const directory of [await harness.sourceDirectory(), await harness.destinationDirectory()]) {
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.isDirectory()) found.push(entry.name);
    }
  }
  return found.toSorted();
}

/** Every setting that a migration might change. */
export async function migrationSettings(vm: LaunchedVm): Promise<unknown> {
  await using qmp = await QmpClient.connect(vm.qmpPath);
  const capabilities = await qmp.execute("query-migrate-capabilities");
  const parameters = await qmp.execute("query-migrate-parameters");
  return { capabilities, parameters };
}
