/** What a source QEMU's answers mean for a migration that broke off. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../io/index.ts";
import { FakeQemu } from "../../test/daemon/fake-qemu.ts";
import { temporaryFolder } from "../../test/daemon/harness.ts";
import { lookAtQemu } from "./recovery.ts";

async function source(status: string, migration: string) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const qmpPath = join(folder, "q.sock");
  const qemu = scope.use(await FakeQemu.listen(qmpPath, status));
  qemu.migration = migration;
  const transport = { insecure: false };
  const journal = { migrationId: "abc", vmName: "web", host: "h", port: 1, qmpPath, transport };
  const look = (more: { pid?: number } = {}, waitMs = 30_000) =>
    lookAtQemu(systemClock, { waitMs })({ ...journal, ...more }, () => false);
  return { qemu, look, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

for (const [run, migration, outcome] of [
  ["running", "failed", "aborted"],
  ["running", "cancelled", "aborted"],
  ["running", "none", "aborted"],
  ["paused", "failed", "aborted"],
  ["postmigrate", "completed", "handed-over"],
  ["running", "completed", "unknown"],
  ["running", "active", "unknown"],
  ["finish-migrate", "device", "unknown"],
  ["finish-migrate", "active", "unknown"],
  ["finish-migrate", "failed", "unknown"],
] as const) {
  test(`the VM is ${run}, its migration ${migration}: ${outcome}`, async () => {
    await using set = await source(run, migration);
    assert.equal((await set.look({}, 300)).outcome, outcome);
  });
}

for (const [migration, run, outcome] of [
  ["completed", "postmigrate", "handed-over"],
  ["failed", "running", "aborted"],
] as const) {
  test(`a QEMU that is about to decide is waited for (${migration})`, async () => {
    await using set = await source("finish-migrate", "device");
    let count = 0;
    set.qemu.onCommand = (command) => {
      if (command !== "query-migrate" || ++count < 3) return;
      set.qemu.status = run;
      set.qemu.migration = migration;
    };
    assert.equal((await set.look()).outcome, outcome);
    assert.ok(!set.qemu.commands.includes("cont"));
  });
}

test("a QEMU that took the place of one that is gone answers for nothing", async () => {
  await using set = await source("running", "none");
  const child = spawn("true");
  const { pid = 0 } = child;
  await new Promise((resolve) => child.on("exit", resolve));
  const gone = await set.look({ pid });
  assert.equal(gone.outcome, "unknown");
  assert.match(gone.text, /process \d+\) is gone.*godwit continue web/);
  assert.deepEqual(set.qemu.commands, []);
});

test("a path that another process serves answers for nothing", async () => {
  await using set = await source("running", "none");
  const other = spawn("sleep", ["60"]);
  const found = await set.look({ pid: other.pid ?? 0 });
  other.kill();
  assert.equal(found.outcome, "unknown");
  assert.match(found.text, /belongs to another process/);
  assert.equal((await set.look({ pid: process.pid })).outcome, "aborted");
});
