/** The real agent on this machine, no VM: what is written and zeroed, exactly, and only in what stands still. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Prng } from "../../src/base/index.ts";
import { forEver, pageBytes, Prey, refusal, skipAgent, wait, world } from "./agent-harness.ts";

const present = (entry: bigint): boolean => (entry & (1n << 63n)) !== 0n;

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
