/**
 * The example applications of guest/assist/examples against the tests' own agent: the cache server under load while its memory is
 * zeroed, and the helper of unmodified servers with a real Redis and a real memcached. Needs no QEMU.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serversFolder } from "../../scripts/setup/servers.ts";
import { missing } from "./assist-client.ts";
import { eventually, Peer, pagesOf, zeroFrozen } from "./assist-peer.ts";

const examples = "guest/assist/examples";
const folder = mkdtempSync(join(tmpdir(), "godwit-assist-examples-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A program whose output is kept, killed at the end. */
class Program implements AsyncDisposable {
  output = "";
  exit: number | string | undefined;
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[], env: Record<string, string> = {}) {
    this.#child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child.stdout?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.#child.stderr?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.#child.on("exit", (code, signal) => (this.exit = code ?? signal ?? "unknown"));
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async ended(): Promise<number | string | undefined> {
    await eventually(
      () => this.exit !== undefined,
      () => `does not end: ${this.output}`,
      20_000,
    );
    return this.exit;
  }

  async says(text: string | RegExp): Promise<void> {
    await eventually(
      () => this.output.search(text) >= 0,
      () => `does not say "${String(text)}": ${this.output}`,
      20_000,
    );
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.exit === undefined) this.#child.kill(signal);
    await this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

/** Sends bytes to a unix socket and gives what comes back until it contains `end`. */
async function talk(path: string, request: string, end: string): Promise<string> {
  const socket = createConnection(path);
  let answer = "";
  socket.on("data", (text: Buffer) => (answer += text.toString("latin1")));
  socket.on("error", () => {});
  socket.write(request);
  await eventually(
    () => answer.includes(end),
    () => `no answer to ${request}: ${answer}`,
  );
  socket.destroy();
  return answer;
}

describe("cache-server", { skip: missing("gcc") }, () => {
  const program = join(folder, "cache-server");
  const socket = join(folder, "cache.sock");
  before(() => {
    const flags = ["-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror"];
    execFileSync("gcc", [...flags, "-o", program, `${examples}/cache-server.c`]);
  });
  const stats = async (): Promise<Record<string, number>> =>
    Object.fromEntries(
      (await talk(socket, "stats\n", "\n"))
        .trim()
        .split(" ")
        .slice(1)
        .map((word) => [word.split("=")[0] ?? "", Number(word.split("=")[1])]),
    );

  test("no wrong value is ever returned while its memory is zeroed, in part and as a whole", async () => {
    await using peer = await Peer.listening();
    await using server = new Program(program, [`socket=${socket}`, "mb=8"], {
      GODWIT_ASSIST: peer.path,
    });
    const application = await peer.application();
    await application.until(/^area/);
    await using load = new Program(program, [
      "--load",
      `socket=${socket}`,
      "seconds=5",
      "keys=2000",
      "rate=20000",
      "tickms=100",
    ]);
    await load.says(/tick 8 ok/);
    const [arena = { begin: 0, end: 0 }] = application.ranges;
    const { begin, end } = pagesOf(arena);
    const everyThirdPage = Array.from({ length: (end - begin) / 12_288 - 1 }, (_, i) => ({
      begin: begin + i * 12_288,
      end: begin + i * 12_288 + 4096,
    }));
    // The one that spoils nothing comes first: what was spoiled is found when it is asked for, which can take a while.
    for (const [ranges, outcome] of [
      [[], "abort"],
      [everyThirdPage, "resume"],
      [[arena], "resume"],
    ] as const) {
      const earlier = await stats();
      application.say("begin");
      application.say("prepare 1000");
      await application.until("ready", (earlier["migrations"] ?? 0) + 1);
      assert.equal((await stats())["open"], 0);
      await zeroFrozen(server.pid, ranges);
      await sleep(100);
      application.say(outcome);
      await sleep(500);
      const now = await stats();
      assert.equal(now["open"], 1);
      const spoiled = (now["spoiled"] ?? 0) - (earlier["spoiled"] ?? 0);
      assert.equal(spoiled > 0, ranges.length > 0, `${spoiled} spoiled entries`);
      assert.ok((now["hits"] ?? 0) > (earlier["hits"] ?? 0) + 100);
    }
    assert.equal(await load.ended(), 0, load.output);
    assert.match(load.output, /refused [1-9]/);
    assert.doesNotMatch(load.output, /CORRUPT/);
    assert.deepEqual(application.violations, []);
  });

  test("the load generator finds wrong values (another server's)", async () => {
    await using _server = new Program(program, [`socket=${socket}`, "mb=8", "assist=0"]);
    await using load = new Program(program, [
      "--load",
      `socket=${socket}`,
      "seconds=3",
      "keys=1",
      "rate=2000",
      "tickms=50",
    ]);
    await load.says(/tick 2 ok/);
    // More than once: the load may happen to store before it looks.
    for (let i = 0; i < 10; i++) await talk(socket, `set k0 3000\n${"x".repeat(3000)}\n`, "stored");
    assert.equal(await load.ended(), 1);
    assert.match(load.output, /CORRUPT cache key 0/);
  });
});

const arenas = [
  { name: "C", needs: "gcc", command: () => [join(folder, "arena")] },
  { name: "Python", needs: "python3", command: () => ["python3", "-B", `${examples}/arena.py`] },
  {
    name: "Node",
    needs: process.execPath,
    command: () => [process.execPath, `${examples}/arena.js`],
  },
  { name: "Java", needs: "javac", command: () => ["java", "-Xmx64m", "-cp", folder, "Arena"] },
];

describe("arena, by the stand-in agent for developers", { skip: missing("python3") }, () => {
  before(() => {
    const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"];
    const java = ["FindBuffer", "GodwitAssist"].map(
      (name) => `guest/assist/java/org/godwit/assist/${name}.java`,
    );
    if (missing("gcc") === false)
      execFileSync("gcc", [...flags, "-o", join(folder, "arena"), `${examples}/arena.c`]);
    if (missing("javac") === false)
      execFileSync("javac", ["-d", folder, ...java, `${examples}/Arena.java`]);
  });

  for (const { name, needs, command } of arenas) {
    test(`right answers while its memory is zeroed (${name})`, {
      skip: missing(needs),
    }, async () => {
      const path = join(folder, "fake.sock");
      const script = "migrate 2000; wait 0.1; begin; prepare 2000; zero 50; abort; wait 0.1; list";
      await using agent = new Program("python3", [
        "-B",
        "guest/assist/tools/fake-agent.py",
        path,
        "--script",
        script,
      ]);
      await agent.says(/GODWIT_ASSIST/);
      const [program = "", ...args] = command();
      await using arena = new Program(program, args, { GODWIT_ASSIST: path });
      assert.equal(await agent.ended(), 0, agent.output);
      assert.equal(agent.output.match(/is ready after/g)?.length, 2, agent.output);
      assert.match(agent.output, /[1-9]\d+ pages of 4 KiB written/);
      assert.doesNotMatch(agent.output, /!!/);
      await arena.says(/goes on[^]*goes on/);
      assert.equal(arena.exit, undefined, arena.output);
      assert.doesNotMatch(arena.output, /WRONG/);
    });
  }

  test("the stand-in tells what breaks the protocol", async () => {
    const path = join(folder, "fake.sock");
    await using agent = new Program("python3", [
      "-B",
      "guest/assist/tools/fake-agent.py",
      path,
      "--script",
      "quit",
    ]);
    await agent.says(/GODWIT_ASSIST/);
    const answer = await talk(path, "ready\narea 4096 4096\nhello\n", "there are");
    assert.equal(answer.match(/^error /gm)?.length, 3, answer);
    assert.equal(agent.output.match(/!!/g)?.length, 3, agent.output);
  });
});

const servers = serversFolder();
const noServers = existsSync(servers)
  ? missing("python3")
  : "needs Redis and memcached: node scripts/setup/main.ts servers";

describe("redis-helper", { skip: noServers }, () => {
  const redisSocket = join(folder, "redis.sock");
  const state = join(folder, "state.json");
  beforeEach(() => rmSync(state, { force: true }));
  const redis = async (...words: readonly string[]): Promise<string> => {
    const request = words.map((word) => `$${word.length}\r\n${word}\r\n`).join("");
    return talk(redisSocket, `*${words.length}\r\n${request}`, "\r\n");
  };
  const startRedis = async (...options: readonly string[]): Promise<Program> => {
    const common = ["--port", "0", "--unixsocket", redisSocket, "--save", "", "--dir", folder];
    const server = new Program(join(servers, "redis-server"), [...common, ...options]);
    await server.says(/ready to accept connections/i);
    // 20,000 values of 3,000 bytes.
    await redis("EVAL", "for i=1,20000 do redis.call('SET','k'..i,string.rep('v',3000)) end", "0");
    return server;
  };
  // Without zeroing: here that would be all of the machine.
  const startHelper = (path: string, ...options: readonly string[]): Program =>
    new Program(
      "python3",
      ["-B", `${examples}/redis-helper.py`, "--state", state, "--no-zero", ...options],
      {
        GODWIT_ASSIST: path,
      },
    );
  const maxmemory = async (): Promise<string | undefined> => {
    const answer = await redis("CONFIG", "GET", "maxmemory");
    return answer.split("\r\n")[4];
  };
  const residentMiB = (pid: number): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

  test("redis is shrunk at begin, ready waits for it, and its limit is given back", async () => {
    await using server = await startRedis(
      "--maxmemory",
      "200mb",
      "--maxmemory-policy",
      "allkeys-lru",
    );
    const earlier = residentMiB(server.pid);
    await using peer = await Peer.listening();
    await using helper = startHelper(peer.path, "--connect", redisSocket, "--shrink-to", "20mb");
    const application = await peer.application();
    application.say("begin");
    application.say("prepare 5000");
    await application.until("ready");
    await helper.says(/freed \d+ MiB/);
    assert.deepEqual(application.received, ["name redis-helper", "ready"]);
    // Not more: what is evicted leaves holes among what stays.
    assert.ok(
      residentMiB(server.pid) < earlier - 5,
      `${earlier} to ${residentMiB(server.pid)} MiB`,
    );
    assert.equal(await maxmemory(), String(20 << 20));
    application.say("resume");
    await eventually(
      async () => (await maxmemory()) === String(200 << 20),
      () => "the limit is not given back",
    );
    assert.equal(existsSync(state), false);
    await helper.end();
    assert.equal(helper.exit, 0, helper.output);
  });

  test("redis is emptied, and nearly all of its memory goes back to the kernel", async () => {
    await using server = await startRedis();
    const earlier = residentMiB(server.pid);
    await using peer = await Peer.listening();
    await using helper = startHelper(peer.path, "--connect", redisSocket, "--flush");
    const application = await peer.application();
    application.say("begin");
    await helper.says(/freed \d+ MiB/);
    assert.ok(
      residentMiB(server.pid) < earlier - 50,
      `${earlier} to ${residentMiB(server.pid)} MiB`,
    );
    application.say("abort");
  });

  test("killed in mid-migration: the next helper gives the limit back", async () => {
    await using _server = await startRedis("--maxmemory-policy", "allkeys-lru");
    await using peer = await Peer.listening();
    const options = ["--connect", redisSocket, "--shrink-to", "20mb"];
    await using first = startHelper(peer.path, ...options);
    (await peer.application()).say("begin");
    await first.says(/freed \d+ MiB/);
    await first.end("SIGKILL");
    assert.equal(await maxmemory(), String(20 << 20));
    await using second = startHelper(peer.path, ...options);
    await peer.application(1);
    await eventually(
      async () => (await maxmemory()) === "0",
      () => `the limit is not given back ${second.output} ${existsSync(state)}`,
    );
  });

  test("a redis that must not evict keeps everything", async () => {
    await using _server = await startRedis();
    await using peer = await Peer.listening();
    await using helper = startHelper(peer.path, "--connect", redisSocket, "--shrink-to", "20mb");
    const application = await peer.application();
    application.say("begin");
    await helper.says(/freed \d+ MiB/);
    assert.match(helper.output, /noeviction/);
    assert.match(await redis("DBSIZE"), /:20000/);
    application.say("abort");
  });

  test("a server that is away: ready all the same, and said so", async () => {
    await using peer = await Peer.listening();
    await using helper = startHelper(peer.path, "--connect", join(folder, "nobody"), "--flush");
    const application = await peer.application();
    application.say("begin");
    application.say("prepare 1000");
    await application.until("ready");
    await helper.says(/stays as it is/);
  });

  test("memcached gives its slabs back and gets its limit back", async () => {
    const socket = join(folder, "memcached.sock");
    await using server = new Program(join(servers, "memcached"), [
      "-s",
      socket,
      "-m",
      "128",
      "-u",
      "root",
    ]);
    await eventually(
      () => existsSync(socket),
      () => `memcached does not start ${server.output}`,
    );
    const value = "v".repeat(3000);
    const sets = Array.from(
      { length: 20_000 },
      (_, i) => `set k${i} 0 0 3000 noreply\r\n${value}\r\n`,
    );
    await talk(socket, `${sets.join("")}version\r\n`, "VERSION");
    const earlier = residentMiB(server.pid);
    await using peer = await Peer.listening();
    await using helper = startHelper(
      peer.path,
      "--server",
      "memcached",
      "--connect",
      socket,
      "--flush",
    );
    const application = await peer.application();
    application.say("begin");
    application.say("prepare 9000");
    await application.until("ready");
    await helper.says(/freed \d+ MiB/);
    assert.ok(
      residentMiB(server.pid) < earlier - 50,
      `${earlier} to ${residentMiB(server.pid)} MiB`,
    );
    application.say("abort");
    await eventually(
      async () => /limit_maxbytes 134217728/.test(await talk(socket, "stats\r\n", "END")),
      () => "the limit is not given back",
    );
  });
});
