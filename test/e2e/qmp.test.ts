/** The monitor, the launcher and the probes against a real QEMU. Without one they are skipped, with the reason. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../src/io/index.ts";
import {
  findQemu,
  findVm,
  killVm,
  launchVm,
  parseDefinition,
  pinnedDefinition,
  QmpClient,
  queryQemu,
} from "../../src/qemu/index.ts";

const found = await findQemu().catch((error: unknown) => String(error));
const skip = typeof found === "string" ? found : false;
// Only read in tests that are not skipped.
const binary =
  typeof found === "string"
    ? { path: "", source: "", version: { qemu: { major: 0, minor: 0, micro: 0 }, package: "" } }
    : found;

async function withVm(
  text: string,
  incoming: boolean,
  use: (vm: Awaited<ReturnType<typeof launchVm>>) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "gw-e2e-"));
  const definition = parseDefinition(`name: e2e\nmemory: 64M\naccelerator: tcg\n${text}`, {
    baseDirectory: directory,
  });
  await writeFile(join(directory, "disk"), new Uint8Array(1 << 20));
  const options = { runtimeDirectory: join(directory, "vm"), clock: systemClock, binary, incoming };
  const vm = await launchVm(definition, options);
  try {
    await use(vm);
  } finally {
    await killVm(vm, systemClock, 1000);
    await rm(directory, { recursive: true });
  }
}

for (const machine of ["q35", "pc", "microvm"]) {
  test(`a ${machine} with disk and networks starts, answers on both monitors, is found again, and ends`, {
    skip,
  }, async () => {
    const devices = `machine: ${machine}\ndisks: [{file: disk}]\nnetworks: [{type: user}]\n`;
    await withVm(devices, false, async (vm) => {
      assert.match(vm.machineType, machine === "microvm" ? /^microvm$/ : /^pc-.*\d$/);
      assert.deepEqual(await findVm(vm.directory), vm);
      await using one = await QmpClient.connect(vm.qmpPath);
      await using two = await QmpClient.connect(vm.migrationQmpPath);
      assert.equal((await one.execute("query-status")).status, "running");
      const stopped = one.once("STOP");
      await two.execute("stop");
      assert.ok(Math.abs((await stopped).timestampUs / 1000 - Date.now()) < 60_000);
      assert.equal((await one.execute("query-block")).length, 1);
      const ended = one.once("SHUTDOWN");
      await two.execute("quit");
      assert.equal((await ended).data.reason, "host-qmp-quit");
      assert.equal((await one.closed).code, "QMP_CLOSED");
    });
  });
}

test("a destination is paused, waits for its migration, and has the source's version", {
  skip,
}, async () => {
  await withVm("", true, async (vm) => {
    await using client = await QmpClient.connect(vm.qmpPath);
    assert.equal((await client.execute("query-status")).status, "inmigrate");
    await client.execute("migrate-incoming", { uri: `unix:${join(vm.directory, "in.sock")}` });
    assert.match(pinnedDefinition(vm).machine, /^pc-q35-\d+\.\d+$/);
  });
});

for (const machine of ["q35", "pc", "microvm"]) {
  test(`a destination launched from a pinned ${machine} takes the source's stream`, {
    skip,
  }, async () => {
    const devices = `machine: ${machine}\ndisks: [{file: disk, readOnly: true}]\nnetworks: [{type: user}]\n`;
    await withVm(devices, false, async (vm) => {
      const runtimeDirectory = `${vm.directory}-in`;
      const options = { runtimeDirectory, clock: systemClock, binary, incoming: true };
      const destination = await launchVm(pinnedDefinition(vm), options);
      try {
        await using target = await QmpClient.connect(destination.qmpPath);
        await using source = await QmpClient.connect(vm.migrationQmpPath);
        const uri = `unix:${join(runtimeDirectory, "in.sock")}`;
        const capabilities = [{ capability: "events", state: true }] as const;
        await target.execute("migrate-set-capabilities", { capabilities });
        await target.execute("migrate-incoming", { uri });
        const ended = target.once("MIGRATION", ({ data }) => isFinal(data.status), 20_000);
        await source.execute("migrate", { uri });
        assert.equal((await ended).data.status, "completed");
        assert.equal((await source.execute("query-status")).status, "postmigrate");
      } finally {
        await killVm(destination, systemClock, 1000);
      }
    });
  });
}

const isFinal = (status: string) => ["completed", "failed", "cancelled"].includes(status);

test("QEMU's refusals reach the caller", { skip }, async () => {
  await withVm("", false, async (vm) => {
    await using client = await QmpClient.connect(vm.qmpPath);
    await assert.rejects(client.execute("migrate", { uri: "bogus:x" }), {
      code: "QMP_ERROR",
    });
    await assert.rejects(client.executeAny("bogus"), { code: "QMP_ERROR", message: /bogus/ });
  });
});

test("a second client of one monitor waits in vain, and is told why", { skip }, async () => {
  await withVm("", false, async (vm) => {
    await using _ = await QmpClient.connect(vm.qmpPath);
    await assert.rejects(QmpClient.connect(vm.qmpPath, { deadlineMs: 200 }), {
      code: "TIMEOUT",
      message: /another program/,
    });
  });
});

const never = () => Promise.reject(new Error("it started"));

test("what QEMU refuses on its command line is in the error", { skip }, async () => {
  await assert.rejects(withVm("disks: [{file: nowhere}]\n", false, never), {
    code: "QEMU_START",
    message: /nowhere.*No such file/s,
  });
});

test("a QEMU tells its capabilities", { skip }, async () => {
  const facts = await queryQemu(binary);
  assert.ok(facts.migrationCapabilities.has("return-path"));
  assert.ok(facts.migrationParameters.has("downtime-limit"));
  assert.ok(facts.machines.some(({ name }) => name === "microvm"));
});
