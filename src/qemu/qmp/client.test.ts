import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { QmpClient, type QmpClientOptions } from "./client.ts";

const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}}, "capabilities": []}}\r\n';

interface Command {
  readonly execute: string;
  readonly arguments?: unknown;
  readonly id: number;
}

type Script = (command: Command, socket: Socket) => void;

/** A scripted QEMU on a unix socket: greets, accepts the negotiation, hands every other command to the script. */
async function fakeMonitor(script: Script, first = greeting) {
  const directory = await mkdtemp(join(tmpdir(), "godwit-qmp-"));
  const path = join(directory, "m.sock");
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.write(first);
    createInterface({ input: socket }).on("line", (line) => {
      const command: Command = JSON.parse(line);
      if (command.execute === "qmp_capabilities") reply(socket, command.id, {});
      else script(command, socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true });
    },
  };
}

function reply(socket: Socket, id: number, value: unknown): void {
  socket.write(`${JSON.stringify({ return: value, id })}\r\n`);
}

function event(name: string, data: object): string {
  const timestamp = { seconds: 1, microseconds: 2 };
  return `${JSON.stringify({ event: name, data, timestamp })}\r\n`;
}

const silent: Script = () => {};
const connect = (path: string, options: QmpClientOptions = {}) =>
  QmpClient.connect(path, { deadlineMs: 2000, ...options });

test("a command gets its answer, and the greeting's version is known", async () => {
  await using monitor = await fakeMonitor((command, socket) => {
    assert.deepEqual(command.arguments, { "command-line": "info ramblock" });
    reply(socket, command.id, "text");
  });
  await using client = await connect(monitor.path);
  assert.equal(client.version.qemu.major, 10);
  assert.equal(await client.hmp("info ramblock"), "text");
});

test("answers may come out of order and in pieces", async () => {
  const waiting: Command[] = [];
  await using monitor = await fakeMonitor((command, socket) => {
    waiting.push(command);
    if (waiting.length < 3) return;
    const text = waiting
      .toReversed()
      .map(({ id, execute }) => `${JSON.stringify({ return: { execute }, id })}\r\n`)
      .join("");
    for (const byte of Buffer.from(text)) socket.write(Uint8Array.of(byte));
  });
  await using client = await connect(monitor.path);
  const names = ["query-status", "query-kvm", "stop"] as const;
  const answers = await Promise.all(names.map((name) => client.execute(name)));
  assert.deepEqual(
    answers,
    names.map((execute) => ({ execute })),
  );
});

test("a refused command fails with command, class and description", async () => {
  await using monitor = await fakeMonitor(({ id }, socket) => {
    socket.write(`{"id": ${id}, "error": {"class": "GenericError", "desc": "no such thing"}}\r\n`);
  });
  await using client = await connect(monitor.path);
  await assert.rejects(client.execute("migrate", { uri: "unix:/x" }), {
    code: "QMP_ERROR",
    message: "QEMU refused migrate: no such thing (GenericError)",
    details: { command: "migrate", class: "GenericError", desc: "no such thing" },
  });
});

test("an error without an id belongs to the oldest command", async () => {
  await using monitor = await fakeMonitor((_, socket) => {
    socket.write('{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n');
  });
  await using client = await connect(monitor.path);
  await assert.rejects(client.execute("stop"), { code: "QMP_ERROR" });
});

test("a reply after its deadline is dropped, and the session goes on", async () => {
  const late: Command[] = [];
  const lines: string[] = [];
  await using monitor = await fakeMonitor((command, socket) => {
    if (command.execute === "stop") late.push(command);
    else for (const { id } of [...late, command]) reply(socket, id, {});
  });
  await using client = await connect(monitor.path, { log: (line) => lines.push(line) });
  await assert.rejects(client.execute("stop", {}, { deadlineMs: 20 }), {
    code: "TIMEOUT",
    message: /QEMU did not answer stop within 20 ms/,
  });
  await client.execute("cont");
  assert.match(lines.join(), /dropped/);
});

