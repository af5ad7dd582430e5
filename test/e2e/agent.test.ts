/**
 * The real agent on this machine, no VM: every request, and above all that what it freezes runs again, whatever happens.
 * Applications are in agent-applications.test.ts.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
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
  pageBytes,
  Prey,
  RawPort,
  refusal,
  skipAgent,
  statOf,
  until,
  wait,
  world,
} from "./agent-harness.ts";

const forEver = { timeoutMs: 2000, holdMs: 20_000 };
const present = (entry: bigint): boolean => (entry & (1n << 63n)) !== 0n;
const frameOf = (entry: bigint): number => Number(entry & ((1n << 55n) - 1n));

describe("the agent looks", { skip: skipAgent }, () => {
  test("hello tells about machine and agent", async () => {
    await using w = await world();
    const { hello } = w.client;
    assert.equal(hello.agentPid, w.agent.pid);
    assert.equal(hello.holdMsMax, 30_000);
    assert.equal(hello.seesFrames, true);
    assert.match(readFileSync("/proc/meminfo", "utf8"), /^MemTotal: +(\d+) kB/);
    const totalBytes = Number(/\d+/.exec(readFileSync("/proc/meminfo", "utf8"))?.[0]) * 1024;
    assert.equal(hello.memoryTotalBytes, totalBytes);
    assert.ok(hello.pageCacheBytes < totalBytes && hello.memoryFreeBytes < totalBytes);
  });

  test("processes finds those that map a library, and what they are", async () => {
    await using w = await world();
    await w.prey.tell("threads 3");
    const found = await w.client.processes("libc.so.6");
    const prey = found.find(({ pid }) => pid === w.prey.pid);
    assert.deepEqual(prey, {
      pid: w.prey.pid,
      startTimeTicks: w.prey.startTimeTicks,
      namespacePid: w.prey.pid,
      uid: 0,
      threadCount: 5,
      command: "prey",
    });
    assert.deepEqual(await w.client.processes("libnothing.so"), []);
    assert.deepEqual(await w.client.processes("libc.so"), [], "a part of the name is not enough");
    await assert.rejects(w.client.processes("lib/libc.so.6"), refusal("BAD_REQUEST"));
  });

  test("maps are those of /proc", async () => {
    await using w = await world();
    assert.equal(await w.client.maps(w.prey), readFileSync(`/proc/${w.prey.pid}/maps`, "utf8"));
  });

  test("read gives the bytes of many ranges; one that cannot be read is named", async () => {
    await using w = await world(1024);
    await w.prey.tell(`fill 0 ${1024 * pageBytes} 90`);
    await w.prey.tell("fill 5000 3 7");
    const ranges = [
      { address: w.prey.region + 4998, bytes: 7 },
      { address: w.prey.region, bytes: 3 << 20 },
      ...Array.from({ length: 400 }, (_, index) => ({ address: w.prey.region + index, bytes: 1 })),
    ];
    const found = await w.client.read(w.prey, ranges);
    ranges.forEach(({ address, bytes }, index) => {
      assert.deepEqual(found[index], w.prey.memory(address, bytes), `range ${index}`);
    });
    const bad = [ranges[0], { address: 4096, bytes: 8 }] as typeof ranges;
    await assert.rejects(w.client.read(w.prey, bad), refusal("UNREADABLE", /range 1/));
  });

  test("frames are those of pagemap; only whole pages count, and absent ones are told apart", async () => {
    await using w = await world(600);
    await w.prey.tell(`fill 0 ${200 * pageBytes} 1`);
    await w.prey.tell(`fill ${300 * pageBytes} ${7 * pageBytes} 1`);
    // Read but never written: the kernel's page of zeros, which is nobody's.
    await w.prey.tell(`touch ${400 * pageBytes} ${10 * pageBytes}`);
    const { region } = w.prey;
    const ranges = [
      { address: region + 1, bytes: 250 * pageBytes },
      { address: region + 290 * pageBytes, bytes: 300 * pageBytes - 1 },
    ];
    const runs = await w.client.frames(w.prey, ranges);
    assert.ok(runs !== undefined);
    const expected = [
      ...w.prey.pagemap(region + pageBytes, 249),
      ...w.prey.pagemap(region + 290 * pageBytes, 299),
    ];
    assert.equal(runs.presentPages, 199 + 7);
    assert.equal(runs.absentPages, expected.length - 199 - 7);
    assert.equal(expected.filter(present).length, 199 + 7 + 10);
    const found: number[] = [];
    runs.firstFrames.forEach((first, index) => {
      for (let i = 0; i < (runs.pageCounts[index] ?? 0); i++) found.push(first + i);
    });
    const touched = new Set(w.prey.pagemap(region + 400 * pageBytes, 10).map(frameOf));
    assert.equal(touched.size, 1);
    const own = expected.filter((entry) => present(entry) && !touched.has(frameOf(entry)));
    assert.deepEqual(found, own.map(frameOf));

    assert.equal(await w.client.frames(w.prey, ranges, runs.digest), undefined);
    await w.prey.tell(`fill ${500 * pageBytes} 1 1`);
    const after = await w.client.frames(w.prey, ranges, runs.digest);
    assert.equal(after?.presentPages, runs.presentPages + 1);
  });

  test("a process that is another one now, or gone, is not taken for the one that was meant", async () => {
    await using w = await world();
    const other = { pid: w.prey.pid, startTimeTicks: w.prey.startTimeTicks + 1 };
    await assert.rejects(w.client.maps(other), refusal("GONE", /another one/));
    await assert.rejects(w.client.hold(other, forEver), refusal("GONE"));
    await w.prey[Symbol.asyncDispose]();
    await assert.rejects(w.client.maps(w.prey), refusal("GONE"));
    await assert.rejects(w.client.hold(w.prey, forEver), refusal("GONE"));
  });

  test("the page cache is dropped, and the rest goes on meanwhile", async () => {
    await using w = await world();
    const path = join(w.agent.folder, "cached");
    writeFileSync(path, Buffer.alloc(8 << 20, 1));
    execFileSync("sync", [path]);
    const [result] = await Promise.all([w.client.dropCaches(), w.client.status()]);
    assert.ok(result.cacheBytesBefore >= result.cacheBytesAfter);
  });
});

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

describe("writing and scrubbing", { skip: skipAgent }, () => {
  test("write changes what it is told to, in a held process only", async () => {
    await using w = await world();
    await w.prey.tell(`fill 0 ${8 * pageBytes} 1`);
    const bytes = Buffer.alloc(10_000, 9);
    const address = w.prey.region + 777;
    await assert.rejects(w.client.write(w.prey, address, bytes), refusal("NOT_HELD"));
    await w.client.hold(w.prey, forEver);
    await w.client.write(w.prey, address, bytes);
    const expected = Buffer.alloc(8 * pageBytes, 1);
    bytes.copy(expected, 777);
    assert.deepEqual(w.prey.memory(w.prey.region, expected.length), expected);
    await w.client.write(w.prey, w.prey.fileAddress, Uint8Array.of(1));
    const one = Uint8Array.of(1);
    await assert.rejects(w.client.write(w.prey, w.prey.sharedAddress, one), refusal("DENIED"));
    await assert.rejects(w.client.write(w.prey, w.prey.readOnlyAddress, one), refusal("DENIED"));
  });

  test("scrub zeroes exactly its bytes, and absent pages stay absent", async () => {
    await using w = await world(2048);
    const prng = new Prng(1);
    const { region } = w.prey;
    const expected = Buffer.alloc(2048 * pageBytes);
    for (let i = 0; i < 60; i++) {
      const offset = prng.integer(0, 2000) * pageBytes;
      const bytes = prng.integer(1, 40) * pageBytes;
      await w.prey.tell(`fill ${offset} ${bytes} 165`);
      expected.fill(165, offset, offset + bytes);
    }
    const before = w.prey.pagemap(region, 2048);
    const ranges = Array.from({ length: 90 }, (_, index) => {
      const offset = index * 22 * pageBytes + prng.integer(0, 3 * pageBytes);
      const bytes = prng.pick([
        1,
        100,
        pageBytes,
        5 * pageBytes + 1,
        prng.integer(1, 15 * pageBytes),
      ]);
      expected.fill(0, offset, offset + bytes);
      return { address: region + offset, bytes };
    });
    await w.client.hold(w.prey, forEver);
    const result = await w.client.scrub(w.prey, ranges);
    assert.deepEqual(w.prey.pagemap(region, 2048).map(present), before.map(present));
    assert.equal(Buffer.compare(w.prey.memory(region, expected.length), expected), 0);
    const pages = (wanted: boolean): number =>
      ranges.reduce((sum, { address, bytes }) => {
        const first = Math.floor((address - region) / pageBytes);
        const end = Math.ceil((address - region + bytes) / pageBytes);
        return sum + before.slice(first, end).filter((entry) => present(entry) === wanted).length;
      }, 0);
    assert.equal(result.zeroedPages, pages(true));
    assert.equal(result.absentPages, pages(false));
  });

  test("the page of zeros, which is mapped where only was read, is not replaced", async () => {
    await using w = await world();
    await w.prey.tell(`touch 0 ${64 * pageBytes}`);
    await w.client.hold(w.prey, forEver);
    const before = w.prey.pagemap(w.prey.region, 64);
    const range = { address: w.prey.region, bytes: 64 * pageBytes };
    assert.equal((await w.client.scrub(w.prey, [range])).absentPages, 64);
    assert.deepEqual(w.prey.pagemap(w.prey.region, 64), before);
  });

  test("memory of other kinds is refused, and nothing at all is zeroed then", async () => {
    await using w = await world();
    await w.prey.tell(`fill 0 ${pageBytes} 5`);
    const good = { address: w.prey.region, bytes: pageBytes };
    await assert.rejects(w.client.scrub(w.prey, [good]), refusal("NOT_HELD"));
    await w.client.hold(w.prey, forEver);
    const { sharedAddress, readOnlyAddress, fileAddress } = w.prey;
    for (const address of [sharedAddress, readOnlyAddress, fileAddress, 4096]) {
      const ranges = [good, { address, bytes: 8 }];
      await assert.rejects(w.client.scrub(w.prey, ranges), refusal("DENIED", /range 1/));
    }
    const tooLong = { address: w.prey.region, bytes: 1 << 30 };
    await assert.rejects(w.client.scrub(w.prey, [tooLong]), refusal("DENIED"));
    assert.equal(w.prey.memory(w.prey.region, 1)[0], 5);
  });

  test("several scrubs, of several processes, are done one after another", async () => {
    await using w = await world(4096);
    await using second = await Prey.start(4096);
    const preys = [w.prey, second];
    for (const prey of preys) {
      await prey.tell(`fill 0 ${4096 * pageBytes} 3`);
      await w.client.hold(prey, forEver);
    }
    const half = 2048 * pageBytes;
    const results = await Promise.all(
      [...preys, ...preys].map((prey, index) =>
        w.client.scrub(prey, [{ address: prey.region + (index < 2 ? 0 : half), bytes: half }], 2),
      ),
    );
    assert.deepEqual(
      results.map(({ zeroedPages }) => zeroedPages),
      [2048, 2048, 2048, 2048],
    );
    for (const prey of preys)
      assert.ok(prey.memory(prey.region, 2 * half).every((byte) => byte === 0));
  });

  test("a process that somebody else continues is written to no more", async () => {
    await using w = await world();
    await w.client.hold(w.prey, forEver);
    w.prey.kill("SIGCONT");
    await w.prey.untilRuns();
    const range = { address: w.prey.region, bytes: 4096 };
    const continued = refusal("FAILED", /somebody else/);
    await assert.rejects(w.client.scrub(w.prey, [range]), continued);
    await assert.rejects(w.client.write(w.prey, w.prey.region, Uint8Array.of(1)), continued);
  });

  for (const how of ["hang-up", "deadline", "thaw", "cancel by SIGTERM"] as const) {
    test(`a scrub that is interrupted writes nothing after the thaw (${how})`, async () => {
      const pages = 96 << 8; // 96 MiB: a pass of the prey's checks takes less than 90 ms
      await using w = await world(pages);
      await w.prey.tell("watch");
      const rounds = how === "thaw" ? 2 : 1;
      for (let round = 0; round < rounds; round++) {
        const holdMs = how === "deadline" ? 115 : 20_000;
        await w.client.hold(w.prey, { timeoutMs: 2000, holdMs });
        // Longer than what the prey judges: a pass that was cut by the freeze does not count.
        await wait(100);
        const range = { address: w.prey.region, bytes: pages * pageBytes };
        const often = Array.from({ length: 200 }, () => range);
        const scrub = w.client.scrub(w.prey, often, 1).catch((error) => error);
        await wait(15);
        if (how === "hang-up") await w.client.close();
        if (how === "thaw") assert.equal((await w.client.thaw()).thawedCount, 1);
        if (how === "cancel by SIGTERM") await w.agent.end("SIGTERM");
        await w.prey.untilRuns();
        assert.ok((await scrub) instanceof Error, "it was over too soon to be interrupted");
      }
      const [passesBefore = 0] = (await w.prey.tell("watch")).split(" ").map(Number);
      let watched = [passesBefore, 0];
      while ((watched[0] ?? 0) < passesBefore + 3) {
        await wait(30);
        watched = (await w.prey.tell("watch")).split(" ").map(Number);
      }
      assert.equal(watched[1], 0, "pages were zeroed while it ran");
    });
  }

  test("that the prey would notice (the test of the test)", async () => {
    await using w = await world(64);
    await w.prey.tell("watch");
    for (let i = 0; i < 200; i++) {
      writeFileSync(`/proc/${w.prey.pid}/mem`, "", { flag: "r+" });
      execFileSync(
        "dd",
        [
          "if=/dev/zero",
          `of=/proc/${w.prey.pid}/mem`,
          "bs=4096",
          "count=64",
          "conv=notrunc",
          `seek=${w.prey.region / pageBytes}`,
        ],
        { stdio: "ignore" },
      );
      const [, lost = 0] = (await w.prey.tell("watch")).split(" ").map(Number);
      if (lost > 0) return;
    }
    assert.fail("200 times zeroed, and never noticed");
  });
});

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
