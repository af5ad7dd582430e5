/**
 * The real agent on this machine, no VM: what it freezes stands still, and runs again, whatever happens.
 * Applications are in agent-applications.test.ts.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { encodeHello, encodeProcess } from "../../src/assist/agent/encode.ts";
import { buildAgent } from "../../guest/agent/build.ts";
import {
  forEver,
  Prey,
  RawPort,
  refusal,
  skipAgent,
  statOf,
  until,
  wait,
  world,
} from "./agent-harness.ts";

describe("holding", { skip: skipAgent }, () => {
  test("every thread stands still until the thaw", async () => {
    await using w = await world();
    await w.prey.tell("threads 40");
    const result = await w.client.hold(w.prey, forEver);
    assert.equal(result.taskCount, 42);
    await w.prey.assertFrozen();
    await wait(60);
    const { thawedCount, longestHoldUs } = await w.client.thaw(w.prey);
    assert.equal(thawedCount, 1);
    assert.ok(longestHoldUs >= 60_000);
    await w.prey.untilRuns();
    assert.deepEqual(await w.client.thaw(), { thawedCount: 0, longestHoldUs: 0 });
  });

  test("the moment: the counter has moved and nothing is active", async () => {
    await using w = await world();
    await w.prey.tell("count 41");
    await w.prey.tell("active 1");
    const { activeAddress, counterAddress } = w.prey;
    let isHeld = false;
    const words = { activeAddress, counterAddress, counterValue: 41 };
    const hold = w.client.hold(w.prey, { ...forEver, ...words }).then((result) => {
      isHeld = true;
      return result;
    });
    await wait(50);
    await w.prey.tell("active 0");
    await wait(50);
    assert.equal(isHeld, false, "the counter has not moved");
    await w.prey.tell("active 1");
    await w.prey.tell("count 42");
    await wait(50);
    assert.equal(isHeld, false, "it is active");
    await w.client.status();
    await w.prey.tell("active 0");
    const result = await hold;
    assert.equal(result.counterNow, 42);
    assert.ok(result.waitUs >= 150_000 && result.waitUs < 1_500_000);
    await w.prey.assertFrozen();
  });

  test("a moment that passes during the freeze is waited for again", async (t) => {
    await using w = await world();
    if (w.client.hello.cpuCount < 2) {
      t.skip("needs a CPU each");
      return;
    }
    // On one CPU the agent, which goes before others, would keep the prey from running between look and freeze.
    execFileSync("taskset", ["-ap", "1", String(w.prey.pid)], { stdio: "ignore" });
    execFileSync("taskset", ["-ap", "2", String(w.agent.pid)], { stdio: "ignore" });
    // Idle for too short to be frozen in time, mostly.
    await w.prey.tell("cycle 300 60");
    const { activeAddress } = w.prey;
    let retryCount = 0;
    for (let i = 0; i < 300 && (i < 10 || retryCount === 0); i++) {
      const result = await w.client.hold(w.prey, { ...forEver, activeAddress, pollUs: 100 });
      retryCount += result.retryCount;
      assert.equal(w.prey.memory(activeAddress, 1)[0], 0, "frozen while active");
      await w.client.thaw();
    }
    assert.ok(retryCount > 0, "the case was not met");
  });

  test("TIMED_OUT when the moment does not come; then it runs, and can be held again", async () => {
    await using w = await world();
    await w.prey.tell("active 1");
    const { activeAddress } = w.prey;
    const hold = w.client.hold(w.prey, { timeoutMs: 100, holdMs: 1000, activeAddress });
    await assert.rejects(hold, refusal("TIMED_OUT"));
    await w.prey.untilRuns();
    await w.client.hold(w.prey, forEver);
    await w.prey.assertFrozen();
  });

  test("a process that was stopped already is refused, and stays stopped", async () => {
    await using w = await world();
    w.prey.kill("SIGSTOP");
    await until("it is stopped", () => w.prey.state === "T");
    await assert.rejects(w.client.hold(w.prey, forEver), refusal("FAILED", /already stopped/));
    await w.client.thaw();
    await w.client.close();
    await wait(50);
    await w.prey.assertFrozen();
  });

  test("never init, never itself, never a kernel thread, never a single thread", async () => {
    await using w = await world();
    const identity = (pid: number) => ({ pid, startTimeTicks: Number(statOf(pid)[19]) });
    await assert.rejects(w.client.hold(identity(1), forEver), refusal("DENIED", /process 1/));
    const own = identity(w.agent.pid);
    await assert.rejects(w.client.hold(own, forEver), refusal("DENIED", /agent itself/));
    await w.prey.tell("threads 1");
    const task = readdirSync(`/proc/${w.prey.pid}/task`)
      .map(Number)
      .find((id) => id !== w.prey.pid);
    const thread = identity(task as number);
    await assert.rejects(w.client.hold(thread, forEver), refusal("BAD_REQUEST", /a thread/));
    if (existsSync("/proc/2/comm") && readFileSync("/proc/2/comm", "utf8") === "kthreadd\n") {
      await assert.rejects(w.client.hold(identity(2), forEver), refusal("DENIED", /kernel/));
    }
  });

  test("several at once, each once", async () => {
    await using w = await world();
    await using second = await Prey.start();
    await Promise.all([w.client.hold(w.prey, forEver), w.client.hold(second, forEver)]);
    await assert.rejects(w.client.hold(second, forEver), refusal("BUSY"));
    await w.client.thaw(w.prey);
    await w.prey.untilRuns();
    await second.assertFrozen();
    assert.equal((await w.client.thaw()).thawedCount, 1);
    await second.untilRuns();
  });

  test("a signal cancels the wait", async () => {
    await using w = await world();
    await w.prey.tell("active 1");
    const abort = new AbortController();
    const { activeAddress } = w.prey;
    const hold = w.client.hold(w.prey, { ...forEver, activeAddress }, abort.signal);
    await wait(20);
    abort.abort();
    await assert.rejects(hold, /cancelled/);
    assert.doesNotMatch(await w.client.status(), /^(waiting|stopping|held) /m);
    await w.prey.untilRuns();
  });

  test("a process that is killed while it is held, or waited for, is forgotten", async () => {
    await using w = await world();
    await using second = await Prey.start();
    await w.client.hold(w.prey, forEver);
    await second.tell("active 1");
    const { activeAddress } = second;
    const waiting = w.client.hold(second, { ...forEver, activeAddress });
    const gone = assert.rejects(waiting, refusal("GONE"));
    await w.prey[Symbol.asyncDispose]();
    await second[Symbol.asyncDispose]();
    await gone;
    assert.doesNotMatch(await w.client.status(), /^(waiting|held) /m);
    assert.ok(!existsSync(join(w.agent.runDirectory, "held")));
  });

  test("bounds: no hold for ever, no time-out of nothing", async () => {
    await using w = await world();
    const bad = [
      { timeoutMs: 100, holdMs: 0 },
      { timeoutMs: 100, holdMs: 30_001 },
      { timeoutMs: 0, holdMs: 100 },
    ];
    for (const options of bad)
      await assert.rejects(w.client.hold(w.prey, options), refusal("BAD_REQUEST"));
    await assert.rejects(w.client.extend(30_001), refusal("BAD_REQUEST"));
    await w.prey.untilRuns();
  });
});

describe("what is frozen runs again", { skip: skipAgent }, () => {
  test("when its time is up; extending moves that", async () => {
    await using w = await world();
    const beginMs = performance.now();
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 200 });
    await w.prey.assertFrozen();
    await until("the deadline thaws", () => w.prey.state !== "T");
    const firstMs = performance.now() - beginMs;
    assert.ok(firstMs >= 199 && firstMs < 600, `${firstMs} ms`);

    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 200 });
    assert.equal(await w.client.extend(600), 1);
    await wait(350);
    await w.prey.assertFrozen();
    await until("the new deadline thaws", () => w.prey.state !== "T");
    assert.equal((await w.client.thaw()).thawedCount, 0);
  });

  test("when the host hangs up, within 50 ms", async () => {
    await using w = await world();
    await using second = await Prey.start();
    await w.client.hold(w.prey, forEver);
    await second.tell("active 1");
    const { activeAddress } = second;
    const waiting = w.client.hold(second, { ...forEver, activeAddress });
    const lost = assert.rejects(waiting, /this side closed/);
    await w.client.close();
    await lost;
    await until("the hang-up thaws", () => w.prey.state !== "T", 50);
    await second.tell("active 0");
    await wait(50);
    await second.untilRuns();
    const again = await w.agent.connect();
    assert.doesNotMatch(await again.status(), /^(waiting|held) /m);
  });

  test("when another host says hello, as after a migration", async () => {
    await using w = await world();
    await w.client.close();
    using port = new RawPort(w.agent.portPath);
    assert.equal((await port.ask(1, encodeHello(1n))).type, 0x81);
    const body = Buffer.alloc(48);
    encodeProcess(w.prey).copy(body);
    body.writeUInt32LE(1000, 36);
    body.writeUInt32LE(20_000, 40);
    assert.equal((await port.ask(7, body)).type, 0x87);
    await w.prey.assertFrozen();
    assert.equal((await port.ask(1, encodeHello(2n))).type, 0x81);
    await w.prey.untilRuns();
  });

  test("when the agent is told to end (SIGTERM)", async () => {
    await using w = await world();
    await w.client.hold(w.prey, forEver);
    assert.equal(await w.agent.end("SIGTERM"), 0);
    await w.prey.untilRuns();
    await w.client.closed;
  });

  test("when the agent is killed and started again (SIGKILL)", async () => {
    await using w = await world();
    await using stopped = await Prey.start();
    stopped.kill("SIGSTOP");
    await w.client.hold(w.prey, forEver);
    const held = readFileSync(join(w.agent.runDirectory, "held"), "utf8");
    assert.equal(held, `${w.prey.pid} ${w.prey.startTimeTicks}\n`);
    await w.agent.end("SIGKILL");
    await wait(20);
    await w.prey.assertFrozen();
    await w.agent.restart();
    await w.prey.untilRuns();
    assert.equal(stopped.state, "T", "what was not held by an agent stays as it is");
    assert.ok(!existsSync(join(w.agent.runDirectory, "held")));
  });

  test("when the agent itself is stuck: its watchdog does it", async (t) => {
    await using w = await world();
    await using second = await Prey.start();
    const address = Number(await second.tell("stuck"));
    if (address === 0) {
      t.skip("no userfaultfd here");
      return;
    }
    const beginMs = performance.now();
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 300 });
    const read = Promise.allSettled([w.client.read(second, [{ address, bytes: 8 }])]);
    await until("the watchdog thaws", () => w.prey.state !== "T", 2000);
    const ms = performance.now() - beginMs;
    assert.ok(ms > 500 && ms < 1000, `${ms} ms`);
    await second[Symbol.asyncDispose]();
    await read;
    await w.client.status();
    assert.match(w.agent.log, /watchdog/);
  });

  test("when the agent itself is stopped: the kernel ends it, and the next one does it", async () => {
    await using w = await world();
    const beginMs = performance.now();
    await w.client.hold(w.prey, { timeoutMs: 1000, holdMs: 300 });
    await w.agent.end("SIGSTOP");
    const ms = performance.now() - beginMs;
    assert.ok(ms > 1_200 && ms < 2_500, `${ms} ms`);
    await w.prey.assertFrozen();
    await w.agent.restart();
    await w.prey.untilRuns();
  });

  test("a second agent for the same folder does not start, and thaws nothing", async () => {
    await using w = await world();
    await w.client.hold(w.prey, forEver);
    const args = ["--run-directory", w.agent.runDirectory, "--listen", "/tmp/unused.sock"];
    const program = await buildAgent();
    assert.throws(
      () => execFileSync("timeout", ["0.5", program, ...args], { stdio: "ignore" }),
      ({ status }: { status: number }) => status !== 0,
    );
    await w.prey.assertFrozen();
  });
});
