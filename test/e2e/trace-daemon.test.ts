/** `godwit trace` with a real daemon and a real guest. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { buildGuestImage } from "../../guest/image/build.ts";
import type { GodwitClient, TraceEvent } from "../../src/api/index.ts";
import { resolveConfig } from "../../src/daemon/config.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { readTrace, readTraceHeader } from "../../src/trace/index.ts";
import { startDaemon, type TestDaemon, temporaryFolder } from "../daemon/harness.ts";
import { skip } from "./support.ts";

const godwit = join(import.meta.dirname, "../../src/cli/main.ts");
const busy = "godwit.run=writer godwit.mb=24 godwit.rate=20 godwit.mode=touch godwit.tickms=50";

interface World extends AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly client: GodwitClient;
  readonly folder: string;
}

/** A daemon and a guest that runs at it. */
async function world(): Promise<World> {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const { workerPath } = resolveConfig({});
  const daemon = scope.use(await startDaemon(folder, { workerPath }));
  scope.defer(async () => {
    await daemon.client.stopVm("web", { how: "kill" }).catch(() => {});
  });
  const image = await buildGuestImage("small", {});
  const text = JSON.stringify({
    name: "web",
    memory: "128M",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check ${busy}`,
  });
  await daemon.client.startVm({ text });
  await ticks(daemon.client, 2);
  const { client } = daemon;
  return { daemon, client, folder, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

/** Until the guest's own checks of its memory have gone on for a while. */
async function ticks(client: GodwitClient, count: number): Promise<void> {
  const countNow = async (): Promise<number> => {
    const { text } = await client.getConsole("web", 1 << 20);
    assert.doesNotMatch(text, /CORRUPT|Kernel panic/);
    return text.match(/tick \d+ ok/g)?.length ?? 0;
  };
  const before = await countNow();
  const endMs = systemClock.nowMs() + 60_000;
  while ((await countNow()) < before + count) {
    assert.ok(systemClock.nowMs() < endMs, "the guest goes on");
    await sleep(systemClock, 50);
  }
}

async function appears(path: string): Promise<void> {
  const endMs = systemClock.nowMs() + 30_000;
  while ((await stat(path).catch(() => undefined)) === undefined) {
    assert.ok(systemClock.nowMs() < endMs, `${path} appears`);
    await sleep(systemClock, 50);
  }
}

/** Of QEMU's, everything that a recording might change. */
async function settings({ client }: World): Promise<unknown> {
  const { qmpPath } = await client.getVm("web");
  // The second monitor: the daemon has the first.
  await using qmp = await QmpClient.connect(qmpPath.replace(/monitor\.sock$/, "migrate.sock"));
  const capabilities = await qmp.execute("query-migrate-capabilities");
  return { capabilities, parameters: await qmp.execute("query-migrate-parameters") };
}

/** The command line as a user calls it; `interrupt` sends Ctrl-C when a line says so. */
async function cli(
  { folder }: World,
  words: readonly string[],
  interrupt?: RegExp,
): Promise<{ code: number | null; out: string; err: string }> {
  const all = [godwit, ...words, "--socket", join(folder, "run/godwit.sock")];
  const child = spawn(process.execPath, all);
  let [out, err] = ["", ""];
  child.stdout.on("data", (bytes: Buffer) => {
    out += bytes.toString();
  });
  child.stderr.on("data", (bytes: Buffer) => {
    err += bytes.toString();
    if (interrupt?.test(err) === true) child.kill("SIGINT");
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
}

test("a VM is recorded by the command line, and cannot be migrated meanwhile", {
  skip,
}, async () => {
  await using set = await world();
  const { client, daemon, folder } = set;
  const before = await settings(set);
  const path = join(folder, "web.gtrace");
  const recording = cli(set, [
    "trace",
    "web",
    "--to",
    path,
    "--interval",
    "50ms",
    "--duration",
    "4s",
  ]);
  await appears(`${path}.part`);
  await assert.rejects(client.startMigration({ vm: "web", host: "127.0.0.1", port: 1 }), {
    code: "CONFLICT",
    message: /is being recorded/,
  });
  const other = await cli(set, ["trace", "web", "--to", `${path}.b`]);
  assert.match(other.err, /is being recorded already/);
  const { code, out, err } = await recording;
  assert.equal(code, 0, err);
  assert.match(out, /web\.gtrace: \d+ epochs of .* pages/);
  assert.equal((await readTraceHeader(path)).vmName, "web");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await ticks(client, 2);
  assert.deepEqual(await settings(set), before);
  const again = await cli(set, ["trace", "web", "--to", path, "--json"]);
  assert.equal(again.code, 1);
  assert.match(again.out, /"CONFLICT".*is there already/);
  const nobody = await cli(set, ["trace", "nobody", "--to", path]);
  assert.match(nobody.err, /no VM named nobody/);
  assert.equal((await cli(set, ["trace", "web", "--to", path, "--sample", "4"])).code, 2);
  assert.deepEqual(await readdir(join(daemon.folder, "run/workers")), []);
});

test("Ctrl-C ends a recording and keeps it; so does a client that goes away", {
  skip,
}, async () => {
  await using set = await world();
  const { client, folder } = set;
  const before = await settings(set);
  const path = join(folder, "web.gtrace");
  const words = ["trace", "web", "--to", path, "--duration", "10min", "--base", "touched"];
  const { code, out, err } = await cli(set, [...words, "--sample", "1/2"], /: [1-9]\d* epochs/);
  assert.equal(code, 0, err);
  assert.match(out, /epochs \(ended early\)/);
  const { base, sampled } = await readTraceHeader(path);
  assert.deepEqual([base, sampled], ["touched", { pages: 2, base: 16 }]);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => /\.(full|part)/.test(name)),
    [],
  );

  const other = join(folder, "other.gtrace");
  for await (const event of client.traceVm("web", { path: other, durationMs: 600_000 })) {
    if (event.type === "progress" && event.progress.epochCount > 2) break;
  }
  await appears(other);
  let epochs = 0;
  for await (const { epoch } of readTrace(other)) epochs = epoch;
  assert.ok(epochs > 2);
  await ticks(client, 2);
  assert.deepEqual(await settings(set), before);
});

test("a worker that is killed costs the recording only, and QEMU's settings are put back", {
  skip,
}, async () => {
  await using set = await world();
  const { client, folder } = set;
  const before = await settings(set);
  const workers = join(folder, "run/workers");
  const path = join(folder, "web.gtrace");
  let last: TraceEvent | undefined;
  for await (const event of client.traceVm("web", { path, durationMs: 600_000 })) {
    const wasKilled = last?.type === "progress" && last.progress.epochCount > 2;
    last = event;
    if (wasKilled || event.type !== "progress" || event.progress.epochCount < 3) continue;
    for (const name of await readdir(workers)) {
      const command = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
      if (command.includes("trace/worker.ts")) process.kill(Number(name), "SIGKILL");
    }
  }
  assert.equal(last?.type, "failed");
  assert.match(JSON.stringify(last), /broke down \(signal SIGKILL\)/);
  assert.equal((await client.getVm("web")).state, "running");
  await ticks(client, 2);
  assert.deepEqual(await settings(set), before);
});
