/**
 * What takes part in a migration breaks in the guest itself: the Java VM, a registered program, the agent. And the user cancels
 * while everything is sound. The migration ends well or the VM stays, memory is equal, nothing is left frozen, and whoever was
 * not killed goes on.
 *
 * One guest goes through all of it, from host to host. A shell in it does what is to be done, at the moment when a request is on
 * its way to the agent.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileEntry, writeCpio } from "../../guest/image/cpio.ts";
import { compilerFlags } from "../../guest/image/recipe.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { checkDefinition, type LaunchedVm } from "../../src/qemu/launch/index.ts";
import { AgentRelay } from "./agent-relay.ts";
import { eventually } from "./assist-peer.ts";
import { GuestShell } from "./guest-shell.ts";
import { countLines, Harness, type MigrationRun, runState } from "./harness.ts";
import { type Collector, javaDefinition } from "./java-guest.ts";
import { assertArrived, assertOutcome, assertStayed } from "./support.ts";
import { busy, endings, type Fault, idle, slow } from "./victim-cases.ts";

/** "The stated time" of docs/JAVMM.md: what the agent holds it lets go by then, however silent the host. */
const thawedWithinMs = 12_000;

/** So slow that plain pre-copy would not pay, so fast that it ends. */
const link = { bandwidthBytesPerSecond: 100_000_000, gc: "provoke", verify: true } as const;

let harness: Harness;
let vm: LaunchedVm;
let shell: GuestShell;
let isBooted = false;
let count = 0;

/** The image's initrd and the program: the kernel unpacks one archive after the other. */
async function initrdWithVictim(initrdPath: string): Promise<string> {
  const program = join(harness.directory, "assist-victim");
  const source = join(import.meta.dirname, "assist-victim.c");
  execFileSync("gcc", [...compilerFlags, "-o", program, source]);
  const path = join(harness.directory, "initrd");
  const more = writeCpio([fileEntry("bin/assist-victim", await readFile(program))]);
  await writeFile(path, Buffer.concat([await readFile(initrdPath), more]));
  return path;
}

before(async () => {
  harness = await Harness.create();
  const words = "godwit.run=shell";
  const plain = await javaDefinition({ name: "victims", memory: "256M", words });
  const initrd = await initrdWithVictim(plain.initrd ?? "");
  vm = await harness.boot(checkDefinition({ ...plain, initrd }));
  shell = await GuestShell.first(vm);
  await shell.start("W", "/bin/godwit-writer mb=4 rate=1 tickms=100");
  isBooted = true;
});

after(async () => {
  // What went wrong before is not to be hidden.
  if (isBooted) shell[Symbol.dispose]();
  await harness[Symbol.asyncDispose]();
});

/** In place of the one that there was. */
async function startJvm(collector: Collector, young: number, program: string): Promise<void> {
  await shell.ask("kill -9 $J");
  const jvm = `-XX:TieredStopAtLevel=1 -XX:+Use${collector}GC -Xmn${young}m -Xmx${young + 32}m -cp /opt/workload`;
  const root = "busybox env -i PATH=/usr/bin HOME=/tmp /bin/busybox chroot /root";
  await shell.start("J", `${root} /usr/bin/java ${jvm} ${program} tickms=100`);
  await goOn(["java"], [vm], 4, 60_000);
}

/** Each of them says so often more that all is well, on whichever of the consoles: "tick 5 ok java". */
async function goOn(
  parties: readonly string[],
  vms: readonly LaunchedVm[],
  times = 2,
  withinMs = thawedWithinMs,
): Promise<void> {
  const look = async (): Promise<number[]> =>
    await Promise.all(
      parties.map(async (party) => {
        const lines = new RegExp(`godwit-guest \\w+ \\d+ ok ${party}`, "g");
        const counts = await Promise.all(vms.map((one) => countLines(one, lines)));
        return counts.reduce((sum, found) => sum + found, 0);
      }),
    );
  const earlier = await look();
  const endMs = systemClock.nowMs() + withinMs;
  for (;;) {
    const now = await look();
    const late = parties.filter((_, i) => (now[i] as number) < (earlier[i] as number) + times);
    if (late.length === 0) return;
    assert.ok(systemClock.nowMs() < endMs, `${late.join()} does not go on within ${withinMs} ms`);
    await sleep(systemClock, 50);
  }
}

/** No process stands still, and the agent has nothing noted that it would have to let go. */
async function assertNothingFrozen(): Promise<void> {
  const look =
    "busybox grep -l '^State:.[Tt]' /proc/[0-9]*/status 2>/dev/null; [ -e /run/godwit/held ] && echo noted; echo looked";
  let found = "";
  await eventually(
    async () => (found = await shell.ask(look)) === "looked",
    () => `frozen: ${found}`,
    thawedWithinMs,
  );
}

