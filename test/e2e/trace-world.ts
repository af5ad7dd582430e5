/** What tests of recordings by the daemon share: a real daemon in this process, a real guest, and the command line as a user calls it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { buildGuestImage } from "../../guest/image/build.ts";
import type { GodwitClient } from "../../src/api/index.ts";
import { resolveConfig } from "../../src/daemon/config.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { startDaemon, type TestDaemon, temporaryFolder } from "../daemon/harness.ts";

const godwit = join(import.meta.dirname, "../../src/cli/main.ts");
const busy = "godwit.run=writer godwit.mb=24 godwit.rate=20 godwit.mode=touch godwit.tickms=50";

export interface World extends AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly client: GodwitClient;
  readonly folder: string;
}

/** A daemon and a guest that runs at it, and writes as `words` say. */
export async function world({ words = busy } = {}): Promise<World> {
  await using scope = new AsyncDisposableStack();
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
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check ${words}`,
  });
  await daemon.client.startVm({ text });
  await ticks(daemon.client, 2);
  const { client } = daemon;
  // From here on it is the caller's to end.
  const owned = scope.move();
  return { daemon, client, folder, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Until the guest's own checks of its memory have gone on for a while. */
export async function ticks(client: GodwitClient, count: number): Promise<void> {
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

/** Until the folder has such a file. */
export async function appears(folder: string, name: RegExp): Promise<void> {
  const endMs = systemClock.nowMs() + 30_000;
  while (!(await readdir(folder)).some((one) => name.test(one))) {
    assert.ok(systemClock.nowMs() < endMs, `${name.source} appears`);
    await sleep(systemClock, 50);
  }
}

/** Of QEMU's, everything that a recording might change. */
export async function settings({ client }: World): Promise<unknown> {
  const { qmpPath } = await client.getVm("web");
  // The second monitor: the daemon has the first.
  await using qmp = await QmpClient.connect(qmpPath.replace(/monitor\.sock$/, "migrate.sock"));
  const capabilities = await qmp.execute("query-migrate-capabilities");
  return { capabilities, parameters: await qmp.execute("query-migrate-parameters") };
}

/** The command line as a user calls it; Ctrl-C is sent once, when what it has said matches `interrupt`. */
export async function cli(
  { folder }: Pick<World, "folder">,
  words: readonly string[],
  interrupt?: RegExp,
): Promise<{ code: number | null; out: string; err: string }> {
  const all = [godwit, ...words, "--socket", join(folder, "run/godwit.sock")];
  const child = spawn(process.execPath, all);
  let [out, err] = ["", ""];
  let isInterrupted = false;
  child.stdout.on("data", (bytes: Buffer) => {
    out += bytes.toString();
  });
  child.stderr.on("data", (bytes: Buffer) => {
    err += bytes.toString();
    if (isInterrupted || interrupt?.test(err) !== true) return;
    isInterrupted = true;
    child.kill("SIGINT");
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
}
