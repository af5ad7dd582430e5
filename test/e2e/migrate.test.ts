/** Whole migrations of real guests that check their own memory and disk, between workers without a daemon. */
import assert from "node:assert/strict";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createPrivateCa, issueHostCertificates } from "../../src/io/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { UntouchedMemory } from "../../src/qemu/memory/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { goodTicks, Harness, runState } from "./harness.ts";
import { assertArrived, assertClean, assertOutcome, busyWords, skip } from "./support.ts";

test("a busy VM arrives with all its memory, and goes on to a third place [verify, 1 vCPU]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "one", memory: "128M", words: busyWords });
  const first = await harness.migrate(vm, { verify: true });
  const { there, outcome } = await assertArrived(harness, vm, first);
  assert.equal(outcome.report.verified, true);
  assert.ok(outcome.report.downtimeMs !== undefined && outcome.report.downtimeMs > 0);
  assert.ok(outcome.report.memoryBytes >= 128 << 20);
  assert.equal(outcome.report.hintedFreeBytes, undefined, "its balloon does not say what is free");
  const second = await harness.migrate(there, { verify: true });
  await assertArrived(harness, there, second);
});

test("random pages are left out of every round and the memory is equal all the same [30 %, 2 vCPUs; then 100 %]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const guest = { name: "drops", memory: "128M", vcpus: 2, words: busyWords };
  const vm = await harness.guest(guest);
  const some = await harness.migrate(vm, { verify: true, dropShare: 0.3, dropSeed: 7 });
  const { there, outcome } = await assertArrived(harness, vm, some);
  assert.ok(outcome.report.droppedCount > 1000, "pages were left out");
  assert.ok(outcome.report.staleFetchedCount > 100, "and fetched in the end");
  const all = await harness.migrate(there, { verify: true, dropShare: 1 });
  const last = await assertArrived(harness, there, all);
  const { pageCount, staleFetchedCount } = last.outcome.report;
  assert.equal(pageCount, 0, "no page with content went during the rounds");
  assert.ok(staleFetchedCount > 1000, "all went in the end");
});

test("a VM that writes faster than the link carries is switched over when its rounds stop shrinking [verify]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const words = "godwit.run=writer godwit.mb=48 godwit.rate=120 godwit.mode=touch godwit.tickms=50";
  const vm = await harness.guest({ name: "stubborn", memory: "160M", words });
  const run = await harness.migrate(vm, {
    verify: true,
    bandwidthBytesPerSecond: 60e6,
    downtimeLimitMs: 100,
  });
  const { outcome } = await assertArrived(harness, vm, run);
  assert.match(run.source.said.join("\n"), /rounds no longer shrink: the guest dirties \d+ MiB\/s/);
  assert.ok(outcome.report.rounds >= 3);
});

test("memory that is zero is not touched at the destination [idle, 512 MiB]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const words = "godwit.run=idle godwit.tickms=100";
  const vm = await harness.guest({ name: "sparse", memory: "512M", words });
  const { there } = await assertArrived(harness, vm, await harness.migrate(vm));
  await using qmp = await QmpClient.connect(there.migrationQmpPath);
  using memory = await UntouchedMemory.open(qmp, there.pid);
  assert.ok(memory !== undefined, "it can be judged");
  const pageCount = (512 << 20) / 4096;
  let touchedCount = 0;
  const isKnown = memory.look("pc.ram", 0, pageCount, () => touchedCount++);
  assert.ok(isKnown);
  assert.ok(touchedCount < pageCount * 0.5, `${touchedCount} of ${pageCount} pages`);
});

test("memory that the guest says it does not use is not sent, and shown apart [free-page-hint]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({
    name: "hinting",
    memory: "256M",
    // Else the kernel clears memory as it takes it to report it, which makes it used.
    words: `${busyWords} init_on_alloc=0`,
    more: { balloon: { freePageHint: true } },
  });
  // The guest has time to tell before QEMU comes to most of it.
  const run = await harness.migrate(vm, { bandwidthBytesPerSecond: 32e6 });
  const { report } = (await assertArrived(harness, vm, run)).outcome;
  const { hintedFreeBytes = 0, memoryBytes } = report;
  // The writer's memory and the kernel's are used.
  const freeBytesMax = memoryBytes - (32 << 20);
  assert.ok(hintedFreeBytes >= 32 << 20 && hintedFreeBytes < freeBytesMax, `${hintedFreeBytes}`);
});

test("a paused VM arrives paused, and runs when it is told to [verify]", { skip }, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "paused", memory: "128M", words: busyWords });
  await command(vm, "stop");
  const run = await harness.migrate(vm, { verify: true });
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "done");
  const arrived = await (await run.destination).outcome;
  assertOutcome(arrived, "done");
  assert.match(arrived.text, /paused as it was/);
  const there = await run.prepared;
  assert.equal(await runState(vm), "postmigrate");
  assert.equal(await runState(there), "paused");
  assert.equal(await goodTicks(there), 0);
  await assertClean(harness, run);
  await command(there, "cont");
  await harness.ticks(there, 2);
});

for (const machine of ["pc", "q35", "microvm"]) {
  test(`a ${machine} arrives with its disk, network card, serial port and balloon at work [verify, TLS]`, {
    skip,
  }, async () => {
    await using harness = await Harness.create();
    const disk = join(harness.directory, "disk.raw");
    await writeFile(disk, "");
    await truncate(disk, 32 << 20);
    const authority = join(harness.directory, "ca");
    await createPrivateCa(authority);
    const tlsDirectory = await issueHostCertificates(authority, "here", {
      ipAddresses: ["127.0.0.1"],
    });
    const vm = await harness.guest({
      name: "devices",
      memory: "128M",
      machine,
      words: `${busyWords} godwit.disk=1 godwit.ip=10.0.2.15/24`,
      more: { disks: [{ file: disk }], networks: [{ type: "user" }] },
    });
    await harness.diskTicks(vm, 2);
    const run = await harness.migrate(vm, { verify: true }, { tlsDirectory, insecure: false });
    const { there } = await assertArrived(harness, vm, run);
    await harness.diskTicks(there, 3);
  });
}

async function command(vm: LaunchedVm, name: "stop" | "cont"): Promise<void> {
  await using qmp = await QmpClient.connect(vm.qmpPath);
  await qmp.execute(name);
}
