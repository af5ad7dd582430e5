/** The real agent on this machine, no VM: its port, and whatever comes in there. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AgentClient } from "../../src/assist/agent/index.ts";
import { Prng } from "../../src/base/index.ts";
import { systemClock } from "../../src/io/index.ts";
import {
  encodeFrame,
  encodeHello,
  encodeProcess,
  encodeRead,
} from "../../src/assist/agent/encode.ts";
import { buildAgent } from "../../guest/agent/build.ts";
import {
  Agent,
  forEver,
  pageBytes,
  RawPort,
  skipAgent,
  statOf,
  wait,
  world,
} from "./agent-harness.ts";

describe("the port", { skip: skipAgent }, () => {
  test("garbage, then a greeting (seed 3)", async () => {
    await using agent = await Agent.start();
    const prng = new Prng(3);
    {
      using port = new RawPort(agent.portPath);
      for (let i = 0; i < 40; i++) {
        const bytes = Buffer.alloc(prng.integer(1, 20_000));
        for (let at = 0; at < bytes.length; at++) bytes[at] = prng.integer(0, 255);
        if (prng.chance(0.5)) bytes.write("GWA1", prng.integer(0, bytes.length - 1), "latin1");
        port.send(bytes);
      }
      const half = encodeFrame(4, 0, 9, Buffer.alloc(4000, 1)).subarray(0, 1000);
      port.send(Buffer.concat([half, Buffer.alloc(4096)]));
      const answer = await port.ask(1, encodeHello(5n));
      assert.equal(answer.type, 0x81);
      assert.equal(answer.body.readBigUInt64LE(8), 5n);
    }
    const client = await agent.connect();
    assert.match(await client.status(), /version/);
  });

  test("half a frame is given up after half a second, for what lies behind it", async () => {
    await using agent = await Agent.start();
    using port = new RawPort(agent.portPath);
    const half = encodeFrame(4, 0, 9, Buffer.alloc(4000)).subarray(0, 100);
    port.send(half);
    await wait(20);
    const beginMs = performance.now();
    assert.equal((await port.ask(1, encodeHello(5n))).type, 0x81);
    const ms = performance.now() - beginMs;
    assert.ok(ms > 400 && ms < 900, `${ms} ms`);
  });

  test("requests before hello, of no type, or with a body of another length: BAD_REQUEST", async () => {
    await using w = await world();
    await w.client.close();
    using port = new RawPort(w.agent.portPath);
    const refused = async (type: number, body: Uint8Array): Promise<string> => {
      const frame = await port.ask(type, body);
      assert.equal(frame.type, 0x7f, `type ${type}, ${body.length} bytes`);
      assert.equal(frame.body.readUInt16LE(0), 1, frame.body.toString("utf8", 4));
      return frame.body.toString("utf8", 4);
    };
    assert.match(await refused(16, Buffer.alloc(0)), /hello first/);
    assert.match(await refused(1, Buffer.alloc(16, 9)), /version/);
    await port.ask(1, encodeHello(5n));
    for (const type of [0, 18, 0x60, 0x7f, 0x81, 0xff]) await refused(type, Buffer.alloc(8));
    const long = Buffer.alloc(4072);
    for (const type of [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17]) {
      for (const bytes of [0, 1, 7, 15, 23, 4071, 4072])
        await refused(type, long.subarray(0, bytes));
    }
    const read = encodeRead(w.prey, [{ address: w.prey.region, bytes: 8 }]);
    read.writeUInt32LE(2, 16);
    await refused(4, read);
    await refused(4, encodeRead(w.prey, [{ address: w.prey.region, bytes: (1 << 20) + 1 }]));
    // Addresses whose sums overflow.
    for (const [address, bytes] of [
      [2n ** 64n - 10n, 5n],
      [2n ** 64n - 1n, 2n],
      [0n, 2n ** 64n - 1n],
      [2n ** 63n, 2n ** 63n],
    ] as const) {
      for (const [type, head] of [
        [5, 32],
        [10, 24],
      ] as const) {
        const body = Buffer.alloc(head + 16);
        encodeProcess(w.prey).copy(body);
        body.writeUInt32LE(1, type === 5 ? 24 : 20);
        body.writeBigUInt64LE(address, head);
        body.writeBigUInt64LE(bytes, head + 8);
        await refused(type, body);
      }
    }
    // Longer than any request: no frame at all.
    port.send(encodeFrame(16, 0, 7777, Buffer.alloc(4073)));
    assert.equal((await port.ask(16, Buffer.alloc(0))).type, 0x90);
    assert.ok(!port.frames.some(({ id }) => id === 7777));
  });

  test("a host that asks for much and reads nothing does not keep anything frozen", async () => {
    await using w = await world(1024);
    await w.prey.tell(`fill 0 ${1024 * pageBytes} 1`);
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 300 });
    const range = { address: w.prey.region, bytes: 1 << 20 };
    // Its answers fill every buffer between us: this thread reads nothing until the thaw has been seen.
    const reads = Array.from({ length: 200 }, () => w.client.read(w.prey, [range]));
    const settled = Promise.allSettled(reads);
    const endMs = performance.now() + 2000;
    while (w.prey.state === "T") assert.ok(performance.now() < endMs, "it is still frozen");
    await w.client.close();
    await settled;
    const again = await w.agent.connect();
    await again.status();
  });

  test("it waits without working, and takes little memory", async () => {
    await using w = await world(1024);
    await w.prey.tell(`fill 0 ${1024 * pageBytes} 1`);
    for (let i = 0; i < 5; i++)
      await w.client.read(w.prey, [{ address: w.prey.region, bytes: 4 << 20 }]);
    await w.client.hold(w.prey, forEver);
    await w.client.scrub(w.prey, [{ address: w.prey.region, bytes: 1024 * pageBytes }], 8);
    const ticks = (): number => Number(statOf(w.agent.pid)[11]) + Number(statOf(w.agent.pid)[12]);
    const before = ticks();
    await wait(400);
    await w.client.thaw();
    await w.client.close();
    await wait(400);
    assert.ok(ticks() - before <= 2, `${ticks() - before} ticks of 10 ms in 0.8 s`);
    const status = readFileSync(`/proc/${w.agent.pid}/status`, "utf8");
    const residentKb = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
    if (process.env["GODWIT_AGENT"] !== undefined) return;
    assert.ok(residentKb < 2048, `${residentKb} kB`);
    assert.ok(statSync(await buildAgent()).size < 1e6);
  });

  test("instead of a device it may be a socket that the host listens on; the agent comes back", async () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-agent-"));
    const path = join(folder, "host.sock");
    const server = createServer();
    const connection = () =>
      once(server, "connection", { signal: AbortSignal.timeout(3000) }).then(
        ([socket]) => socket as Socket,
      );
    const args = ["--port", path, "--run-directory", join(folder, "run")];
    const agent = spawn(await buildAgent(), args, { stdio: "ignore" });
    try {
      await wait(50);
      server.listen(path);
      for (let i = 0; i < 2; i++) {
        await using client = await AgentClient.over(await connection(), { clock: systemClock });
        assert.equal(client.hello.agentPid, agent.pid);
      }
    } finally {
      agent.kill();
      server.close();
      rmSync(folder, { recursive: true });
    }
  });

  test("--help, --version, and a usage error", async () => {
    const program = await buildAgent();
    assert.match(execFileSync(program, ["--help"], { encoding: "utf8" }), /--run-directory/);
    assert.match(execFileSync(program, ["--version"], { encoding: "utf8" }), /^godwit-agent \d/);
    assert.throws(
      () => execFileSync(program, ["--nonsense"], { stdio: "pipe" }),
      ({ status }: { status: number }) => status === 2,
    );
  });
});
