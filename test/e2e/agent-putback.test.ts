/** Writes that the real agent takes back when its host is gone: whichever way it goes, and only what is still there. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { AgentClient } from "../../src/assist/agent/index.ts";
import { encodeHello } from "../../src/assist/agent/encode.ts";
import { Prey, RawPort, refusal, skipAgent, statOf, until, wait, world } from "./agent-harness.ts";

const forEver = { timeoutMs: 2000, holdMs: 20_000 };
const restoreWhenAlone = { restoreWhenAlone: true };
const before = Uint8Array.of(7, 7, 7, 7, 7, 7, 7, 7);
const flagged = Uint8Array.of(100, 0, 0, 0, 0, 0, 0, 0);

const at = (prey: Prey): number => prey.region + 640;
const content = (prey: Prey): Uint8Array => new Uint8Array(prey.memory(at(prey), 8));
const is = (prey: Prey, bytes: Uint8Array): boolean => Buffer.compare(content(prey), bytes) === 0;

/** The prey's memory is full of sevens; eight of them are replaced for a while. */
async function writeFlag(client: AgentClient, prey: Prey): Promise<void> {
  await prey.tell("fill 0 4096 7");
  await client.hold(prey, forEver);
  await client.write(prey, at(prey), flagged, restoreWhenAlone);
  await client.thaw(prey);
  await prey.untilRuns();
  assert.deepEqual(content(prey), flagged);
}

async function outstanding(client: AgentClient): Promise<number> {
  return Number(/^to-put-back (\d+)$/m.exec(await client.status())?.[1]);
}

