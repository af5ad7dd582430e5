/** The real agent on this machine, no VM: what it says of the machine and its processes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { forEver, pageBytes, refusal, skipAgent, world } from "./agent-harness.ts";

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
