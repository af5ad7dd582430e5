/** Two daemons with real QEMUs: what a user does with them, restarts and crashes included. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { buildGuestImage } from "../../guest/image/build.ts";
import { GodwitClient } from "../../src/api/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { resolveConfig } from "../../src/daemon/config.ts";
import { endOf, startDaemon, type TestDaemon, temporaryFolder } from "../daemon/harness.ts";
import { skip } from "./support.ts";

const realWorker = resolveConfig({}).workerPath;
const godwit = join(import.meta.dirname, "../../src/cli/main.ts");
const daemonMain = join(import.meta.dirname, "../../src/daemon/daemon-main.ts");
const busy = "godwit.run=writer godwit.mb=24 godwit.rate=40 godwit.mode=touch godwit.tickms=50";

async function definition(more: object = {}): Promise<string> {
  const image = await buildGuestImage("small", {});
  return JSON.stringify({
    name: "web",
    memory: "128M",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check ${busy}`,
    ...more,
  });
}

async function until<T>(what: string, ask: () => Promise<T | undefined | false>): Promise<T> {
  const endMs = systemClock.nowMs() + 60_000;
  for (;;) {
    const value = await ask();
    if (value !== undefined && value !== false) return value;
    assert.ok(systemClock.nowMs() < endMs, `${what} did not happen`);
    await sleep(systemClock, 50);
  }
}

/** Until the guest's own checks of its memory have gone on for a while. */
async function ticks(client: GodwitClient, count: number): Promise<void> {
  const countNow = async (): Promise<number> => {
    const { text } = await client.getConsole("web", 1 << 20);
    assert.doesNotMatch(text, /CORRUPT|Kernel panic/);
    return text.match(/tick \d+ ok/g)?.length ?? 0;
  };
  const before = await countNow();
  await until("ticks", async () => (await countNow()) >= before + count);
}

