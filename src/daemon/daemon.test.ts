/** The daemon, its API and its client, without QEMU: fake monitors and a scripted worker. test/e2e/daemon.test.ts has the rest. */
import assert from "node:assert/strict";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { GodwitClient, parseHostPort } from "../api/index.ts";
import { FakeQemu } from "../../test/daemon/fake-qemu.ts";
import { endOf, eventsOf, startDaemon, temporaryFolder } from "../../test/daemon/harness.ts";

/** A source QEMU and a waiting one, and a daemon that knows the latter. */
async function pair(name: string) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const source = scope.use(await FakeQemu.listen(join(folder, "source.sock"), "running"));
  const waiting = scope.use(await FakeQemu.listen(join(folder, "waiting.sock"), "inmigrate"));
  const { client, target } = scope.use(await startDaemon(folder));
  await client.expectVm({ name, qmpPath: join(folder, "waiting.sock") });
  const send = () =>
    client.startMigration({ qmpPath: join(folder, "source.sock"), name, ...target });
  return {
    client,
    folder,
    source,
    waiting,
    send,
    [Symbol.asyncDispose]: () => scope.disposeAsync(),
  };
}

test("a migration between adopted QEMUs is told to followers of both ends", async () => {
  await using set = await pair("ok-1");
  const { id } = await set.send();
  const { ended, events } = await eventsOf(set.client, id);
  assert.equal(ended.state, "done");
  assert.equal(ended.report?.downtimeMs, 56);
  assert.deepEqual(
    events.slice(0, 2).map(({ type }) => type),
    ["following", "migration"],
  );
  assert.ok(events.some(({ type }) => type === "progress"));
  assert.match(ended.lines.map(({ text }) => text).join("\n"), /round 1 began.*left, stopped/s);
  assert.equal((await endOf(set.client, `${id}-in`)).state, "done");
  assert.deepEqual(await set.client.listExpectations(), []);
  assert.deepEqual(await readdir(join(set.folder, "run/logs")), []);
});

test("cancelling ends a migration at both ends", async () => {
  await using set = await pair("slow-1");
  const { id } = await set.send();
  await assert.rejects(set.send(), { code: "CONFLICT", message: /is being migrated already/ });
  await set.client.cancelMigration(id.slice(0, 5));
  assert.equal((await endOf(set.client, id)).state, "cancelled");
  assert.equal((await endOf(set.client, `${id}-in`)).state, "failed");
  await assert.rejects(set.client.cancelMigration(id), { code: "CONFLICT" });
});

test("a worker that breaks down fails its migration (QEMU says that it had not handed over)", async () => {
  await using set = await pair("crash-1");
  const { id } = await set.send();
  const ended = await endOf(set.client, id);
  assert.equal(ended.state, "failed");
  assert.match(ended.text ?? "", /exit code 3.*had not been handed over; here it is running/);
});

test("a worker that breaks down after the hand-over leaves the VM stopped", async () => {
  await using set = await pair("crash-2");
  set.source.migration = "completed";
  const { id } = await set.send();
  // What a QEMU that has let go says of its VM; the worker needs longer than this to start and die.
  set.source.status = "postmigrate";
  const ended = await endOf(set.client, id);
  assert.equal(ended.state, "interrupted");
  assert.match(ended.text ?? "", /had been handed over/);
  assert.ok(!set.source.commands.includes("cont"));
});

test("a VM whose source fell silent is kept until an operator decides (continue)", async () => {
  await using set = await pair("silent-1");
  const { id } = await set.send();
  assert.equal((await endOf(set.client, id)).state, "unconfirmed");
  assert.equal((await endOf(set.client, `${id}-in`)).state, "uncertain");
  const kept = await set.client.getVm("silent-1");
  assert.equal(kept.state, "kept");
  assert.match(kept.note ?? "", /godwit continue silent-1/);
  assert.ok(!set.waiting.commands.includes("cont"));
  set.waiting.status = "paused";
  await set.client.continueVm("silent-1");
  assert.equal(set.waiting.status, "running");
  assert.ok(set.waiting.commands.includes("cont"));
  await assert.rejects(set.client.getVm("silent-1"), { code: "NOT_FOUND" });
});

