/**
 * `node test/soak/assisted.ts [--count 200] [--variants java,java-21] [--collectors Serial,Parallel,G1] [--json]`: many
 * migrations of Java VMs with assistance, one after the other, each guest going back and forth. The program in it checks all
 * it computes; in every second guest the JVM itself verifies its whole heap before and after each collection; all memory of
 * source and destination is compared each time.
 */
import { parseArgs } from "node:util";
import { Prng } from "../../src/base/index.ts";
import type { MigrateOptions, MigrationOutcome } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { type Collector, javaGuest, type JavaGuestOptions } from "../e2e/java-guest.ts";
import { Harness } from "../e2e/harness.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "200" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    variants: { type: "string", default: "java,java-21" },
    collectors: { type: "string", default: "Serial,Parallel,G1" },
    memory: { type: "string", default: "512M" },
    young: { type: "string", default: "96" },
    heap: { type: "string", default: "192" },
    program: { type: "string", default: "Alloc,live=24,rate=120,churn=50" },
    bandwidth: { type: "string", default: "0" },
    assist: { type: "string", default: "require" },
    gc: { type: "string", default: "mixed" },
    compress: { type: "string", default: "none" },
    "no-verify": { type: "boolean", default: false },
    "verify-heap": { type: "string", default: "half" },
    "assist-timeout": { type: "string", default: "20000" },
    report: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

const verifyHeap = "-XX:+UnlockDiagnosticVMOptions,-XX:+VerifyBeforeGC,-XX:+VerifyAfterGC";
const count = Number(values.count);
const prng = new Prng(Number(values.seed));
const guests: JavaGuestOptions[] = [];
for (const variant of values.variants.split(",")) {
  for (const collector of values.collectors.split(",")) {
    const verifies =
      values["verify-heap"] === "all" ||
      (values["verify-heap"] === "half" && guests.length % 2 === 1);
    guests.push({
      name: `${variant}-${collector}${verifies ? "-verify" : ""}`.toLowerCase(),
      variant: variant as JavaGuestOptions["variant"] & string,
      collector: collector as Collector,
      memory: values.memory,
      young: Number(values.young),
      heap: Number(values.heap),
      program: values.program,
      ...(verifies ? { jvm: verifyHeap } : {}),
    });
  }
}

/** With --json standard output has one object, at the end. */
function tell(line: string): void {
  if (values.json) console.error(line);
  else console.log(line);
}

interface Tally {
  passed: number;
  used: number;
  failed: number;
}

const ways = ["auto", "provoke", "wait", "none"] as const;
const all: Tally = { passed: 0, used: 0, failed: 0 };
console.error(`seed ${values.seed}`);
for (const [index, guest] of guests.entries()) {
  const share = Math.floor(count / guests.length) + (index < count % guests.length ? 1 : 0);
  if (share === 0) continue;
  await using harness = await Harness.create();
  let vm = await javaGuest(harness, guest);
  for (let i = 0; i < share; i++) {
    const gc = values.gc === "mixed" ? (i === 0 ? "auto" : prng.pick(ways)) : values.gc;
    try {
      vm = await migrateOnce(harness, vm, i, gc as MigrateOptions["gc"]);
    } catch (error) {
      all.failed++;
      tell(`FAILED ${guest.name} ${i + 1} gc ${gc}: ${String(error)}`);
      await harness.end(vm);
      vm = await javaGuest(harness, guest);
    }
  }
}
const { passed, used, failed } = all;
if (values.json) console.log(JSON.stringify({ ...all, seed: values.seed }));
tell(`${passed} passed (${used} with applications held), ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

async function migrateOnce(
  harness: Harness,
  vm: LaunchedVm,
  index: number,
  gc: MigrateOptions["gc"],
): Promise<LaunchedVm> {
  const run = await harness.migrate(vm, {
    assist: values.assist as MigrateOptions["assist"],
    gc,
    compress: values.compress as MigrateOptions["compress"],
    verify: !values["no-verify"],
    bandwidthBytesPerSecond: Number(values.bandwidth),
    // A JVM that checks its whole heap, in a guest that shares the processors with another, may collect for more than the usual 5 s.
    assistTimeoutMs: Number(values["assist-timeout"]),
    timeoutMs: 180_000,
  });
  const outcome = await run.source.outcome;
  const { result, report } = outcome;
  if (result !== "done") {
    throw new Error(`${result}: ${outcome.text}\n  ${run.source.said.join("\n  ")}`);
  }
  const there = await run.prepared;
  await (await run.destination).ended;
  await harness.end(vm);
  await harness.ticks(there, 6, 40_000);
  all.passed++;
  if (report.assist?.state === "used") all.used++;
  tell(`ok ${vm.definition.name} ${index + 1} gc ${gc}: ${textOf(outcome)}`);
  if (values.report) {
    console.log(run.source.said.map((line) => `   ${line}`).join("\n"));
    console.log(JSON.stringify(report, undefined, 1));
  }
  return there;
}

function textOf({ report }: MigrationOutcome): string {
  const down = report.assist?.applicationDowntime;
  const held = report.assist?.hold?.jvms.map(({ how }) => how).join(",") ?? "-";
  return (
    `${Math.round(report.totalMs)} ms, ${Math.round(report.wireBytes / 1e6)} MB, VM down ${Math.round(report.downtimeMs ?? -1)} ms, ` +
    `application ${Math.round(down?.totalMs ?? -1)} ms, ${report.assist?.state ?? "-"} (${held}), rounds ${report.rounds}, ` +
    `stale ${report.staleFetchedCount}, verified ${report.verified ?? "-"}`
  );
}
