/** What a daemon and a recorder that were both killed leave: settled by the next daemon, at a model of QEMU's monitor. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdir, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { sleep, systemClock, systemProcesses } from "../io/index.ts";
import { temporaryFolder } from "../../test/daemon/harness.ts";
import type { Context } from "./context.ts";
import { type RecordingNote, RecordingNotes } from "./recordings.ts";
import { Tracing } from "./tracing.ts";

type Values = Record<string, unknown>;

/** Limits and capabilities of a QEMU, as a recorder leaves them unless told otherwise. */
class Monitor {
  status = "failed";
  readonly capabilities: Values = { events: true, "return-path": true, "switchover-ack": true };
  readonly parameters: Values = {
    "downtime-limit": 1,
    "max-bandwidth": 0,
    "avail-switchover-bandwidth": 4000,
  };
  readonly said: string[] = [];

  serve(socket: Socket): void {
    const version = { qemu: { major: 10, minor: 0, micro: 13 }, package: "" };
    socket.write(`${JSON.stringify({ QMP: { version, capabilities: [] } })}\r\n`);
    socket.on("error", () => {});
    createInterface({ input: socket }).on("line", (line) => {
      const { execute, arguments: args, id } = JSON.parse(line);
      this.said.push(execute);
      socket.write(`${JSON.stringify({ return: this.#answer(execute, args), id })}\r\n`);
    });
  }

  #answer(command: string, args: Values): unknown {
    if (command === "query-migrate") return { status: this.status };
    if (command === "query-migrate-parameters") return this.parameters;
    if (command === "migrate-set-parameters") Object.assign(this.parameters, args);
    if (command === "migrate-set-capabilities") {
      for (const { capability, state } of args["capabilities"] as Values[]) {
        this.capabilities[capability as string] = state;
      }
    }
    return {};
  }
}

const before: NonNullable<RecordingNote["settings"]> = {
  capabilities: [
    { capability: "events", state: false },
    { capability: "switchover-ack", state: false },
  ],
  parameters: {
    "downtime-limit": 300,
    "max-bandwidth": 134_217_728,
    "avail-switchover-bandwidth": 0,
  },
};
const gone = { pid: 999_999_999, startTimeTicks: 17 };
const vm = { pid: 4711, startTimeTicks: 99 };

/** The daemon that starts, after one that left a note. */
async function world(note: Partial<RecordingNote> = {}, found = vm) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const monitor = new Monitor();
  const server = createServer((socket) => monitor.serve(socket));
  const migrationQmpPath = join(folder, "migrate.sock");
  await new Promise<void>((resolve) => server.listen(migrationQmpPath, resolve));
  scope.defer(() => void server.close());
  const vms = new Map([["web", { record: { ...found, migrationQmpPath } }]]);
  const warnings: unknown[] = [];
  const context = {
    clock: systemClock,
    log: { info: () => {}, warn: (...words: unknown[]) => warnings.push(words), error: () => {} },
    runtimeDirectory: folder,
    vms,
    recorded: new Set<string>(),
    stopping: false,
  };
  const path = join(folder, "web.gtrace");
  const tracing = new Tracing(context as unknown as Context);
  await tracing.load();
  const notes = new RecordingNotes(folder);
  notes.write("abc", { vmName: "web", path, vm, worker: gone, settings: before, ...note });
  await writeFile(join(notes.directory, "bad.json"), '{"vmName":');
  const mark = `${gone.pid}-${gone.startTimeTicks}`;
  for (const end of ["part", "full", `full.${mark}.part`]) {
    await writeFile(`${path}.${mark}.${end}`, "guest memory");
  }
  await tracing.load();
  const { recorded } = context;
  const rest = async (): Promise<string[]> => [
    ...(await readdir(notes.directory)),
    ...(await readdir(folder)).filter((name) => name.startsWith("web.gtrace")),
  ];
  return {
    monitor,
    tracing,
    recorded,
    warnings,
    rest,
    context,
    [Symbol.asyncDispose]: () => scope.disposeAsync(),
  };
}

test("limits and capabilities are put back, files that are not whole go, the VM is free again", async () => {
  await using set = await world();
  assert.ok(set.recorded.has("web"), "it is not migrated meanwhile");
  await set.tracing.settleLeftovers();
  assert.deepEqual(set.monitor.parameters, before.parameters);
  assert.deepEqual(set.monitor.capabilities, {
    events: false,
    "return-path": true,
    "switchover-ack": false,
  });
  assert.deepEqual(await set.rest(), []);
  assert.equal(set.recorded.size, 0);
});

test("limits that somebody has set since stay as they are, and no migration is touched", async () => {
  await using set = await world();
  set.monitor.parameters["downtime-limit"] = 500;
  set.monitor.status = "active";
  await set.tracing.settleLeftovers();
  assert.equal(set.monitor.parameters["max-bandwidth"], 0);
  assert.deepEqual(
    set.monitor.said.filter((command) => command.startsWith("migrate")),
    [],
  );
  assert.equal(set.recorded.size, 0);
});

test("QEMU may need a moment to notice that its migration has ended", async () => {
  await using set = await world();
  set.monitor.status = "active";
  const settled = set.tracing.settleLeftovers();
  while (!set.monitor.said.includes("query-migrate")) await sleep(systemClock, 5);
  set.monitor.status = "failed";
  await settled;
  assert.deepEqual(set.monitor.parameters, before.parameters);
});

for (const [what, note, found] of [
  ["another QEMU has the VM's name", {}, { pid: 4712, startTimeTicks: 99 }],
  ["another process has its pid", {}, { pid: 4711, startTimeTicks: 100 }],
  ["the VM is gone", { vmName: "other" }, vm],
  ["nothing was changed yet", { settings: undefined }, vm],
] as const) {
  test(`QEMU is left alone when ${what}, the files go`, async () => {
    await using set = await world(note, found);
    await set.tracing.settleLeftovers();
    assert.deepEqual(set.monitor.said, []);
    assert.deepEqual(await set.rest(), []);
    assert.equal(set.recorded.size, 0);
  });
}

test("a recorder that outlived its daemon is waited for", async () => {
  const child = spawn("sleep", ["60"]);
  const worker = systemProcesses.identify(child.pid as number);
  assert.ok(worker !== undefined);
  await using set = await world({ worker });
  const settled = set.tracing.settleLeftovers();
  await sleep(systemClock, 200);
  assert.ok(set.recorded.has("web"));
  assert.deepEqual(set.monitor.said, []);
  child.kill("SIGKILL");
  await settled;
  assert.deepEqual(set.monitor.parameters, before.parameters);
  assert.equal(set.recorded.size, 0);
});

test("a daemon that stops leaves the note to the next one", async () => {
  await using set = await world();
  set.context.stopping = true;
  await set.tracing.settleLeftovers();
  assert.ok((await set.rest()).includes("abc.json"));
});

test("a monitor that does not answer is told of, and does not keep the VM from anything", async () => {
  await using set = await world({}, vm);
  set.context.vms.set("web", { record: { ...vm, migrationQmpPath: "/nowhere/q.sock" } });
  await set.tracing.settleLeftovers();
  assert.equal(set.warnings.length, 1);
  assert.equal(set.recorded.size, 0);
});
