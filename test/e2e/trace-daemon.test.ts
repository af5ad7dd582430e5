/** `godwit trace` with a real daemon and a real guest. */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { TraceEvent } from "../../src/api/index.ts";
import { readTrace, readTraceHeader } from "../../src/trace/index.ts";
import { appears, cli, settings, ticks, world } from "./trace-world.ts";
import { skip } from "./support.ts";

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
  await appears(folder, /^web\.gtrace\.\d+-\d+\.part$/);
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
  await appears(folder, /^other\.gtrace$/);
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
  // Of the recording that was cut off nothing is left.
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith("web.gtrace")),
    [],
  );
  assert.deepEqual(await readdir(join(folder, "run/recordings")), []);
});

test("a second Ctrl-C gives up making the recording smaller, and nothing is left", {
  skip,
}, async () => {
  await using set = await world();
  const { client, folder } = set;
  const before = await settings(set);
  const path = join(folder, "web.gtrace");
  let given = 0;
  let last: TraceEvent | undefined;
  // As the command line asks: once when it records, once more when it tells that it makes the file smaller.
  for await (const event of client.traceVm("web", { path, durationMs: 600_000, pages: 2 })) {
    last = event;
    if (event.type !== "progress") continue;
    const { epochCount, doneShare } = event.progress;
    if (given === (doneShare === undefined ? 0 : 1) && epochCount > 20) {
      given++;
      await client.endTrace("web");
    }
  }
  assert.equal(given, 2);
  assert.match(JSON.stringify(last), /CANCELLED/);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith("web.gtrace")),
    [],
  );
  assert.deepEqual(await readdir(join(folder, "run/recordings")), []);
  await ticks(client, 2);
  assert.deepEqual(await settings(set), before);
});
