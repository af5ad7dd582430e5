import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { systemClock, systemProcesses } from "../../io/index.ts";
import { parseDefinition } from "./definition.ts";
import { findVm, launchVm, pinnedDefinition } from "./launcher.ts";
import { runtimePaths } from "./paths.ts";
import { type LaunchedVm, readVmRecord, writeVmRecord } from "./record.ts";

const definition = parseDefinition(
  "name: web\nmemory: 64M\naccelerator: tcg\nbinary: /usr/bin/q\n",
);
let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "godwit-launch-"));
});

afterEach(() => rm(directory, { recursive: true }));

/** A QEMU that does what the shell script says. */
async function fakeQemu(script: string) {
  const path = join(directory, "fake-qemu");
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  const version = { qemu: { major: 10, minor: 0, micro: 13 }, package: "" };
  return { path, source: "test", version };
}

function record(pid: number, startTimeTicks: number): LaunchedVm {
  return {
    ...runtimePaths(directory),
    pid,
    startTimeTicks,
    definition,
    accelerator: "tcg",
    machineType: "pc-q35-10.0",
    qemuVersion: "10.0.13",
    binary: "/usr/bin/q",
    startedWallMs: 1,
  };
}

const launch = async (script: string, deadlineMs = 5000) =>
  launchVm(definition, {
    runtimeDirectory: directory,
    clock: systemClock,
    binary: await fakeQemu(script),
    deadlineMs,
  });

test("a QEMU that ends at once is reported with its own words", async () => {
  await assert.rejects(launch("echo 'qemu: -foo: invalid option' >&2; exit 1"), {
    code: "QEMU_START",
    message: /QEMU ended \(exit code 1\).*qemu\.log:\nqemu: -foo: invalid option$/s,
  });
  assert.equal(await findVm(directory), undefined);
});

test("a QEMU whose monitor does not answer is killed", async () => {
  const script = `echo $$ > ${directory}/pid; exec sleep 60`;
  const started = launch(script, 150);
  await assert.rejects(started, { code: "QEMU_START", message: /did not answer within 150 ms/ });
  const pid = Number((await systemProcesses.run("cat", [join(directory, "pid")])).stdout);
  assert.equal(systemProcesses.identify(pid), undefined);
});

test("a VM is found by its record while its process runs", async () => {
  const self = systemProcesses.identify(process.pid);
  assert.ok(self !== undefined);
  await writeVmRecord(record(self.pid, self.startTimeTicks));
  assert.deepEqual(await findVm(directory), record(self.pid, self.startTimeTicks));
  assert.deepEqual(await readdir(directory), ["vm.json"]);
  await assert.rejects(launch("exit 1"), { code: "CONFLICT", message: /web \(process/ });
  await writeVmRecord(record(self.pid, self.startTimeTicks + 1));
  assert.equal(await findVm(directory), undefined);
});

test("a damaged record is an error with advice, a missing one is not", async () => {
  const path = join(directory, "vm.json");
  assert.equal(await readVmRecord(path), undefined);
  for (const text of ["{", "{}", '{"recordVersion": 2}']) {
    await writeFile(path, text);
    await assert.rejects(readVmRecord(path), { code: "IO", message: /remove the file/ });
  }
});

test("a destination is told what was decided at launch, but not this host's QEMU", () => {
  const pinned = pinnedDefinition(record(1, 1));
  assert.equal(pinned.machine, "pc-q35-10.0");
  assert.equal(pinned.accelerator, "tcg");
  assert.equal("binary" in pinned, false);
});
