/** Advice for a VM, with made-up recordings, and processes that do what they should not. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import fastify from "fastify";
import { type AdviceEvent, GodwitClient } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { systemClock } from "../io/index.ts";
import { TraceFile } from "../trace/index.ts";
import { temporaryFolder } from "../../test/daemon/harness.ts";
import { type AdviceRequest, Advising } from "./advice.ts";
import type { Context } from "./context.ts";
import type { Tracing } from "./tracing.ts";

type Record = Tracing["record"];

const header = {
  vmName: "web",
  workload: "",
  qemuVersion: "10.0.13",
  accelerator: "tcg",
  blocks: [{ name: "pc.ram", lengthBytes: 1 << 20 }],
  memoryBytes: 1 << 20,
  intervalMs: 100,
  base: "full",
  note: "",
} as const;

/** Two pages that change in each of three epochs. */
const recorded: Record = async (open, _, { path }) => {
  const follower = open();
  const file = await TraceFile.create(path, header);
  for (let epoch = 0; epoch <= 3; epoch++) {
    const bytes = Buffer.alloc(2 * 4104, epoch + 1);
    for (const page of [0, 1]) bytes.writeBigUInt64BE(BigInt(page) * 4096n + 0x28n, page * 4104);
    const batch = { block: 0, pieces: [bytes], bytes: bytes.length, pageCount: 2, zeroCount: 0 };
    file.batch(epoch * 100, batch);
    file.endEpoch(epoch * 100);
  }
  await file.close();
  follower.send({ type: "finished", summary: {} as never });
  follower.end();
};

interface World {
  readonly advising: Advising;
  readonly client: GodwitClient;
  readonly folder: string;
}

/** A server with this one route, in front of an advisor whose recordings and process are given. */
async function world(record: Record, main?: string) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const mainPath = join(folder, "main.ts");
  if (main !== undefined) await writeFile(mainPath, main);
  const context = {
    clock: systemClock,
    log: { error: () => {} },
    config: { stateDirectory: join(folder, "state") },
    vms: {
      need: (name: string) => {
        if (name !== "web") throw new GodwitError("NOT_FOUND", "there is no such VM");
      },
    },
  } as unknown as Context;
  const advising = new Advising(context, { record }, main === undefined ? undefined : mainPath);
  const app = fastify({ forceCloseConnections: true });
  app.setErrorHandler(async (error, _request, reply) => {
    const { code, message } = error as GodwitError;
    await reply.status(400).send({ error: { code, message } });
  });
  app.post<{ Params: { name: string }; Body: AdviceRequest }>(
    "/v1/vms/:name/advice",
    async (request, reply) => {
      await advising.advise(reply, request.params.name, request.body);
      return reply;
    },
  );
  const socketPath = join(folder, "api.sock");
  await app.listen({ path: socketPath });
  scope.defer(() => app.close());
  const made: World = { advising, client: new GodwitClient({ socketPath }), folder };
  return { ...made, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

const request = {
  linkBytesPerSecond: 125_000_000,
  cpuShare: 0.2,
  memoryBytes: 2 ** 28,
  durationMs: 500,
  intervalMs: 100,
};

async function all(client: GodwitClient, name = "web"): Promise<AdviceEvent[]> {
  const events: AdviceEvent[] = [];
  for await (const event of client.adviseVm(name, request)) events.push(event);
  return events;
}

test("a VM is recorded, its pages are compressed in all ways, and nothing is left", async () => {
  await using set = await world(recorded);
  const events = await all(set.client);
  const last = events.at(-1);
  assert.ok(last?.type === "finished", JSON.stringify(last));
  const { advice } = last;
  assert.equal(advice.name, "web");
  assert.deepEqual([advice.epochCount, advice.epochsBytes], [3, 3 * 2 * 4104]);
  assert.deepEqual(advice.leftOut, []);
  assert.ok(advice.methods.some(({ method }) => method === advice.recommended));
  assert.match(advice.picture, /^<svg /);
  assert.ok(!existsSync(join(set.folder, "state/advice")));
});

test("a recording that fails is the end", async () => {
  await using set = await world(async (open) => {
    open().send({ type: "failed", error: { code: "TIMEOUT", message: "QEMU is silent" } });
  });
  assert.deepEqual(await all(set.client), [
    { type: "failed", error: { code: "TIMEOUT", message: "QEMU is silent" } },
  ]);
  assert.ok(!existsSync(join(set.folder, "state/advice")));
});

test("what is refused is refused before anything is said", async () => {
  await using set = await world(async () => {
    throw new GodwitError("CONFLICT", "VM web is being migrated");
  });
  await assert.rejects(all(set.client), { code: "CONFLICT", message: /being migrated/ });
  await assert.rejects(all(set.client, "other"), { code: "NOT_FOUND" });
});

test("a process that breaks down is told of, half a line of it is not", async () => {
  const main =
    'process.stdout.write(\'{"type":"progress","text":"a"}\\n{"type":"fin\'); process.exitCode = 3;';
  await using set = await world(recorded, main);
  const events = await all(set.client);
  assert.deepEqual(events[0], { type: "progress", text: "a" });
  assert.equal(events.length, 2);
  assert.match(JSON.stringify(events[1]), /INTERNAL.*exit code 3/);
});

test("one advice at a time; it ends with its follower's connection, its process too", async () => {
  const main = `
    import { writeFileSync } from "node:fs";
    writeFileSync(new URL("./pid", import.meta.url), String(process.pid));
    console.log('{"type":"progress","text":"begun"}');
    setInterval(() => {}, 1000);`;
  await using set = await world(recorded, main);
  for await (const event of set.client.adviseVm("web", request)) {
    assert.equal(event.type, "progress");
    await assert.rejects(all(set.client), { code: "CONFLICT", message: /advice for VM web/ });
    break;
  }
  const pid = Number(await readFile(join(set.folder, "pid"), "utf8"));
  for (let i = 0; i < 100 && existsSync(`/proc/${pid}/fd/0`); i++) await sleep(20);
  assert.ok(!existsSync(`/proc/${pid}/fd/0`));
  for (let i = 0; i < 100 && existsSync(join(set.folder, "state/advice")); i++) await sleep(20);
  assert.ok(!existsSync(join(set.folder, "state/advice")));
});

test("what a killed daemon left goes when the next one starts, what is being made stays", async () => {
  const going = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  await using set = await world(async (open, _, { path }) => {
    open();
    await writeFile(path, "recorded");
    begun.resolve();
    await going.promise;
  });
  const folder = join(set.folder, "state/advice");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "old.gtrace"), "guest memory");
  await set.advising.load();
  assert.ok(!existsSync(folder));
  const advice = all(set.client);
  await begun.promise;
  const names = await readdir(folder);
  await set.advising.settleLeftovers();
  assert.deepEqual(await readdir(folder), names);
  assert.equal(names.length, 1);
  going.resolve();
  await advice;
  assert.ok(!existsSync(folder));
  // A worker that outlived its daemon may have kept what it had.
  await mkdir(folder, { recursive: true });
  await set.advising.settleLeftovers();
  assert.ok(!existsSync(folder));
});
