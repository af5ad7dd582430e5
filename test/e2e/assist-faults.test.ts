/**
 * Whatever the agent in the guest does, or the port to it, the migration ends well or the VM stays, the JVM goes on, and
 * memory is equal. One guest goes through all of it, from host to host: what an earlier fault left behind would be seen.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sleep, systemClock, withDeadline } from "../../src/io/index.ts";
import type { MigrateOptions, MigrationOutcome } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { type AgentFault, AgentRelay, type RequestName, type Tampering } from "./agent-relay.ts";
import { Harness, type MigrationRun } from "./harness.ts";
import { javaGuest } from "./java-guest.ts";

/** "The stated time" of docs/JAVMM.md: what the agent holds it lets go by then, however silent the host. */
const thawedWithinMs = 12_000;
/** Migrations until a fault strikes. */
const attemptsMax = 3;
const timedOut = { error: 5 };
const gone = { error: 2 };
const unreadable = { error: 9 };

interface Case {
  readonly at: RequestName;
  readonly after: number;
  readonly what: Tampering;
  /** What the report says of assistance. */
  readonly state: "unused" | "failed" | "used";
  /** And why: so that it is this fault that counts, and none that something else brought about. */
  readonly text: RegExp;
}

function held(what: Tampering, text: RegExp): Case {
  return { at: "hold", after: 0, what, state: "failed", text };
}

const nobodyHeld = Buffer.alloc(32);
const nothingZeroed = Buffer.alloc(32);

const cases: readonly Case[] = [
  { at: "hello", after: 0, what: "hang", state: "unused", text: /^hello: no answer/ },
  { at: "hello", after: 0, what: "close", state: "unused", text: /^hello: .*closed/ },
  { at: "hello", after: 0, what: "lie", state: "unused", text: /no sense: hello/ },
  { at: "processes", after: 0, what: "hang", state: "unused", text: /^processes: no answer/ },
  { at: "processes", after: 0, what: "lie", state: "unused", text: /no sense/ },
  { at: "maps", after: 0, what: "lie", state: "unused", text: /^java cannot/ },
  { at: "read", after: 2, what: "lie", state: "unused", text: /^java cannot/ },
  { at: "read", after: 6, what: "damage", state: "unused", text: /read: no answer/ },
  { at: "read", after: 1, what: unreadable, state: "unused", text: /cannot be read/ },
  { at: "frames", after: 0, what: "close", state: "unused", text: /^frames: .*closed/ },
  { at: "frames", after: 0, what: gone, state: "unused", text: /nothing to gain/ },
  { at: "frames", after: 2, what: "hang", state: "failed", text: /^frames: no answer/ },
  { at: "announce", after: 0, what: "hang", state: "unused", text: /^announce: no answer/ },
  held("hang", /^hold.* within \d+ ms/),
  held("close", /^hold: .*closed/),
  held(timedOut, /refused hold: .*TIMED_OUT/),
  held(gone, /refused hold: .*GONE/),
  {
    at: "hold",
    after: 0,
    what: { claim: nobodyHeld },
    state: "failed",
    text: /refused write: .*NOT_HELD/,
  },
  { at: "scrub", after: 0, what: "hang", state: "failed", text: /^holding .*7000 ms/ },
  { at: "scrub", after: 0, what: "close", state: "failed", text: /^scrub: .*closed/ },
  { at: "scrub", after: 0, what: gone, state: "failed", text: /refused scrub: .*GONE/ },
  { at: "scrub", after: 0, what: { claim: nothingZeroed }, state: "used", text: /^used$/ },
  { at: "extend", after: 0, what: "close", state: "failed", text: /^extend: .*closed/ },
];

let harness: Harness;
let vm: LaunchedVm;
let count = 0;

before(async () => {
  harness = await Harness.create();
  vm = await javaGuest(harness, {
    name: "faults",
    collector: "Parallel",
    memory: "256M",
    young: 48,
    heap: 96,
    program: "Alloc,live=16,rate=200",
  });
});

after(async () => {
  await harness[Symbol.asyncDispose]();
});

async function relayFor(fault: AgentFault): Promise<AgentRelay> {
  const path = join(harness.directory, `agent${++count}.sock`);
  return await AgentRelay.listen(path, vm.agentPath, fault);
}

async function begin(relay: AgentRelay, options: Partial<MigrateOptions>): Promise<MigrationRun> {
  return await harness.migrate(
    vm,
    // So slow that plain pre-copy would not pay, so fast that it ends.
    { bandwidthBytesPerSecond: 100_000_000, gc: "provoke", verify: true, ...options },
    undefined,
    {},
    { job: { agentPath: relay.path } },
  );
}