test("handlers see events in the order of arrival, before a later answer", async () => {
  await using monitor = await fakeMonitor(({ id }, socket) => {
    socket.write(event("STOP", {}) + event("MIGRATION", { status: "active" }));
    socket.write(event("MIGRATION", { status: "completed" }) + event("FUTURE", {}));
    reply(socket, id, {});
  });
  await using client = await connect(monitor.path);
  const seen: string[] = [];
  client.onAny(({ name }) => seen.push(name));
  const off = client.on("MIGRATION", ({ data, timestampUs }) => {
    seen.push(`${data.status}@${timestampUs}`);
  });
  await client.execute("stop");
  assert.deepEqual(seen, [
    "STOP",
    "active@1000002",
    "MIGRATION",
    "completed@1000002",
    "MIGRATION",
    "FUTURE",
  ]);
  off();
  await client.execute("stop");
  assert.equal(seen.length, 10);
});

test("once waits for the event that satisfies the predicate", async () => {
  await using monitor = await fakeMonitor(({ id }, socket) => {
    for (const status of ["setup", "active", "completed"])
      socket.write(event("MIGRATION", { status }));
    reply(socket, id, {});
  });
  await using client = await connect(monitor.path);
  const completed = client.once("MIGRATION", ({ data }) => data.status === "completed");
  await client.execute("migrate", { uri: "unix:/x" });
  assert.equal((await completed).data.status, "completed");
});

test("an event that does not come is a timeout", async () => {
  await using monitor = await fakeMonitor(silent);
  await using client = await connect(monitor.path);
  await assert.rejects(client.once("STOP", undefined, 20), { code: "TIMEOUT", message: /STOP/ });
});

test("QEMU's end fails everything pending, later commands too, and resolves closed", async () => {
  await using monitor = await fakeMonitor((_, socket) => socket.destroy());
  await using client = await connect(monitor.path);
  const stopped = client.once("STOP");
  await assert.rejects(client.execute("quit"), { code: "QMP_CLOSED", message: /^quit: / });
  await assert.rejects(stopped, { code: "QMP_CLOSED" });
  await assert.rejects(client.execute("stop"), { code: "QMP_CLOSED" });
  await assert.rejects(client.once("STOP"), { code: "QMP_CLOSED" });
  assert.equal((await client.closed).code, "QMP_CLOSED");
});

test("garbage ends the session with QMP_INVALID", async () => {
  await using monitor = await fakeMonitor((_, socket) => socket.write("what?\r\n"));
  await using client = await connect(monitor.path);
  await assert.rejects(client.execute("stop"), { code: "QMP_INVALID" });
});

test("an endless line ends the session with QMP_INVALID", async () => {
  await using monitor = await fakeMonitor((_, socket) => socket.write("x".repeat(3000)));
  await using client = await connect(monitor.path, { lineBytesMax: 2000 });
  await assert.rejects(client.execute("stop"), {
    code: "QMP_INVALID",
    message: /longer than 2000 bytes/,
  });
});

test("a handler that throws ends the session instead of the process", async () => {
  await using monitor = await fakeMonitor((_, socket) => socket.write(event("STOP", {})));
  await using client = await connect(monitor.path);
  client.on("STOP", () => {
    throw new Error("bug");
  });
  await assert.rejects(client.execute("stop"), { code: "QMP_CLOSED", message: /bug/ });
});

test("no greeting (another program holds the monitor) is a timeout that says so", async () => {
  await using monitor = await fakeMonitor(silent, "");
  await assert.rejects(connect(monitor.path, { deadlineMs: 30 }), {
    code: "TIMEOUT",
    message: /another program hold this monitor/,
  });
});

test("a socket that is not there is QMP_CLOSED with the path", async () => {
  await assert.rejects(connect("/nonexistent/m.sock"), {
    code: "QMP_CLOSED",
    message: /ENOENT \/nonexistent\/m\.sock/,
  });
});

test("a server that is not QEMU is QMP_INVALID", async () => {
  await using monitor = await fakeMonitor(silent, "220 mail ESMTP\r\n");
  await assert.rejects(connect(monitor.path), { code: "QMP_INVALID" });
});