for (const [outcome, state, ran] of [
  ["handed-over", "running", true],
  ["aborted", "discarded", false],
] as const) {
  test(`a VM whose source fell silent is settled by the source's word (${outcome})`, async () => {
    await using set = await pair("silent-2");
    const { id } = await set.send();
    await endOf(set.client, id);
    await endOf(set.client, `${id}-in`);
    set.waiting.status = "paused";
    const { migrationAddress } = await set.client.getHost();
    const resolved = async (): Promise<unknown> => {
      const socket = createConnection(parseHostPort(migrationAddress ?? ""));
      socket.write(`${JSON.stringify({ type: "resolve", migrationId: id, outcome })}\n`);
      const answer = await new Promise<string>((resolve) => {
        socket.on("data", (bytes: Buffer) => resolve(bytes.toString()));
      });
      socket.destroy();
      return JSON.parse(answer);
    };
    assert.deepEqual(await resolved(), { type: "resolved", state });
    // Its answer may have been lost: the source asks again.
    const again = ran ? "running" : "not here";
    assert.deepEqual(await resolved(), { type: "resolved", state: again });
    assert.equal(set.waiting.commands.includes("cont"), ran);
    assert.deepEqual(await set.client.listVms(), []);
  });
}

test("a kept VM and the history outlive the daemon", async () => {
  await using folder = await temporaryFolder();
  const waitingPath = join(folder.path, "waiting.sock");
  await using _source = await FakeQemu.listen(join(folder.path, "source.sock"), "running");
  await using _waiting = await FakeQemu.listen(waitingPath, "inmigrate");
  let id: string;
  {
    await using first = await startDaemon(folder.path);
    await first.client.expectVm({ name: "silent-3", qmpPath: waitingPath });
    const qmpPath = join(folder.path, "source.sock");
    ({ id } = await first.client.startMigration({ qmpPath, name: "silent-3", ...first.target }));
    await endOf(first.client, id);
    await endOf(first.client, `${id}-in`);
  }
  await using second = await startDaemon(folder.path);
  assert.equal((await second.client.getVm("silent-3")).state, "kept");
  assert.equal((await second.client.getMigration(`${id}-in`)).state, "uncertain");
});

test("a journal that a daemon left is explained in the list", async () => {
  await using folder = await temporaryFolder();
  const qmpPath = join(folder.path, "source.sock");
  await using source = await FakeQemu.listen(qmpPath, "postmigrate");
  source.migration = "completed";
  await (await startDaemon(folder.path)).daemon.stop();
  const journal = { migrationId: "abc", vmName: "web", host: "host2", port: 7470, qmpPath };
  const path = join(folder.path, "run/migrations/abc.json");
  await writeFile(path, JSON.stringify({ ...journal, phase: "handover" }));
  await using second = await startDaemon(folder.path);
  const found = await waitFor(async () => (await second.client.listMigrations())[0]);
  assert.equal(found.state, "interrupted");
  assert.match(found.text ?? "", /web had been handed over to host2:7470/);
});

async function waitFor<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (let i = 0; i < 400; i++) {
    const value = await ask();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it did not happen");
}

test("stopping cancels what is not handed over and leaves no socket behind", async () => {
  await using set = await pair("slow-2");
  const { id } = await set.send();
  const following = eventsOf(set.client, id);
  const second = set.client.listMigrations();
  await second;
  const { pid } = await set.client.getHost();
  assert.equal(pid, process.pid);
  await waitFor(async () => (await set.client.getMigration(id)).progress);
  await set[Symbol.asyncDispose]();
  const { ended } = await following;
  assert.equal(ended.state, "cancelled");
  await assert.rejects(set.client.listVms(), { code: "NOT_FOUND", details: { daemon: "absent" } });
});