/** Waits for the end; the VM is then at the destination, and goes on there. */
async function arrives(run: MigrationRun): Promise<MigrationOutcome> {
  const outcome = await run.source.outcome;
  assert.equal(outcome.result, "done", `${outcome.text}\n${run.source.said.join("\n")}`);
  assert.equal(outcome.report.verified, true);
  const there = await run.prepared;
  await (await run.destination).ended;
  await harness.end(vm);
  vm = there;
  await harness.ticks(vm, 3, thawedWithinMs);
  return outcome;
}

interface Struck {
  readonly said: readonly string[];
  readonly assist: MigrationOutcome["report"]["assist"];
}

/**
 * As `arrives`, with a fault. On a busy machine a collection may have taken so long that help does not pay: then nobody is held,
 * and nothing breaks. Once more, in that case.
 */
async function arrivesStruck(fault: AgentFault): Promise<Struck> {
  for (let attempt = 1; ; attempt++) {
    using relay = await relayFor(fault);
    const run = await begin(relay, {});
    const { report } = await arrives(run);
    if (relay.hasStruck || attempt === attemptsMax) {
      return { said: run.source.said, assist: report.assist };
    }
  }
}

test("nothing broken: applications are held", async () => {
  using relay = await relayFor({ at: "cancel", after: 99, what: "close" });
  const run = await begin(relay, {});
  const { report } = await arrives(run);
  assert.equal(report.assist?.state, "used", run.source.said.join("\n"));
  assert.ok((report.assist?.hold?.scrubbedPages ?? 0) > 1000);
});

for (const { at, after: times, what, state, text } of cases) {
  const name = typeof what === "string" ? what : Object.keys(what).join();
  test(`${at} after ${times}: ${name}: plain pre-copy, memory equal, the JVM goes on`, async () => {
    const { said, assist } = await arrivesStruck({ at, after: times, what });
    assert.equal(assist?.state, state, `${assist?.text}\n${said.join("\n")}`);
    assert.match(assist?.text ?? "", text);
  });
}

for (const at of ["hold", "scrub"] as const) {
  test(`cancelled while ${at} hangs: the VM stays, and its JVM goes on at once`, async () => {
    using relay = await relayFor({ at, after: 0, what: "hang" });
    const run = await begin(relay, {});
    await withDeadline(systemClock, 20_000, "the fault", relay.struck);
    run.source.cancel();
    const outcome = await run.source.outcome;
    assert.equal(outcome.result, "cancelled", outcome.text);
    await harness.ticks(vm, 3, thawedWithinMs);
  });

  test(`the source's worker is killed while ${at} hangs: the VM stays, and its JVM goes on`, async () => {
    using relay = await relayFor({ at, after: 0, what: "hang" });
    const run = await begin(relay, {});
    await withDeadline(systemClock, 20_000, "the fault", relay.struck);
    run.source.child.kill("SIGKILL");
    await run.source.ended;
    await harness.ticks(vm, 3, thawedWithinMs);
    // QEMU has given the migration up, and can begin another one.
    await sleep(systemClock, 500);
  });
}

test("cancelled while the guest gives up its page cache: it does not have to be waited for", async () => {
  using relay = await relayFor({ at: "dropCaches", after: 0, what: "hang" });
  const run = await begin(relay, { dropCaches: true });
  await withDeadline(systemClock, 20_000, "the fault", relay.struck);
  const startMs = systemClock.nowMs();
  run.source.cancel();
  const outcome = await run.source.outcome;
  const ms = systemClock.nowMs() - startMs;
  assert.equal(outcome.result, "cancelled", outcome.text);
  assert.ok(ms < 10_000, `after ${ms} ms`);
  await harness.ticks(vm, 3, thawedWithinMs);
});

test("after all of that it is still held and moved as if nothing had been", async () => {
  using relay = await relayFor({ at: "cancel", after: 99, what: "close" });
  const { report } = await arrives(await begin(relay, { assist: "require" }));
  assert.equal(report.assist?.state, "used");
});

test("required, but no agent answers: nothing is sent, the VM stays", async () => {
  using relay = await relayFor({ at: "hello", after: 0, what: "hang" });
  const run = await begin(relay, { assist: "require" });
  const outcome = await run.source.outcome;
  assert.equal(outcome.result, "failed");
  assert.equal(outcome.error?.code, "ASSIST_REQUIRED");
  await harness.ticks(vm, 2);
});