describe("a write is put back", { skip: skipAgent }, () => {
  test("when the host hangs up", async () => {
    await using w = await world();
    await w.prey.tell("threads 30");
    await writeFlag(w.client, w.prey);
    const beginMs = performance.now();
    await w.client.close();
    await until("it is put back", () => is(w.prey, before), 300);
    await until("it runs", () => w.prey.state !== "T", 300);
    assert.ok(performance.now() - beginMs < 300);
    await w.prey.untilRuns();
    const again = await w.agent.connect();
    assert.equal(await outstanding(again), 0);
    assert.match(w.agent.log, /put 8 bytes back/);
    assert.ok(!existsSync(join(w.agent.runDirectory, "held")));
  });

  test("when the host hangs up while it is held: before it runs again", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, forEver);
    await w.client.close();
    await until("it runs", () => w.prey.state !== "T", 300);
    assert.deepEqual(content(w.prey), before);
  });

  test("when another host says hello: before it is answered", async () => {
    await using w = await world();
    await w.client.close();
    await using second = await Prey.start();
    using port = new RawPort(w.agent.portPath);
    await port.ask(1, encodeHello(1n));
    // The same as the client's, on a port that can say hello twice.
    for (const prey of [w.prey, second]) {
      await prey.tell("fill 0 4096 7");
      const hold = Buffer.alloc(48);
      hold.writeUInt32LE(prey.pid, 0);
      hold.writeBigUInt64LE(BigInt(prey.startTimeTicks), 8);
      hold.writeUInt32LE(1000, 36);
      hold.writeUInt32LE(20_000, 40);
      assert.equal((await port.ask(7, hold)).type, 0x87);
      const write = Buffer.alloc(40);
      hold.copy(write, 0, 0, 16);
      write.writeBigUInt64LE(BigInt(at(prey)), 16);
      write.writeUInt32LE(8, 24);
      write.writeUInt32LE(1, 28);
      write.set(flagged, 32);
      assert.equal((await port.ask(6, write)).type, 0x86);
      assert.equal((await port.ask(8, hold.subarray(0, 16))).type, 0x88);
    }
    assert.deepEqual(content(second), flagged);
    assert.equal((await port.ask(1, encodeHello(2n))).type, 0x81);
    assert.deepEqual(content(w.prey), before);
    assert.deepEqual(content(second), before);
    await w.prey.untilRuns();
    await second.untilRuns();
  });

  test("when the time of a hold is up", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 150 });
    await w.prey.assertFrozen();
    assert.deepEqual(content(w.prey), flagged);
    await until("the deadline thaws", () => w.prey.state !== "T");
    assert.deepEqual(content(w.prey), before);
    await w.prey.untilRuns();
    assert.equal(await outstanding(w.client), 0);
  });

  test("when the watchdog thaws, as soon as the agent can again", async (t) => {
    await using w = await world();
    await using second = await Prey.start();
    const address = Number(await second.tell("stuck"));
    if (address === 0) {
      t.skip("no userfaultfd here");
      return;
    }
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 100 });
    const read = Promise.allSettled([w.client.read(second, [{ address, bytes: 8 }])]);
    await until("the watchdog thaws", () => w.prey.state !== "T", 2000);
    assert.deepEqual(content(w.prey), flagged);
    await second[Symbol.asyncDispose]();
    await read;
    await until("it is put back", () => is(w.prey, before), 1500);
    await w.prey.untilRuns();
  });

  test("when the agent is told to end (SIGTERM)", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    assert.equal(await w.agent.end("SIGTERM"), 0);
    assert.deepEqual(content(w.prey), before);
    await w.prey.untilRuns();
    assert.ok(!existsSync(join(w.agent.runDirectory, "held")));
  });

  for (const isHeld of [false, true]) {
    const state = isHeld ? "frozen" : "running";
    test(`by the next agent, when this one is killed; the process was left ${state}`, async () => {
      await using w = await world();
      await using other = await Prey.start();
      await writeFlag(w.client, w.prey);
      await writeFlag(w.client, other);
      // What was stopped by others stays so, and is put back all the same.
      other.kill("SIGSTOP");
      if (isHeld) await w.client.hold(w.prey, forEver);
      const record = readFileSync(join(w.agent.runDirectory, "held"), "utf8").split("\n");
      const { pid, startTimeTicks } = w.prey;
      const line = `write ${pid} ${startTimeTicks} 0x${at(w.prey).toString(16)} 0707070707070707 6400000000000000`;
      assert.ok(record.includes(line), record.join("\n"));
      await w.agent.end("SIGKILL");
      await wait(20);
      assert.deepEqual(content(w.prey), flagged);
      await w.agent.restart();
      await w.prey.untilRuns();
      assert.deepEqual(content(w.prey), before);
      assert.deepEqual(content(other), before);
      assert.equal(other.state, "T");
      assert.ok(!existsSync(join(w.agent.runDirectory, "held")));
    });
  }

  test("when it was written twice: to what was there before the first", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, forEver);
    await w.client.write(
      w.prey,
      at(w.prey),
      Uint8Array.of(5, 5, 5, 5, 5, 5, 5, 5),
      restoreWhenAlone,
    );
    assert.equal(await outstanding(w.client), 1);
    await w.client.close();
    await until("it is put back", () => is(w.prey, before), 300);
  });

  test("later, when somebody else keeps the process from being stopped now", async (t) => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    const tracer = spawn("strace", ["-qq", "-e", "trace=none", "-p", String(w.prey.pid)]);
    const traced = (): boolean =>
      !/^TracerPid:\t0$/m.test(readFileSync(`/proc/${w.prey.pid}/status`, "utf8"));
    const failed = new Promise((resolve) => {
      tracer.once("error", resolve);
    });
    if ((await Promise.race([failed, wait(200)])) !== undefined || !traced()) {
      tracer.kill();
      t.skip("no strace here");
      return;
    }
    await w.client.close();
    await wait(50);
    assert.deepEqual(content(w.prey), flagged);
    tracer.kill();
    await until("it is put back", () => is(w.prey, before), 2500);
    await w.prey.untilRuns();
  });
});

describe("a write is not put back", { skip: skipAgent }, () => {
  test("when somebody else has changed it since", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.prey.tell("fill 643 1 9");
    const theirs = content(w.prey);
    await w.client.close();
    await until("the agent has looked", () => /changed since by somebody/.test(w.agent.log));
    await w.prey.untilRuns();
    assert.deepEqual(content(w.prey), theirs);
  });

  test("when the host has written there for good", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, forEver);
    await w.client.write(w.prey, at(w.prey), flagged);
    assert.equal(await outstanding(w.client), 0);
    await w.client.close();
    await until("it runs", () => w.prey.state !== "T", 300);
    await wait(30);
    assert.deepEqual(content(w.prey), flagged);
  });

  test("when the host only thaws", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 5000 });
    await w.client.thaw();
    await w.prey.untilRuns();
    assert.deepEqual(content(w.prey), flagged);
    assert.equal(await outstanding(w.client), 1);
  });

  test("when the process has ended: it is forgotten at once", async () => {
    await using w = await world();
    await writeFlag(w.client, w.prey);
    await w.prey[Symbol.asyncDispose]();
    await until("it is forgotten", () => !existsSync(join(w.agent.runDirectory, "held")), 500);
    assert.equal(await outstanding(w.client), 0);
  });
});

