/**
 * One suite for the client libraries of application assistance: C, Python, Node, Java, each in its own process against the same
 * peer. Needs no QEMU. A library whose compiler or interpreter is not installed is skipped, and says so.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buildAgent } from "../../guest/agent/build.ts";
import { Client, libraries, missing } from "./assist-client.ts";
import { RealAgent } from "./assist-real-agent.ts";
import {
  eventually,
  pagesOf,
  Peer,
  type PeerApplication,
  readMemory,
  zeroFrozen,
} from "./assist-peer.ts";

const bytes = 1 << 20;
const name = "name conformance";
const hex = (value: number): string => `0x${value.toString(16)}`;
const areaLine = ({ begin, end }: { begin: number; end: number }): string =>
  `area ${hex(begin)} ${hex(end - begin)}`;

for (const library of libraries) {
  describe(library.name, { skip: missing(library.needs) }, () => {
    const output = mkdtempSync(join(tmpdir(), "godwit-assist-build-"));
    before(() => library.build(output));
    after(() => rmSync(output, { recursive: true, force: true }));
    const start = (path: string): Client => new Client(library.command(output), path);

    /** A program with one declared area of 1 MiB, connected to a peer. */
    async function connected() {
      const peer = await Peer.listening();
      const client = start(peer.path);
      const application = await peer.application();
      const area = await client.area(0, bytes);
      await application.until(areaLine(area));
      return {
        peer,
        client,
        application,
        area,
        async [Symbol.asyncDispose]() {
          await client[Symbol.asyncDispose]();
          await peer[Symbol.asyncDispose]();
        },
      };
    }

    /** Nothing improper was said, the program is well, and its list is what the peer holds. */
    async function assertWell(client: Client, application: PeerApplication): Promise<void> {
      assert.deepEqual(application.violations, []);
      await client.quit();
      await eventually(
        () => application.closed,
        () => "its connection stays open",
      );
    }

    test("says its name, then its areas, at their true addresses", async () => {
      await using world = await connected();
      const { client, application, area } = world;
      const second = await client.area(1, 3 * bytes);
      await application.until(areaLine(second));
      assert.deepEqual(application.received, [name, areaLine(area), areaLine(second)]);
      assert.ok((await readMemory(client.pid, area)).every((byte) => byte === 1));
      assert.ok((await readMemory(client.pid, second)).every((byte) => byte === 2));
      await assertWell(client, application);
    });

    test("begin, prepare, ready, resume: the memory was given up and is zero", async () => {
      await using world = await connected();
      const { client, application } = world;
      application.say("begin");
      await client.until("begin");
      application.say("prepare 2000");
      await application.until("ready");
      assert.equal(await client.zeroes(0), 0);
      const zeroed = await zeroFrozen(client.pid, application.ranges);
      assert.ok(zeroed >= bytes - 8192);
      application.say("resume");
      await client.until("begin", "prepare 2000", "resume");
      assert.equal(await client.zeroes(0), zeroed);
      assert.deepEqual(client.troubles, []);
      await assertWell(client, application);
    });

    test("abort, and a second migration of the same program", async () => {
      await using world = await connected();
      const { client, application } = world;
      for (const end of ["abort", "resume"]) {
        application.say("begin");
        application.say("prepare 500");
        await application.until("ready", end === "abort" ? 1 : 2);
        application.say(end);
      }
      await client.until("begin", "prepare 500", "abort", "begin", "prepare 500", "resume");
      assert.equal(application.received.filter((line) => line.startsWith("area")).length, 1);
      await assertWell(client, application);
    });

    test("a part that is dropped stays out, also after a reconnection", async () => {
      await using world = await connected();
      const { peer, client, application, area } = world;
      await client.ask(`drop 0 ${256 * 1024} ${128 * 1024}`);
      await application.until(`drop ${hex(area.begin + 256 * 1024)} 0x20000`);
      application.destroy();
      const again = await peer.application(1);
      const parts = [
        { begin: area.begin, end: area.begin + 256 * 1024 },
        { begin: area.begin + 384 * 1024, end: area.end },
      ];
      for (const part of parts) await again.until(areaLine(part));
      assert.deepEqual(again.received, [name, ...parts.map(areaLine)]);
      await assertWell(client, again);
    });

    test("everything dropped: nothing is declared any more", async () => {
      await using world = await connected();
      const { peer, client, application } = world;
      await client.ask("drop-all");
      await application.until("drop");
      application.destroy();
      const again = await peer.application(1);
      await again.until(name);
      const other = await client.area(1, bytes);
      await again.until(areaLine(other));
      assert.deepEqual(again.received, [name, areaLine(other)]);
      await assertWell(client, again);
    });

    test("what is dropped in prepare is kept (ready only after the agent has confirmed it)", async () => {
      await using world = await connected();
      const { client, application } = world;
      await client.ask(`on-prepare drop 0 0 ${512 * 1024}`);
      application.reply = (line) => (line.startsWith("drop") ? null : "ok");
      application.say("prepare 2000");
      await application.until(/^drop 0x/);
      await sleep(100);
      assert.ok(!application.received.includes("ready"));
      application.ranges = application.ranges.map((range) => ({
        begin: range.begin + 512 * 1024,
        end: range.end,
      }));
      application.say("ok");
      await application.until("ready");
      const zeroed = await zeroFrozen(client.pid, application.ranges);
      application.say("resume");
      assert.equal(await client.zeroes(0), zeroed);
      assert.ok(zeroed <= 512 * 1024 && zeroed >= 512 * 1024 - 8192);
      await assertWell(client, application);
    });

    test("a drop that the agent refuses in prepare withdraws everything for this migration", async () => {
      await using world = await connected();
      const { client, application } = world;
      await client.ask(`on-prepare drop 0 4096 ${512 * 1024}`);
      application.reply = (line) => (line.startsWith("drop 0x") ? "error too many areas" : "ok");
      application.say("prepare 2000");
      await application.until("ready");
      assert.deepEqual(application.received.slice(-2), ["drop", "ready"]);
      assert.deepEqual(application.ranges, []);
      application.say("abort");
      await application.until(/^area/, 3);
      assert.deepEqual(client.troubles, ["too many areas"]);
      await assertWell(client, application);
    });

    test("a prepare that fails still answers, with nothing given up, and declares again afterwards", async () => {
      await using world = await connected();
      const { client, application, area } = world;
      await client.ask("on-prepare fail");
      application.say("prepare 2000");
      await application.until("ready");
      assert.deepEqual(application.received.slice(-2), ["drop", "ready"]);
      assert.deepEqual(application.ranges, []);
      application.say("abort");
      await application.until(areaLine(area), 2);
      await client.ask("on-prepare ok");
      application.say("prepare 2000");
      await application.until("ready", 2);
      assert.equal(application.ranges.length, 1);
      application.say("resume");
      await client.until("prepare 2000", "abort", "prepare 2000", "resume");
      await assertWell(client, application);
    });

    test("an area declared in mid-prepare is held back until the end", async () => {
      await using world = await connected();
      const { client, application } = world;
      application.say("prepare 2000");
      await application.until("ready");
      const second = await client.area(1, bytes);
      await sleep(50);
      assert.ok(!application.received.includes(areaLine(second)));
      application.say("resume");
      await application.until(areaLine(second));
      await assertWell(client, application);
    });

    test("the agent dies (idle): connects again and declares again", async () => {
      await using world = await connected();
      const { peer, client, area } = world;
      await peer.die();
      await peer.start();
      const again = await peer.application(1);
      await again.until(areaLine(area));
      assert.deepEqual(again.received, [name, areaLine(area)]);
      assert.deepEqual(client.events, []);
      await assertWell(client, again);
    });

    test("the agent dies (after ready): the program hears abort", async () => {
      await using world = await connected();
      const { peer, client, application, area } = world;
      application.say("prepare 2000");
      await application.until("ready");
      await peer.die();
      await client.until("prepare 2000", "abort");
      await peer.start();
      const again = await peer.application(1);
      await again.until(areaLine(area));
      await assertWell(client, again);
    });

    test("the agent dies (prepare is not finished): abort comes after it, ready does not come", async () => {
      await using world = await connected();
      const { peer, client, application, area } = world;
      await client.ask("on-prepare sleep 300");
      application.say("begin");
      application.say("prepare 2000");
      await client.until("begin", "prepare 2000");
      await peer.die();
      await peer.start();
      await client.until("begin", "prepare 2000", "abort");
      const again = await peer.application(1);
      await again.until(areaLine(area));
      assert.ok(!again.received.includes("ready"));
      await assertWell(client, again);
    });

    test("too slow: abort comes after prepare has finished, and the next migration works", async () => {
      await using world = await connected();
      const { client, application } = world;
      await client.ask("on-prepare sleep 200");
      application.say("prepare 50");
      await client.until("prepare 50");
      application.say("abort");
      await client.until("prepare 50", "abort");
      await client.ask("on-prepare ok");
      const answers = application.received.filter((line) => line === "ready").length;
      application.say("prepare 2000");
      await application.until("ready", answers + 1);
      application.say("resume");
      await client.until("prepare 50", "abort", "prepare 2000", "resume");
      await assertWell(client, application);
    });

    test("what the agent refuses is told, and the rest goes on", async () => {
      await using world = await connected();
      const { client, application } = world;
      application.reply = (line) => (line.startsWith("area") ? "error not private memory" : "ok");
      const refused = await client.area(1, bytes);
      await application.until(areaLine(refused));
      application.say("prepare 2000");
      await application.until("ready");
      application.say("resume");
      await client.until("prepare 2000", "resume");
      assert.deepEqual(client.troubles, ["not private memory"]);
      await assertWell(client, application);
    });

    test("events of a later version are ignored; a line without end is not listened to", async () => {
      await using world = await connected();
      const { peer, client, application, area } = world;
      application.say("shrink 50 percent");
      application.say("");
      application.say("begin");
      await client.until("begin");
      application.say("x".repeat(5000));
      const again = await peer.application(1);
      await again.until(areaLine(area));
      await client.until("begin", "abort");
      await assertWell(client, again);
    });

    test("an agent that refuses and closes is asked less and less often", async () => {
      await using peer = await Peer.listening();
      peer.reply = () => "error too many applications";
      await using _client = start(peer.path);
      for (let index = 0; index < 3; index++) {
        const application = await peer.application(index);
        await application.until(name);
        application.destroy();
      }
      // After 250, 500 and 1000 ms; an impatient one would have come a fourth time by now.
      const from = peer.applications.length;
      await sleep(700);
      assert.equal(peer.applications.length, from);
    });

    test("an agent that starts later is found; one that hangs does not keep the program from ending", async () => {
      await using peer = await Peer.create();
      await using client = start(peer.path);
      const area = await client.area(0, bytes);
      await peer.start();
      const application = await peer.application();
      await application.until(areaLine(area));
      application.hang();
      for (let i = 0; i < 100; i++) await client.ask(`drop 0 ${i * 8192} 4096`);
      await client.quit();
    });

    test("with the real agent: a whole migration, frozen and scrubbed", async () => {
      await using agent = await RealAgent.start(await buildAgent());
      await using client = start(agent.path);
      const area = await client.area(0, bytes);
      await agent.until((found) => found?.areas.length === 1);
      const { areas, name: called } = await agent.application();
      assert.equal(called, "conformance");
      assert.deepEqual(
        areas.map(({ address, bytes: length }) => ({ begin: address, end: address + length })),
        [pagesOf(area)],
      );
      await client.ask(`on-prepare drop 0 0 ${bytes / 4}`);
      await agent.client.announce("begin");
      await agent.client.announce("prepare", 2000);
      assert.deepEqual(await agent.client.awaitReady(2000), [{ pid: client.pid, state: "ready" }]);
      const { zeroedPages, absentPages } = await agent.scrub();
      await agent.client.announce("resume");
      await client.until("begin", "prepare 2000", "resume");
      assert.equal(absentPages, 0);
      assert.equal(await client.zeroes(0), zeroedPages * 4096);
      assert.ok(zeroedPages >= 190 && zeroedPages <= 192, `${zeroedPages} pages`);
      assert.deepEqual(client.troubles, []);
      await client.quit();
      await agent.until((found) => found === undefined);
    });

    test("with the real agent: it is killed after ready, comes back, and is told again", async () => {
      await using agent = await RealAgent.start(await buildAgent());
      await using client = start(agent.path);
      await client.area(0, bytes);
      await agent.until((found) => found?.areas.length === 1);
      await agent.client.announce("prepare", 2000);
      assert.deepEqual(await agent.client.awaitReady(2000), [{ pid: client.pid, state: "ready" }]);
      await agent.kill();
      await client.until("prepare 2000", "abort");
      await agent.restart();
      await agent.until((found) => found?.areas.length === 1);
      assert.equal(await client.zeroes(0), 0);
      await client.quit();
    });

    test("switched off by an empty GODWIT_ASSIST: everything succeeds and nothing happens", async () => {
      await using client = start("");
      await client.ask("area 0 65536");
      await client.ask("drop 0 0 4096");
      await client.ask("drop-all");
      assert.equal(await client.zeroes(0), 0);
      await client.quit();
      assert.deepEqual([client.events, client.troubles], [[], []]);
    });
  });
}
