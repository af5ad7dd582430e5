/** VMs that arrived and are not settled: what is decided about them, on whose word, and on what QEMU says now. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Clock, systemClock, systemProcesses } from "../io/index.ts";
import { checkDefinition, runtimePaths, writeVmRecord } from "../qemu/launch/index.ts";
import { FakeQemu } from "../../test/daemon/fake-qemu.ts";
import { startDaemon, temporaryFolder } from "../../test/daemon/harness.ts";
import { type Arrival, Arrivals } from "./arrivals.ts";
import { Kept } from "./kept.ts";
import { createLog } from "./log.ts";
import { Vms } from "./vms.ts";

/** A VM of godwit's whose monitor is a fake and whose process sleeps. */
async function launched(status: string, phase: Arrival["phase"], clock: Clock = systemClock) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const run = join(folder, "run");
  const directory = join(run, "vms/web");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const paths = runtimePaths(directory);
  const child: ChildProcess = spawn("sleep", ["300"], { stdio: "ignore" });
  child.unref();
  scope.defer(() => void child.kill("SIGKILL"));
  const identity = systemProcesses.identify(child.pid ?? 0);
  assert.ok(identity);
  await writeVmRecord({
    ...paths,
    ...identity,
    accelerator: "tcg",
    machineType: "pc-q35-10.0",
    qemuVersion: "10.0.13",
    binary: "qemu",
    startedWallMs: 0,
    definition: checkDefinition({ name: "web", memory: "64M" }),
  });
  const qemu = scope.use(await FakeQemu.listen(paths.qmpPath, status));
  qemu.onCommand = (command) => {
    if (command === "quit") child.kill("SIGKILL");
  };
  const arrival: Arrival = {
    name: "web",
    migrationId: "abc",
    sourceHost: "host1",
    run: true,
    phase,
    sinceWallMs: 0,
    vm: { qmpPath: paths.migrationQmpPath, ...identity, launched: true },
  };
  const log = createLog("silent");
  const vms = new Vms({ runtimeDirectory: run, clock, log });
  const arrivals = new Arrivals(run);
  await arrivals.load();
  await arrivals.put(arrival);
  scope.defer(() => vms.close());
  const kept = new Kept({ arrivals, vms, clock, log, hasArrived: () => false });
  const isAlive = (): boolean => systemProcesses.identify(identity.pid) !== undefined;
  const [start, load] = [() => startDaemon(folder), () => vms.load()];
  const dispose = () => scope.disposeAsync();
  const set = { folder, run, qemu, arrival, arrivals, kept, vms, isAlive, start, load };
  return { ...set, [Symbol.asyncDispose]: dispose };
}

test("a VM that loaded since QEMU last answered is not thrown away", async () => {
  await using set = await launched("inmigrate", "arriving");
  await set.load();
  assert.equal(set.vms.get("web")?.runState, "inmigrate");
  set.qemu.status = "paused";
  set.qemu.mute = true;
  assert.equal(await set.kept.settleByState(set.arrival), "kept");
  assert.ok(set.isAlive());
  assert.equal(set.arrivals.get("web")?.phase, "kept");
});

test("a VM that has not loaded, as QEMU says now, is thrown away", async () => {
  await using set = await launched("inmigrate", "arriving");
  await set.load();
  assert.equal(await set.kept.settleByState(set.arrival), "discarded");
  assert.ok(!set.isAlive());
});

test("a VM whose files cannot be read is not taken for one that has ended", async () => {
  await using set = await launched("paused", "arriving");
  assert.equal(await set.kept.settleByState(set.arrival), "kept");
});

test("an arrival that was settled meanwhile is left alone", async () => {
  await using set = await launched("inmigrate", "arriving");
  await set.load();
  await set.arrivals.put({ ...set.arrival, migrationId: "other" });
  assert.equal(await set.kept.settleByState(set.arrival), undefined);
  await set.arrivals.put({ ...set.arrival, phase: "kept" });
  assert.equal(await set.kept.settleByState(set.arrival), undefined);
  assert.ok(set.isAlive());
});

test("a source that asks too early is told to ask again, before it gives up waiting", async () => {
  let nowMs = 0;
  const hurried: Clock = {
    ...systemClock,
    nowMs: () => nowMs,
    after: (ms, run) => {
      nowMs += ms;
      return systemClock.after(0, run);
    },
  };
  await using set = await launched("inmigrate", "arriving", hurried);
  assert.equal(await set.kept.resolve("abc", "handed-over"), "still arriving");
  assert.ok(nowMs >= 5_000 && nowMs < 15_000, `${nowMs} ms`);
});