test("bounds of what is put back", { skip: skipAgent }, async () => {
  await using w = await world();
  const { prey, client } = w;
  await prey.tell("fill 0 8192 7");
  const write = (address: number, bytes: number): Promise<void> =>
    client.write(prey, address, new Uint8Array(bytes), restoreWhenAlone);
  await assert.rejects(write(prey.region, 8), refusal("NOT_HELD"));
  await client.hold(prey, forEver);
  await assert.rejects(write(prey.region, 17), refusal("BAD_REQUEST", /at most 16/));
  await assert.rejects(write(prey.sharedAddress, 1), refusal("DENIED"));
  await write(prey.region, 16);
  await assert.rejects(write(prey.region + 8, 16), refusal("BAD_REQUEST", /other bytes/));
  for (let i = 1; i < 64; i++) await write(prey.region + i * 16, 16);
  await assert.rejects(write(prey.region + 4096, 1), refusal("BUSY", /64/));
  assert.equal(prey.memory(prey.region + 4096, 1)[0], 7, "nothing is written then");
  await client.close();
  await until("all are put back", () => prey.memory(prey.region, 1024).every((byte) => byte === 7));
  await prey.untilRuns();
});

describe("the collection's time", { skip: skipAgent }, () => {
  test("is that from the counter's change to the end of activity", async () => {
    await using w = await world();
    const { activeAddress, counterAddress } = w.prey;
    await w.prey.tell("count 41");
    const words = { activeAddress, counterAddress, counterValue: 41 };
    const hold = w.client.hold(w.prey, { ...forEver, ...words });
    await w.prey.tell("active 1");
    const beginMs = performance.now();
    await w.prey.tell("count 42");
    await wait(80);
    const shortUs = (performance.now() - beginMs) * 1000;
    await w.prey.tell("active 0");
    const { gcUs } = await hold;
    const longUs = (performance.now() - beginMs) * 1000;
    assert.ok(gcUs > shortUs - 5000 && gcUs < longUs, `${shortUs} < ${gcUs} < ${longUs}`);
  });

  test("begins with the first look when the counter differed already", async () => {
    await using w = await world();
    const { activeAddress, counterAddress } = w.prey;
    const words = { activeAddress, counterAddress, counterValue: 41 };
    assert.equal((await w.client.hold(w.prey, { ...forEver, ...words })).gcUs, 0);
    await w.client.thaw();
    await w.prey.tell("active 1");
    const hold = w.client.hold(w.prey, { ...forEver, ...words });
    await w.client.status();
    await wait(40);
    await w.prey.tell("active 0");
    assert.ok((await hold).gcUs > 38_000);
  });

  test("is 0 without a counter", async () => {
    await using w = await world();
    await w.prey.tell("active 1");
    const { activeAddress } = w.prey;
    const hold = w.client.hold(w.prey, { ...forEver, activeAddress });
    await wait(30);
    await w.prey.tell("active 0");
    assert.equal((await hold).gcUs, 0);
  });

  test("what is collecting is recorded already, and looked at without taking the CPU", async () => {
    await using w = await world();
    const { activeAddress, counterAddress, pid, startTimeTicks } = w.prey;
    await w.prey.tell("active 1");
    await w.prey.tell("count 42");
    const words = { activeAddress, counterAddress, counterValue: 41 };
    const record = join(w.agent.runDirectory, "held");
    const ticks = (): number => Number(statOf(w.agent.pid)[11]) + Number(statOf(w.agent.pid)[12]);
    const spent: number[] = [];
    // On a busy machine a tick is counted now and then in which others ran: the least says most.
    while (spent.length < 5 && Math.min(...spent) > 12) {
      const hold = w.client.hold(w.prey, { ...forEver, ...words, timeoutMs: 600 });
      const failed = assert.rejects(hold, refusal("TIMED_OUT"));
      await until("it is recorded", () => existsSync(record));
      assert.equal(readFileSync(record, "utf8"), `${pid} ${startTimeTicks}\n`);
      const beforeTicks = ticks();
      await failed;
      assert.ok(!existsSync(record));
      if (process.env["GODWIT_AGENT"] !== undefined) return;
      spent.push(ticks() - beforeTicks);
    }
    assert.ok(Math.min(...spent) <= 12, `${spent.join()} ticks of 10 ms in 0.6 s`);
  });
});
