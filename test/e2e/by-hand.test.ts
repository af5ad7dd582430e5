/**
 * QEMUs that somebody started by hand (`godwit send` and `godwit receive`): godwit is told their monitors and nothing else. 5 GB
 * of memory, so that part of it lies above the hole below 4 GB, which QEMU addresses in a second piece.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { buildGuestImage } from "../../guest/image/build.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { findQemu } from "../../src/qemu/probe/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { Harness, type MigrationRun, stopped, type Worker } from "./harness.ts";
import { assertClean, assertOutcome, skip } from "./support.ts";

/** What a worker may use beside its bitmaps. */
const workerBytesMax = 128 << 20;

class HandMade implements AsyncDisposable {
  readonly monitorPath: string;
  readonly migratePath: string;
  readonly #consolePath: string;
  readonly #child: ChildProcess;

  constructor(command: readonly string[], machine: string, directory: string, incoming: boolean) {
    const at = (name: string): string => join(directory, `${incoming ? "to" : "from"}-${name}`);
    this.monitorPath = at("qmp");
    this.migratePath = at("qmp2");
    this.#consolePath = at("console");
    const bus = machine === "microvm" ? "device" : "pci";
    const [binary = "", ...first] = command;
    const words = "console=ttyS0 quiet panic=-1 random.trust_cpu=on tsc_early_khz=2000000";
    const work = "godwit.run=writer godwit.mb=64 godwit.rate=30 godwit.mode=touch godwit.tickms=50";
    const args = [
      first,
      ["-machine", machine, "-accel", "tcg", "-cpu", "max,-erms,-fsrm", "-smp", "2", "-m", "5G"],
      ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ["-serial", `file:${this.#consolePath}`],
      ["-qmp", `unix:${this.monitorPath},server=on,wait=off`],
      ["-qmp", `unix:${this.migratePath},server=on,wait=off`],
      ["-drive", `if=none,id=d0,file=${join(directory, "disk.raw")},format=raw`],
      ["-device", `virtio-blk-${bus},drive=d0`],
      ["-netdev", "user,id=n0,restrict=on", "-device", `virtio-net-${bus},netdev=n0`],
      ["-append", `${words} ${work} godwit.disk=1 godwit.ip=10.0.2.15/24`],
      incoming ? ["-S", "-incoming", "defer"] : [],
    ].flat();
    this.#child = spawn(binary, args, { stdio: ["ignore", "ignore", "inherit"] });
  }

  async console(): Promise<string> {
    return await readFile(this.#consolePath, "utf8").catch(() => "");
  }

  async lines(pattern: RegExp, count: number): Promise<void> {
    const endMs = systemClock.nowMs() + 60_000;
    for (;;) {
      const text = await this.console();
      assert.doesNotMatch(text, /CORRUPT|Kernel panic|BUG:/);
      if ((text.match(pattern)?.length ?? 0) >= count) return;
      assert.ok(systemClock.nowMs() < endMs, `no ${String(pattern)} in: ${text.slice(-1000)}`);
      assert.equal(this.#child.exitCode, null, "QEMU ended");
      await sleep(systemClock, 50);
    }
  }

  async state(): Promise<string> {
    await using qmp = await QmpClient.connect(this.monitorPath);
    return (await qmp.execute("query-status")).status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await new Promise((resolve) => this.#child.once("exit", resolve));
  }
}

/** QEMU's memory ends there: 2 or 3 GB lie below the hole under 4 GB, the rest above. */
const endGigabytes = { pc: 6, q35: 7, microvm: 6 } as const;

/** The last 64 MiB are not all zero: the kernel keeps its tables there. */
async function usesHighMemory(vm: HandMade, endByte: number, directory: string): Promise<boolean> {
  const path = join(directory, "high");
  const size = 64 << 20;
  await using qmp = await QmpClient.connect(vm.monitorPath);
  await qmp.executeAny("pmemsave", { val: endByte - size, size, filename: path });
  const bytes = await readFile(path);
  await rm(path);
  return bytes.some((byte) => byte !== 0);
}

for (const machine of ["pc", "q35", "microvm"] as const) {
  test(`a ${machine} started by hand moves to another one that waits [5 GB, 2 vCPUs, disk, network, verify]`, {
    skip,
  }, async (context) => {
    await using harness = await Harness.create();
    const disk = join(harness.directory, "disk.raw");
    await writeFile(disk, "");
    await truncate(disk, 32 << 20);
    const image = await buildGuestImage("small", {});
    const { path } = await findQemu();
    const command = [path, "-kernel", image.kernelPath, "-initrd", image.initrdPath];
    await using from = new HandMade(command, machine, harness.directory, false);
    await from.lines(/godwit-guest tick \d+ ok/g, 2);
    await from.lines(/godwit-guest disk \d+ ok/g, 1);
    const endByte = endGigabytes[machine] * 2 ** 30;
    assert.ok(await usesHighMemory(from, endByte, harness.directory), "memory above 4 GB is used");
    await using to = new HandMade(command, machine, harness.directory, true);
    const run = await send(harness, from, to);
    const peaks = await Promise.all([peakBytes(run.source), peakBytes(await run.destination)]);
    const outcome = await run.source.outcome;
    assertOutcome(outcome, "done");
    assert.equal(outcome.report.verified, true);
    assert.ok(outcome.report.memoryBytes > 5 * 2 ** 30);
    assertOutcome(await (await run.destination).outcome, "done");
    assert.equal(await from.state(), "postmigrate");
    assert.equal(await to.state(), "running");
    await to.lines(/godwit-guest tick \d+ ok/g, 3);
    await to.lines(/godwit-guest disk \d+ ok/g, 1);
    await assertClean(harness, run);
    const mebibytes = peaks.map((bytes) => Math.round(bytes / 2 ** 20));
    context.diagnostic(`workers at their peak: ${mebibytes.join(" and ")} MiB`);
    for (const bytes of peaks) assert.ok(bytes < workerBytesMax, `${mebibytes.join(", ")} MiB`);
  });
}

type Ends = Pick<MigrationRun, "migrationId" | "source" | "destination">;

/** As `godwit send` and `godwit receive` do: no definition, no pid. Both workers stop when they are done. */
async function send(harness: Harness, from: HandMade, to: HandMade): Promise<Ends> {
  const destination = Promise.withResolvers<Worker>();
  const port = await harness.listen({
    transport: { tlsDirectory: undefined, insecure: false },
    prepare: async () => ({ qmpPath: to.migratePath, launched: false }),
    onWorker: destination.resolve,
    stopAt: "phase:done",
  });
  const started = await harness.send({
    vmName: "by-hand",
    qmpPath: from.migratePath,
    port,
    stopAt: "phase:done",
    options: { verify: true },
  });
  return { ...started, destination: destination.promise };
}

/** VmHWM of a worker that has stopped itself at its end; it goes on then. */
async function peakBytes(worker: Worker): Promise<number> {
  await stopped(worker, 120_000);
  const status = await readFile(`/proc/${worker.child.pid}/status`, "utf8");
  worker.child.kill("SIGCONT");
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}
