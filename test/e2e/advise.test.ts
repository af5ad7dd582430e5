/** `godwit advise` on a running guest: what it says, what it writes, and what is left when it is given up. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { methods } from "../../src/advise/index.ts";
import { type Advice, type AdviceEvent, encodeEvent } from "../../src/api/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { temporaryFolder } from "../daemon/harness.ts";
import { cli, settings, ticks, type World, world } from "./trace-world.ts";
import { skip } from "./support.ts";

const names = methods.map(({ name }) => name);

/** The guest never noticed, and of the recording nothing is left. */
async function assertUnharmed(set: World, before: unknown): Promise<void> {
  const run = join(set.folder, "run");
  for (let i = 0; i < 100 && existsSync(join(set.folder, "state/advice")); i++) {
    await sleep(systemClock, 50);
  }
  assert.ok(!existsSync(join(set.folder, "state/advice")));
  assert.deepEqual(await readdir(join(run, "recordings")), []);
  assert.equal((await set.client.getVm("web")).state, "running");
  await ticks(set.client, 2);
  assert.deepEqual(await settings(set), before);
}

/** What the command line makes of these events in words, without the half a minute that measuring takes. */
async function told(events: readonly AdviceEvent[]): Promise<{ out: string; err: string }> {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, "run"));
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(events.map(encodeEvent).join(""));
  });
  await new Promise<void>((resolve) =>
    server.listen(join(folder.path, "run/godwit.sock"), resolve),
  );
  try {
    return await cli({ folder: folder.path }, ["advise", "web"]);
  } finally {
    server.close();
  }
}

test("a running VM is advised; given up [while it records, while it measures] nothing is left", {
  skip,
}, async () => {
  await using set = await world({
    words: "godwit.run=writer godwit.mb=4 godwit.rate=8 godwit.mode=touch godwit.tickms=50",
  });
  const before = await settings(set);
  const nobody = await cli(set, ["advise", "nobody"]);
  assert.match(nobody.err, /no VM named nobody/);
  for (const when of [/^recording: epoch [1-9]/m, /^measuring zero$/m]) {
    const { code, out, err } = await cli(set, ["advise", "web", "--duration", "1s"], when);
    assert.deepEqual([code, out], [1, ""], err);
    assert.match(err, /^recording: first copy$/m);
    await assertUnharmed(set, before);
  }

  const picture = join(set.folder, "web.svg");
  const given = ["--duration", "1s", "--link", "200Mbit", "--cpu", "50%", "--memory", "64M"];
  const run = await cli(set, ["advise", "web", ...given, "--picture", picture, "--json"]);
  assert.deepEqual([run.code, run.err], [0, ""]);
  const advice = JSON.parse(run.out) as Omit<Advice, "picture">;
  assert.equal(advice.intervalMs, 100);
  assert.ok(advice.epochCount >= 3 && advice.epochsBytes > 4104, run.out);
  assert.deepEqual(advice.constraints, {
    linkBytesPerSecond: 25_000_000,
    cpuShare: 0.5,
    memoryBytes: 64 << 20,
  });
  // On a busy machine some may not be reached in a minute.
  assert.deepEqual([...advice.methods.map(({ method }) => method), ...advice.leftOut], names);
  const recommended = advice.recommended ?? "";
  assert.ok(names.includes(recommended), advice.reason);
  assert.ok(advice.reason.startsWith(recommended), advice.reason);
  assert.equal(advice.methods.find(({ method }) => method === "none")?.ratio, 1);
  for (const { ratio, firstCopyRatio, encodeMsPerMb } of advice.methods) {
    assert.ok(ratio > 0.9 && (firstCopyRatio ?? 0) > 0.9 && encodeMsPerMb >= 0);
  }
  const svg = await readFile(picture, "utf8");
  assert.match(svg, /^<svg [^]*<\/svg>\s*$/);
  assert.ok(svg.includes(recommended) && !run.out.includes("<svg"));
  await assertUnharmed(set, before);

  const finished: AdviceEvent = { type: "finished", advice: { ...advice, picture: svg } };
  const { out, err } = await told([{ type: "progress", text: "measuring none" }, finished]);
  assert.equal(err, "measuring none\n");
  assert.match(out, /^web: \d+ epochs of 100 ms, .* of pages/);
  assert.match(out, /^link 200 Mbit\/s, 50 % of a core, 64\.0 MiB of memory$/m);
  for (const { method } of advice.methods) {
    assert.match(out, new RegExp(`^[ >*] *${escaped(method)} +\\d`, "m"));
  }
  assert.match(out, new RegExp(`^> +${escaped(recommended)} `, "m"));
  assert.match(out, new RegExp(`^recommended: ${escaped(recommended)}\n {2}\\S`, "m"));
});

function escaped(name: string): string {
  return name.replaceAll(/[+.]/g, "\\$&");
}
