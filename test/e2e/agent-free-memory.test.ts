/** Free memory that the real agent has zeroed: no more than told, and by a process that ends in every case. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { describe, test } from "node:test";
import type { AgentClient } from "../../src/assist/agent/index.ts";
import { refusal, skipAgent, statOf, until, world } from "./agent-harness.ts";

const mebibyte = 1 << 20;

function freeMebibytes(): number {
  const text = readFileSync("/proc/meminfo", "utf8");
  return Math.floor(Number(/^MemFree: +(\d+) kB$/m.exec(text)?.[1]) / 1024);
}

function alive(pid: number): boolean {
  try {
    return statOf(pid)[0] !== "Z";
  } catch {
    return false;
  }
}

/** The process that zeroes, stopped when it has begun, so that it does not end by itself; again if it was too quick for that. */
async function stoppedChild(
  client: AgentClient,
): Promise<{ pid: number; reply: Promise<unknown> }> {
  for (let i = 0; i < 20; i++) {
    const reply = client.zeroFreeMemory(freeMebibytes() - 400).catch((error: unknown) => error);
    let zeroing: RegExpExecArray | null;
    do zeroing = /^zeroing (\d+) (\d+)$/m.exec(await client.status());
    while (zeroing?.[2] === "0");
    const pid = Number(zeroing?.[1] ?? 0);
    if (pid !== 0 && alive(pid)) {
      process.kill(pid, "SIGSTOP");
      await until("it is stopped, or over", () => !alive(pid) || statOf(pid)[0] === "T");
      if (alive(pid)) return { pid, reply };
    }
    await reply;
  }
  throw new Error("it was over too soon, 20 times");
}

describe("free memory", { skip: skipAgent }, () => {
  test("is zeroed but for what is to be kept, and the rest goes on meanwhile", async () => {
    await using w = await world();
    let zeroedBytes = 0;
    // Others take and give back memory here too.
    for (let i = 0; i < 10 && zeroedBytes < 20 * mebibyte; i++) {
      const reply = w.client.zeroFreeMemory(freeMebibytes() - 50);
      await w.client.status();
      const result = await reply;
      zeroedBytes = result.zeroedBytes;
      assert.ok(result.durationUs > 0);
    }
    assert.ok(zeroedBytes >= 20 * mebibyte && zeroedBytes < 200 * mebibyte, String(zeroedBytes));
    assert.equal(zeroedBytes % (4 * mebibyte), 0);
  });

  test("nothing when there is no more than is to be kept", async () => {
    await using w = await world();
    for (const keepMebibytes of [freeMebibytes() + 1000, 2 ** 32 - 1]) {
      assert.equal((await w.client.zeroFreeMemory(keepMebibytes)).zeroedBytes, 0);
    }
  });

  test("the process for it goes first when memory is short, and last to the CPU; one at a time", async () => {
    await using w = await world();
    const { pid, reply } = await stoppedChild(w.client);
    const score = readFileSync(`/proc/${pid}/oom_score_adj`, "utf8");
    const nice = Number(statOf(pid)[16]);
    const policy = Number(statOf(pid)[38]);
    // It may have been stopped while it looked how much is free.
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => [
      fd,
      readlinkSync(`/proc/${pid}/fd/${fd}`),
    ]);
    const files = links.filter(([, to]) => to !== "/proc/zoneinfo").map(([fd]) => fd);
    assert.equal(score, "1000\n");
    assert.equal(nice, 10);
    assert.equal(policy, 0);
    assert.deepEqual(files, ["0", "1", "2"], "neither the port nor the lock");
    await assert.rejects(w.client.zeroFreeMemory(48), refusal("BUSY"));
    process.kill(pid, "SIGCONT");
    const { zeroedBytes } = (await reply) as { zeroedBytes: number };
    assert.ok(zeroedBytes < 600 * mebibyte);
    assert.ok(!alive(pid));
  });

  test("a host that hangs up ends it", async () => {
    await using w = await world();
    const { pid, reply } = await stoppedChild(w.client);
    await w.client.close();
    await until("it is gone", () => !alive(pid), 500);
    assert.match(String(await reply), /closed/);
    const again = await w.agent.connect();
    assert.doesNotMatch(await again.status(), /^zeroing/m);
    assert.equal((await again.zeroFreeMemory(2 ** 32 - 1)).zeroedBytes, 0);
  });

  test("an agent that is killed takes it along, and the next one starts at once", async () => {
    await using w = await world();
    const { pid } = await stoppedChild(w.client);
    await w.agent.end("SIGKILL");
    await until("it is gone", () => !alive(pid), 500);
    const beginMs = performance.now();
    await w.agent.restart();
    assert.ok(performance.now() - beginMs < 1000);
  });

  test("after 10 s it is ended, and what has been zeroed until then is told", async () => {
    await using w = await world();
    const beginMs = performance.now();
    const { pid, reply } = await stoppedChild(w.client);
    const { zeroedBytes } = (await reply) as { zeroedBytes: number };
    const ms = performance.now() - beginMs;
    assert.ok(ms > 9900 && ms < 13_000, `${ms} ms`);
    assert.ok(zeroedBytes < 600 * mebibyte);
    assert.ok(!alive(pid));
  });
});