test("connections that say nothing are bounded", async () => {
  await using folder = await temporaryFolder();
  await using one = await startDaemon(folder.path);
  const sockets = Array.from({ length: 10 }, () => createConnection(one.target));
  const closed = sockets.map((socket) => {
    socket.on("error", () => {});
    socket.resume();
    return new Promise<boolean>((resolve) => {
      socket.on("close", () => resolve(true));
    });
  });
  const ended = await waitFor(async () => {
    const count = sockets.filter((socket) => socket.destroyed).length;
    return count === 6 ? count : undefined;
  });
  assert.equal(ended, 6, "4 from one address are left");
  for (const socket of sockets) socket.destroy();
  await Promise.all(closed);
});

test("a connection for which no worker can be started is closed", async () => {
  await using folder = await temporaryFolder();
  await using one = await startDaemon(folder.path);
  // Its output cannot be written anywhere.
  await rm(join(folder.path, "run/logs"), { recursive: true });
  for (let i = 0; i < 6; i++) {
    const socket = createConnection(one.target);
    socket.on("error", () => {});
    socket.resume();
    await new Promise((resolve) => socket.on("close", resolve));
  }
  assert.equal((await one.client.getHost()).pid, process.pid);
});

test("the API socket is for its owner alone", async () => {
  await using folder = await temporaryFolder();
  await using _one = await startDaemon(folder.path);
  const { mode } = await stat(join(folder.path, "run/godwit.sock"));
  assert.equal(mode & 0o777, 0o600);
});

test("a second daemon in the same folder is refused, and the first goes on", async () => {
  await using folder = await temporaryFolder();
  await using one = await startDaemon(folder.path);
  await assert.rejects(startDaemon(folder.path), { code: "CONFLICT", message: /runs already/ });
  assert.equal((await one.client.getHost()).pid, process.pid);
});

test("over TCP the API wants the token", async () => {
  await using folder = await temporaryFolder();
  const tokenFile = join(folder.path, "token");
  await using _one = await startDaemon(folder.path, { listenApi: "127.0.0.1:17471", tokenFile });
  const at = { host: "127.0.0.1", port: 17471 };
  const token = (await readFile(tokenFile, "utf8")).trim();
  assert.deepEqual(await new GodwitClient({ ...at, token }).listVms(), []);
  await assert.rejects(new GodwitClient({ ...at, token: "wrong" }).listVms(), {
    code: "INSECURE",
    message: /token/,
  });
});

test("requests are checked against the contract", async () => {
  await using folder = await temporaryFolder();
  await using one = await startDaemon(folder.path);
  await using running = await FakeQemu.listen(join(folder.path, "q.sock"), "running");
  const qmpPath = join(folder.path, "q.sock");
  const { client, target } = one;
  await assert.rejects(client.getVm("../x"), { code: "CONFIG_INVALID", message: /invalid name/ });
  await assert.rejects(client.getVm("web"), { code: "NOT_FOUND" });
  await assert.rejects(client.getMigration("web"), { code: "NOT_FOUND" });
  await assert.rejects(client.startVm({ text: "name: web\nmemory: 5\n", source: "web.yaml" }), {
    code: "DEFINITION_INVALID",
    message: /^web.yaml:2: memory/,
  });
  await assert.rejects(client.expectVm({ name: "web", qmpPath }), {
    code: "CONFLICT",
    message: /-S -incoming defer/,
  });
  await assert.rejects(client.expectVm({ name: "web", qmpPath: join(folder.path, "none") }), {
    code: "QMP_CLOSED",
  });
  await assert.rejects(
    client.startMigration({ qmpPath, name: "web", ...target, host: "10.9.8.7" }),
    {
      code: "INSECURE",
    },
  );
  const misspelt = { qmpPath, name: "web", ...target, options: { downtimeLimit: 3 } };
  await assert.rejects(client.startMigration(misspelt as never), { code: "CONFIG_INVALID" });
  running.status = "postmigrate";
  await assert.rejects(client.startMigration({ qmpPath, name: "web", ...target }), {
    code: "CONFLICT",
    message: /handed over already/,
  });
});

test("a destination refuses in words that the source repeats (nobody waits under the name)", async () => {
  await using set = await pair("ok-3");
  await set.client.forgetExpectation("ok-3");
  const ended = await endOf(set.client, (await set.send()).id);
  assert.equal(ended.state, "failed");
  assert.match(ended.text ?? "", /godwit receive --qmp PATH --name ok-3/);
});