test("the source's word is not followed while QEMU does not answer", async () => {
  await using set = await launched("paused", "kept");
  await set.load();
  set.qemu.mute = true;
  for (const outcome of ["handed-over", "aborted"] as const) {
    await assert.rejects(set.kept.resolve("abc", outcome), { code: "TIMEOUT" });
  }
  assert.ok(set.isAlive() && set.arrivals.get("web") !== undefined);
  set.qemu.mute = false;
  assert.equal(await set.kept.resolve("abc", "handed-over"), "running");
  assert.equal(set.qemu.status, "running");
});

test("a VM that somebody runs here is not ended on the source's word", async () => {
  await using set = await launched("running", "kept");
  await set.load();
  assert.equal(await set.kept.resolve("abc", "aborted"), "running");
  assert.ok(set.isAlive());
});

test("that a VM has arrived is remembered, also by the next daemon", async () => {
  await using set = await launched("running", "arriving");
  await set.load();
  assert.equal(await set.kept.settleByState(set.arrival), "running");
  assert.equal(await set.kept.resolve("abc", "handed-over"), "running");
  const next = new Arrivals(set.run);
  await next.load();
  assert.ok(next.hasArrived("abc") && !next.hasArrived("abd"));
  assert.equal(next.get("web"), undefined);
  for (let i = 0; i < 1_000; i++) await next.settle({ ...set.arrival, migrationId: `m${i}` });
  assert.ok(next.hasArrived("m999") && !next.hasArrived("abc"), "bounded");
});

test("after a restart a VM that is seen to run closes its migration as done", async () => {
  await using set = await launched("running", "arriving");
  await using daemon = await set.start();
  const ended = await new Promise<string>((resolve, reject) => {
    const ask = async (): Promise<void> => {
      const [first] = await daemon.client.listMigrations();
      if (first !== undefined && first.state !== "running") resolve(first.state);
      else setTimeout(() => void ask().catch(reject), 20);
    };
    ask().catch(reject);
  });
  assert.equal(ended, "done");
  assert.ok(set.isAlive());
});

test("a VM that still arrives is nobody's to continue or discard", async () => {
  await using set = await launched("inmigrate", "arriving");
  // A worker of the daemon before is still at it.
  const worker = spawn("sleep", ["60"], { stdio: "ignore" });
  worker.unref();
  const identity = systemProcesses.identify(worker.pid ?? 0);
  await mkdir(join(set.run, "workers"), { mode: 0o700 });
  const note = join(set.run, "workers", String(worker.pid));
  await writeFile(note, String(identity?.startTimeTicks));
  {
    await using daemon = await set.start();
    const refused = { code: "CONFLICT", message: /arriving from host1/ };
    await assert.rejects(daemon.client.continueVm("web"), refused);
    await assert.rejects(daemon.client.continueVm("web", true), refused);
    await assert.rejects(daemon.client.discardVm("web"), refused);
  }
  worker.kill();
  assert.ok(set.isAlive() && !set.qemu.commands.includes("cont"));
});

test("a kept VM that has not loaded is not run", async () => {
  await using set = await launched("inmigrate", "kept");
  await using daemon = await set.start();
  await assert.rejects(daemon.client.continueVm("web"), { code: "CONFLICT" });
  assert.ok(!set.qemu.commands.includes("cont"));
});

test("a VM that was handed over is not run again because QEMU was slow to say so", async () => {
  await using set = await launched("paused", "kept");
  await set.arrivals.delete("web");
  await using daemon = await set.start();
  await daemon.client.listVms();
  set.qemu.status = "postmigrate";
  set.qemu.mute = true;
  await assert.rejects(daemon.client.continueVm("web"), { code: "TIMEOUT", message: /--force/ });
  await assert.rejects(daemon.client.discardVm("web"), { code: "TIMEOUT", message: /--kill/ });
  set.qemu.mute = false;
  await assert.rejects(daemon.client.continueVm("web"), {
    code: "CONFLICT",
    message: /handed over/,
  });
  set.qemu.status = "finish-migrate";
  await assert.rejects(daemon.client.continueVm("web"), { code: "CONFLICT" });
  assert.ok(set.isAlive() && !set.qemu.commands.includes("cont"));
});
