/** The socket of the real agent for applications: what strangers may say there, and what an application is told. */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, statSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { Agent, Prey, refusal, skipAgent, statOf, until, wait } from "./agent-harness.ts";

/** A program that speaks the protocol by hand. */
class Application implements Disposable {
  readonly socket: Socket;
  /** Lines that have come and were not taken yet. */
  readonly lines: string[] = [];
  closed = false;

  constructor(path: string) {
    this.socket = createConnection({ path });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
    });
    createInterface({ input: this.socket }).on("line", (line) => this.lines.push(line));
  }

  send(text: string): void {
    this.socket.write(text);
  }

  async next(): Promise<string> {
    await until("a line from the agent", () => this.lines.length > 0);
    return this.lines.shift() as string;
  }

  async ask(line: string): Promise<string> {
    this.send(`${line}\n`);
    return await this.next();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

async function world() {
  const agent = await Agent.start();
  const client = await agent.connect();
  const application = new Application(agent.applicationsPath);
  return {
    agent,
    client,
    application,
    async [Symbol.asyncDispose]() {
      application[Symbol.dispose]();
      await agent[Symbol.asyncDispose]();
    },
  };
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** A mapping of this very process: the longest of its kind. */
function ownMapping(kind: RegExp): { address: number; bytes: number } {
  const found = [...readFileSync("/proc/self/maps", "utf8").matchAll(/^(\w+)-(\w+) (.*)$/gm)]
    .filter(([, , , rest = ""]) => kind.test(rest))
    .map(([, from = "", to = ""]) => {
      const address = Number.parseInt(from, 16);
      return { address, bytes: Number.parseInt(to, 16) - address };
    });
  const longest = found.toSorted((a, b) => b.bytes - a.bytes)[0];
  assert.ok(longest !== undefined, `no mapping like ${kind}`);
  return longest;
}

/** Room of this process for a few areas; V8 keeps it mapped for as long as the process lives. */
const heap = ownMapping(/^rw-p 00000000 00:00 0\s*$/);
assert.ok(heap.bytes >= 0x8000, "a mapping of 8 pages");
const page = (index: number): number => heap.address + index * 0x1000;

describe("areas", { skip: skipAgent }, () => {
  test("an application is listed with its name and its areas, page-aligned inwards", async () => {
    await using w = await world();
    assert.equal(await w.application.ask("name cache of\u0001things"), "ok");
    assert.equal(await w.application.ask(`area ${hex(page(0) + 1)} 12288`), "ok");
    assert.deepEqual(await w.client.applications(), [
      {
        pid: process.pid,
        startTimeTicks: Number(statOf(process.pid)[19]),
        state: "idle",
        name: "cache of?things",
        areas: [{ address: page(1), bytes: 0x2000 }],
      },
    ]);
  });

  test("areas that touch or overlap are one; drop takes whole pages away, and splits", async () => {
    await using w = await world();
    const areas = async () => (await w.client.applications())[0]?.areas;
    await w.application.ask(`area ${page(0)} 0x2000`);
    await w.application.ask(`area ${page(2)} 0x2000`);
    await w.application.ask(`area ${page(5)} 0x2000`);
    await w.application.ask(`area ${page(3)} 0x3000`);
    assert.deepEqual(await areas(), [{ address: page(0), bytes: 0x7000 }]);
    assert.equal(await w.application.ask(`drop ${page(2) + 100} 1`), "ok");
    assert.equal(await w.application.ask(`drop ${page(4) - 1} 2`), "ok");
    assert.deepEqual(await areas(), [
      { address: page(0), bytes: 0x2000 },
      { address: page(5), bytes: 0x2000 },
    ]);
    assert.equal(
      await w.application.ask("drop 0x1000 0xfffffffffffff000"),
      "error drop ADDRESS LENGTH",
    );
    assert.equal(await w.application.ask("drop 0x1000 0xffffffffffffe000"), "ok");
    assert.deepEqual(await areas(), []);
    await w.application.ask(`area ${page(0)} 0x2000`);
    assert.equal(await w.application.ask("drop"), "ok");
    assert.deepEqual(await areas(), []);
  });

  test("only private anonymous writable memory of the caller's own", async () => {
    await using w = await world();
    await using prey = await Prey.start();
    const file = ownMapping(/^r--p .*\/\S+$/);
    const code = ownMapping(/^r-xp/);
    const stack = ownMapping(/\[stack\]$/);
    const own = readFileSync("/proc/self/maps", "utf8");
    assert.ok(!own.includes(prey.region.toString(16)));
    for (const address of [file.address, code.address, stack.address, prey.region, 0x10000]) {
      const answer = await w.application.ask(`area ${hex(address)} 0x1000`);
      assert.match(answer, /^error not private anonymous writable memory/, hex(address));
    }
    const past = `area ${hex(heap.address)} ${hex(heap.bytes + (1 << 30))}`;
    assert.match(await w.application.ask(past), /^error not private/);
    assert.deepEqual((await w.client.applications())[0]?.areas, []);
  });

  test("lines that are none are answered with an error, and the connection stays", async () => {
    await using w = await world();
    const bad = [
      "",
      "area",
      "area 0x1000",
      "area -1 5",
      "area 0x 5",
      "area 1  2",
      "area 1 2 3",
      "area 0x1000 0",
      "area 99999999999999999999 1",
      "area 0xfffffffffffff000 0x2000",
      "Ready",
      "ready ",
      "drop x",
      "\u0000\u0001",
    ];
    for (const line of bad) assert.match(await w.application.ask(line), /^error /, line);
    assert.equal(await w.application.ask(`area ${page(0)} 10`), "error no whole page in it");
    assert.equal(await w.application.ask("ready"), "error not asked to prepare");
    assert.match(await w.application.ask("x".repeat(257)), /longer than 256/);
    assert.match(await w.application.ask("x".repeat(20_000)), /longer than 256/);
    assert.equal(await w.application.ask(`name ${"x".repeat(250)}`), "ok");
    w.application.send("na");
    await wait(20);
    assert.equal(await w.application.ask("me half"), "ok");
    w.application.send("name a\nname b\nname c\n");
    for (let i = 0; i < 3; i++) assert.equal(await w.application.next(), "ok");
    assert.equal((await w.client.applications())[0]?.name, "c");
  });

  test("at most 1024 areas; what is dropped goes even when there is no room for the split", async () => {
    await using w = await world();
    await using prey = await Prey.start(4100);
    await prey.tell(`app ${w.agent.applicationsPath}`);
    const area = (index: number): number => prey.region + index * 0x4000;
    for (let i = 0; i < 1024; i++)
      assert.equal(await prey.tell(`say area ${area(i)} 0x3000`), "ok");
    const oneMore = `say area ${area(1024)} 0x3000`;
    assert.equal(await prey.tell(oneMore), "error more than 1024 areas");
    assert.equal(await prey.tell(`say drop ${area(0) + 0x1000} 1`), "ok");
    const found = (await w.client.applications()).find(({ pid }) => pid === prey.pid);
    assert.equal(found?.areas.length, 1024);
    assert.equal(found?.areas[0]?.bytes, 0x1000);
    await prey[Symbol.asyncDispose]();
    await wait(20);
    assert.ok(!(await w.client.applications()).some(({ pid }) => pid === prey.pid));
  });

  test("at most 64 applications, of any user", async () => {
    await using w = await world();
    assert.equal(statSync(w.agent.applicationsPath).mode & 0o777, 0o666);
    const others = Array.from({ length: 63 }, () => new Application(w.agent.applicationsPath));
    try {
      for (const other of others) assert.equal(await other.ask("name x"), "ok");
      using oneMore = new Application(w.agent.applicationsPath);
      assert.match(await oneMore.next(), /^error too many/);
      others.pop()?.socket.destroy();
      await wait(20);
      using again = new Application(w.agent.applicationsPath);
      assert.equal(await again.ask("name y"), "ok");
    } finally {
      for (const other of others) other.socket.destroy();
    }
  });
});

describe("a migration", { skip: skipAgent }, () => {
  test("begin, prepare, ready, resume", async () => {
    await using w = await world();
    await w.application.ask("name a");
    assert.equal(await w.client.announce("begin"), 1);
    assert.equal(await w.application.next(), "begin");
    assert.equal(await w.client.announce("prepare", 1500), 1);
    assert.equal(await w.application.next(), "prepare 1500");
    const ready = w.client.awaitReady(1500);
    assert.equal(await w.application.ask("ready"), "ok");
    assert.deepEqual(await ready, [{ pid: process.pid, state: "ready" }]);
    assert.equal(await w.client.announce("resume"), 1);
    assert.equal(await w.application.next(), "resume");
    assert.equal(await w.client.announce("abort"), 0, "there is nothing to be told any more");
    assert.equal(await w.application.ask("ready"), "error not asked to prepare");
  });

  test("who does not answer is late, who ends is gone, and nobody waits longer than said", async () => {
    await using w = await world();
    using late = new Application(w.agent.applicationsPath);
    using gone = new Application(w.agent.applicationsPath);
    for (const one of [w.application, late, gone]) await one.ask("name x");
    assert.equal(await w.client.announce("prepare", 200), 3);
    const beginMs = performance.now();
    const waiting = w.client.awaitReady(200);
    await assert.rejects(w.client.awaitReady(100), refusal("BUSY"));
    await w.application.next();
    await w.application.ask("ready");
    gone.socket.destroy();
    const states = (await waiting).map(({ state }) => state).toSorted();
    assert.deepEqual(states, ["gone", "late", "ready"]);
    const ms = performance.now() - beginMs;
    assert.ok(ms >= 199 && ms < 500, `${ms} ms`);
    await late.next();
    assert.equal(await late.ask("ready"), "ok", "late is better than never");
    assert.deepEqual((await w.client.awaitReady(1000)).map(({ state }) => state).toSorted(), [
      "gone",
      "ready",
      "ready",
    ]);
  });

  test("nobody there: nothing to wait for", async () => {
    await using w = await world();
    w.application.socket.destroy();
    await wait(20);
    assert.equal(await w.client.announce("prepare", 1000), 0);
    assert.deepEqual(await w.client.awaitReady(1000), []);
  });

  test("a host that hangs up: who was told to prepare is told to resume, others hear nothing", async () => {
    await using w = await world();
    await w.application.ask("name a");
    await w.client.announce("prepare", 1000);
    await w.application.next();
    using other = new Application(w.agent.applicationsPath);
    await other.ask("name b");
    await w.client.close();
    assert.equal(await w.application.next(), "resume");
    await wait(20);
    assert.deepEqual(other.lines, []);
    assert.equal(await other.ask("ready"), "error not asked to prepare");
  });

  test("whoever was told of a beginning is told of its end, whatever becomes of the host [hangs up, another one]", async () => {
    await using w = await world();
    await w.application.ask("name a");
    await w.client.announce("begin");
    assert.equal(await w.application.next(), "begin");
    await w.client.close();
    assert.equal(await w.application.next(), "resume");
    const second = await w.agent.connect();
    await second.announce("begin");
    assert.equal(await w.application.next(), "begin");
    await second.close();
    await w.agent.connect();
    assert.equal(await w.application.next(), "resume");
    await wait(20);
    assert.deepEqual(w.application.lines, [], "once");
  });

  test("an agent that ends closes the sockets; a new one takes new connections", async () => {
    await using w = await world();
    await w.application.ask("name a");
    await w.agent.end("SIGKILL");
    await until("the socket closes", () => w.application.closed);
    await w.agent.restart();
    using again = new Application(w.agent.applicationsPath);
    assert.equal(await again.ask("name b"), "ok");
  });

  test("one that never reads is dropped, one that floods does not hold up the host", async () => {
    await using w = await world();
    const flood = "area 0x10000 0x1000\n".repeat(5000);
    using rude = new Application(w.agent.applicationsPath);
    rude.socket.pause();
    for (let i = 0; i < 60; i++) rude.send(flood);
    const ticks = (): number => Number(statOf(w.agent.pid)[11]) + Number(statOf(w.agent.pid)[12]);
    await wait(100);
    const before = ticks();
    const beginMs = performance.now();
    let worstMs = 0;
    while (performance.now() - beginMs < 1000) {
      const oneMs = performance.now();
      await w.client.extend(1000);
      worstMs = Math.max(worstMs, performance.now() - oneMs);
      await wait(10);
    }
    assert.ok(ticks() - before <= 35, `${ticks() - before} ticks of 10 ms in 1 s`);
    assert.ok(worstMs < 300, `${worstMs} ms`);
  });

  test("an unprivileged user may connect, and names only its own", async () => {
    await using w = await world();
    // The folder of the test is closed to others; the real one, /run/godwit, is not.
    chmodSync(w.agent.folder, 0o755);
    await using prey = await Prey.start(64, 65_534);
    await prey.tell(`app ${w.agent.applicationsPath}`);
    assert.match(await prey.tell(`say area ${page(0)} 0x1000`), /^error not private/);
    assert.equal(await prey.tell(`say area ${prey.region} 0x1000`), "ok");
    const found = (await w.client.applications()).find(({ pid }) => pid === prey.pid);
    assert.deepEqual(found?.areas, [{ address: prey.region, bytes: 0x1000 }]);
  });
});