/** Two daemons, and a guest that runs at the first. */
async function pair() {
  const scope = new AsyncDisposableStack();
  const [here, there] = [await host(scope), await host(scope)];
  await here.client.startVm({ text: await definition() });
  await ticks(here.client, 2);
  return { here, there, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

/** Ends its VMs at the end. */
async function host(scope: AsyncDisposableStack): Promise<TestDaemon> {
  const folder = scope.use(await temporaryFolder()).path;
  const daemon = scope.use(await startDaemon(folder, { workerPath: realWorker }));
  scope.defer(() => endVms(daemon.client));
  return daemon;
}

async function endVms(client: GodwitClient): Promise<void> {
  const vms = await client.listVms().catch(() => []);
  for (const { name } of vms) {
    await client.stopVm(name, { how: "kill" }).catch(() => client.discardVm(name));
  }
}

/** The command line, as a user calls it. */
function cli(
  folder: string,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const socket = join(folder, "run/godwit.sock");
  return new Promise((resolve) => {
    execFile(process.execPath, [godwit, ...args, "--socket", socket], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

test("a VM is migrated there and back by the command line", { skip }, async () => {
  await using set = await pair();
  const [a, b] = [set.here, set.there];
  const to = (daemon: TestDaemon) => `127.0.0.1:${daemon.target.port}`;
  const first = await cli(a.folder, "migrate", "web", "--to", to(b), "--verify");
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /web was migrated.*downtime .*all memory is equal/s);
  assert.deepEqual(await a.client.listVms(), [], "the source's QEMU is gone");
  assert.deepEqual(await readdir(join(a.folder, "run/vms")), []);
  await ticks(b.client, 2);
  const back = await cli(b.folder, "migrate", "web", "--to", to(a), "--json");
  assert.equal(back.code, 0, back.err);
  const lines = back.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string });
  assert.equal(lines.at(-1)?.type, "finished");
  await ticks(a.client, 2);
  const list = await cli(a.folder, "list", "--json");
  const { vms } = JSON.parse(list.out) as { vms: { name: string; state: string }[] };
  assert.deepEqual(
    vms.map(({ name, state }) => [name, state]),
    [["web", "running"]],
  );
});

test("a cancelled migration leaves the VM here and nothing there", { skip }, async () => {
  await using set = await pair();
  const [a, b] = [set.here, set.there];
  const options = { bandwidthBytesPerSecond: 5e6 };
  const { id } = await a.client.startMigration({ vm: "web", ...b.target, options });
  await until("rounds", async () => (await a.client.getMigration(id)).progress?.phase === "rounds");
  assert.equal((await a.client.getVm("web")).migration, id);
  await assert.rejects(a.client.stopVm("web", { how: "kill" }), { code: "CONFLICT" });
  const { code, out } = await cli(a.folder, "cancel", "web");
  assert.deepEqual([code, /cancelled/.test(out)], [0, true]);
  await ticks(a.client, 2);
  await until("the end there", async () => (await b.client.listVms()).length === 0);
  assert.deepEqual(await readdir(join(b.folder, "run/arrivals")), []);
});

test("a destination says why it refuses [the name is taken]", { skip }, async () => {
  await using set = await pair();
  const [a, b] = [set.here, set.there];
  await b.client.startVm({ text: await definition(), paused: true });
  const failed = await cli(a.folder, "migrate", "web", "--to", `127.0.0.1:${b.target.port}`);
  assert.equal(failed.code, 1);
  assert.match(failed.out, /there is a VM named web here already/);
  await ticks(a.client, 2);
});

/** A daemon in a process of its own, so that it can be killed. */
async function spawned(folder: string): Promise<{ child: ChildProcess; client: GodwitClient }> {
  const config = {
    listen: "127.0.0.1:0",
    runtimeDirectory: join(folder, "run"),
    stateDirectory: join(folder, "state"),
  };
  const child = spawn(process.execPath, [daemonMain, JSON.stringify(config)], { stdio: "ignore" });
  const client = new GodwitClient({ socketPath: join(folder, "run/godwit.sock") });
  await until("the daemon", () =>
    client.getHost().then(
      ({ pid }) => pid === child.pid,
      () => false as const,
    ),
  );
  return { child, client };
}

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await ended;
}

test("a daemon that is killed in a migration finds its VM again, running", { skip }, async () => {
  await using scope = new AsyncDisposableStack();
  const b = await host(scope);
  const folder = scope.use(await temporaryFolder()).path;
  const first = await spawned(folder);
  await first.client.startVm({ text: await definition() });
  await ticks(first.client, 2);
  const options = { bandwidthBytesPerSecond: 5e6 };
  const { id } = await first.client.startMigration({ vm: "web", ...b.target, options });
  await until("rounds", async () => {
    return (await first.client.getMigration(id)).progress?.phase === "rounds";
  });
  await end(first.child, "SIGKILL");
  const second = await spawned(folder);
  assert.equal((await second.client.getVm("web")).state, "running");
  await ticks(second.client, 2);
  await until("the end there", async () => (await b.client.listVms()).length === 0);
  assert.match((await endOf(b.client, `${id}-in`)).state, /failed|cancelled/);
  await endVms(second.client);
  await end(second.child, "SIGTERM");
});

test("a destination's daemon that is killed takes only the migration with it", {
  skip,
}, async () => {
  await using scope = new AsyncDisposableStack();
  const a = await host(scope);
  await a.client.startVm({ text: await definition() });
  await ticks(a.client, 2);
  const folder = scope.use(await temporaryFolder()).path;
  const b = await spawned(folder);
  const { migrationAddress } = await b.client.getHost();
  const port = Number(migrationAddress?.split(":").at(-1));
  const options = { bandwidthBytesPerSecond: 5e6 };
  const target = { host: "127.0.0.1", port, options };
  const { id } = await a.client.startMigration({ vm: "web", ...target });
  await until("rounds", async () => (await a.client.getMigration(id)).progress?.phase === "rounds");
  await end(b.child, "SIGKILL");
  assert.equal((await endOf(a.client, id)).state, "failed");
  await ticks(a.client, 2);
  const again = await spawned(folder);
  await until("the rest to go", async () => {
    return (await again.client.listVms()).every(({ state }) => state === "crashed");
  });
  await endVms(again.client);
  await end(again.child, "SIGTERM");
});

test("a VM whose QEMU is killed is shown as crashed until it is discarded", { skip }, async () => {
  await using set = await pair();
  const { client } = set.here;
  const { pid } = await client.getVm("web");
  process.kill(pid ?? 0, "SIGKILL");
  const crashed = await until("the crash", async () => {
    const vm = await client.getVm("web");
    return vm.state === "crashed" && vm;
  });
  assert.match(crashed.note ?? "", /godwit discard web/);
  await client.discardVm("web");
  assert.deepEqual(await client.listVms(), []);
});