async function strike(fault: Fault, run: MigrationRun): Promise<void> {
  const { does = "true", beside = false, frozen = false, host } = fault;
  if (frozen)
    assert.equal(await shell.ask("read id name state more < /proc/$J/stat; echo $state"), "T");
  const done = shell.ask(does);
  // It may be answered where nobody listens any more.
  if (beside) done.catch(() => {});
  else await done;
  if (host === "cancel") run.source.cancel();
  if (host === "kill") run.source.child.kill("SIGKILL");
}

async function begin(
  fault: Fault,
): Promise<{ run: MigrationRun; struck: Promise<void>; relay: AgentRelay }> {
  const { at, after: times = 0, options } = fault;
  const struck = Promise.withResolvers<void>();
  const started = Promise.withResolvers<MigrationRun>();
  const first = async (): Promise<void> =>
    strike(fault, await started.promise).then(struck.resolve, struck.reject);
  const path = join(harness.directory, `agent${++count}.sock`);
  const relay = await AgentRelay.listen(path, vm.agentPath, { at, after: times, what: { first } });
  const job = { agentPath: path };
  const migrating = harness.migrate(vm, { ...link, ...options }, undefined, {}, { job });
  // Else it would keep this process from ending.
  migrating.catch(() => relay[Symbol.dispose]());
  const run = await migrating;
  started.resolve(run);
  const early = run.source.outcome.then(({ text }) => {
    throw new Error(`over before it struck: ${text}\n${run.source.said.join("\n")}`);
  });
  return { run, struck: Promise.race([struck.promise, early]), relay };
}

async function end({ ends, reports = [] }: Fault, run: MigrationRun): Promise<void> {
  if (ends === "killed") {
    await run.source.ended;
    await sleep(systemClock, 500);
    assert.equal(await runState(vm), "running");
    return;
  }
  const outcome = await run.source.outcome;
  const why = `${outcome.text}\n${outcome.report.assist?.text}\n${run.source.said.join("\n")}`;
  if (ends === "cancelled" || ends === "required") {
    if (ends === "cancelled") assertOutcome(outcome, "cancelled", "CANCELLED");
    else assertOutcome(outcome, "failed", "ASSIST_REQUIRED");
    await assertStayed(harness, vm, run);
    return;
  }
  assert.equal(outcome.result, "done", why);
  assert.equal(outcome.report.verified, true);
  const { there } = await assertArrived(harness, vm, run);
  shell[Symbol.dispose]();
  await harness.end(vm);
  vm = there;
  shell = GuestShell.at(vm);
  const states = ends === "either" ? ["used", "failed"] : [ends];
  assert.ok(states.includes(outcome.report.assist?.state ?? ""), why);
  const participants = JSON.stringify(outcome.report.assist?.participants);
  for (const text of reports) assert.match(participants, text);
}

async function suffer(fault: Fault): Promise<void> {
  const { programs = [], kills, stops, undo } = fault;
  for (const program of programs) await shell.start("P", `/bin/assist-victim ${program}`);
  const modes = [...new Set(programs.map((program) => program.replace(/ .*/, "")))];
  await goOn(modes, [vm], 1);
  await shell.set("A", "busybox pidof godwit-agent");
  const { run, struck, relay } = await begin(fault);
  using _ = relay;
  const alive = ["java", "pages-written", ...modes].filter((party) => party !== kills);
  try {
    await struck;
    const places = [vm];
    run.prepared.then((there) => places.push(there)).catch(() => {});
    const runs = alive.filter((party) => party !== stops);
    await goOn(runs, places);
    await end(fault, run);
  } finally {
    // The next one finds the guest as it was.
    if (undo !== undefined) await shell.ask(undo);
  }
  await Promise.all([assertNothingFrozen(), goOn(alive, [vm])]);
  await shell.ask("kill -9 $(busybox pidof assist-victim)");
}

function each(faults: readonly Fault[]): void {
  for (const fault of faults) test(`${fault.name}: ${endings[fault.ends]}`, () => suffer(fault));
}

test("(a Java VM that allocates much)", () => startJvm("Serial", 32, "Alloc live=8 rate=200"));
each(busy);
test("(one whose next collection is far away)", () =>
  startJvm("Serial", 96, "Alloc live=8 rate=1"));
each(slow);
test("(one that does not allocate)", () => startJvm("G1", 32, "Alloc live=4 batch=1 pause=200"));
each(idle);
