/**
 * Whole migrations of a guest with a Java application: by Xen's rule, by QEMU in several ways, by godwit without and with
 * assistance. What the application notices is measured in the application. docs/BENCH.md says how.
 *
 * Each migration has a guest of its own, booted for it, and a QEMU that waits for it already.
 */
import { buildGuestImage, type GuestImage } from "../../guest/image/build.ts";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { type BenchOptions, progress, report } from "../harness.ts";
import type { Case, Measured } from "../migrate/case.ts";
import { godwitCase } from "../migrate/godwit-case.ts";
import { qemuCases } from "../migrate/qemu-case.ts";
import {
  guestDefinition,
  onStage,
  printedFigures,
  rounded,
  whereItRuns,
} from "../migrate/stage.ts";
import { NetworkPair } from "../netns.ts";
import { Beats } from "./beats.ts";
import { isSteady, type Noticed, noticed } from "./figures.ts";
import { type Collector, type Settings, settingsOf } from "./settings.ts";
import { picture, rowOf, type Run, summarize } from "./summary.ts";
import { kernelWords, type Workload } from "./workloads.ts";

const qemuNames = ["xen-rule", "qemu", "qemu-xbzrle", "qemu-postcopy"];
const cases: readonly Case[] = [
  ...qemuNames.flatMap((name) => qemuCases.filter((one) => one.name === name)),
  godwitCase("godwit", { assist: "off" }),
  godwitCase("godwit-assist"),
  godwitCase("godwit-assist-compress", { compress: "zstd" }),
];
const bootMs = 120_000;
/** Good ticks, four a second, that the application has to give after its migration: a few collections of garbage. */
const ticksAfter = 20;
const sweepMs = 180_000;
const steadyMs = 2_000;
const settleTurnsMax = 25;

interface Whole extends Run, Omit<Measured, keyof Run> {}

export async function run(options: BenchOptions): Promise<void> {
  const settings = settingsOf(
    options,
    cases.map(({ name }) => name),
  );
  // One image for all of them, whatever happens to its recipe meanwhile.
  const image = await buildGuestImage(settings.variant, {});
  using link = NetworkPair.create(settings.linkMegabits);
  const runs: Run[] = [];
  const failures: string[] = [];
  for (const turn of turnsOf(settings)) {
    const { workload, collector, next, repetition } = turn;
    const names = { workload: workload.name, collector, case: next.name, run: repetition };
    try {
      const done = { ...names, ...(await migrateOnce({ settings, link, image, ...turn })) };
      runs.push(done);
      tell(done, settings, options);
    } catch (error) {
      // Hours of other results are not thrown away for it; the bench fails at its end.
      const text = error instanceof Error ? error.message : String(error);
      failures.push(`${workload.name} ${collector} ${next.name}: ${text}`);
      if (options.json) console.log(JSON.stringify({ bench: "javmm", ...names, error: text }));
    }
  }
  if (runs.length > 0) show(runs, settings, options);
  if (failures.length > 0) throw new GodwitError("MIGRATION_FAILED", failures.join("\n"));
  if (runs.some(({ verified }) => verified === false)) {
    throw new GodwitError("VERIFY_MISMATCH", "memory differed after a migration");
  }
}

interface Turn {
  readonly workload: Workload;
  readonly collector: Collector;
  readonly next: Case;
  readonly repetition: number;
}

interface Plan extends Turn {
  readonly settings: Settings;
  readonly link: NetworkPair;
  readonly image: GuestImage;
}

function turnsOf({ repetitions, workloads, collectors, cases: names }: Settings): Turn[] {
  const chosen = cases.filter(({ name }) => names?.includes(name) ?? true);
  return Array.from({ length: repetitions }, (_, i) => i + 1).flatMap((repetition) =>
    workloads.flatMap((workload) =>
      collectors.flatMap((collector) =>
        chosen.map((next) => ({ workload, collector, next, repetition })),
      ),
    ),
  );
}

async function migrateOnce(plan: Plan): Promise<Measured & Noticed> {
  const { settings, link, image, workload, collector, next } = plan;
  const words = kernelWords(workload, collector, settings.jvm);
  const definition = guestDefinition(image, settings.memoryMebibytes, words);
  return await onStage({ settings, link, definition, next, bootMs }, async (stage) => {
    using beats = new Beats();
    for (const { vm } of [stage.source, stage.destination]) beats.follow(vm.consoleLogPath);
    await settle(beats, workload);
    await sleep(systemClock, settings.beforeMs);
    const measured = await next.run(stage);
    // The guest itself checks that it goes on; where memory was not compared, that all of it is what it was.
    const there = whereItRuns(stage, measured);
    await there.ticks(ticksAfter);
    const found = noticed(await beats.collect(), measured.moments, settings.beforeMs);
    if (measured.finished && measured.verified === undefined) await there.wholeSweep(sweepMs);
    return { ...measured, ...found };
  });
}

/** Until Java's compiler has seen what runs: the rate no longer rises. On a busy machine that may never be so. */
async function settle(beats: Beats, { settleMs }: Workload): Promise<void> {
  await sleep(systemClock, settleMs);
  for (let turn = 0; turn < settleTurnsMax; turn++) {
    if (isSteady(await beats.collect(), systemClock.wallMs(), steadyMs)) return;
    await sleep(systemClock, steadyMs / 2);
  }
}

function constants({ linkMegabits, memoryMebibytes, boundMs, variant }: Settings) {
  return { linkMbit: linkMegabits, memoryMb: memoryMebibytes, boundMs, image: variant };
}

function tell(done: Whole, settings: Settings, options: BenchOptions): void {
  const { own, moments: _, ...rest } = done;
  const figures = {
    ...printedFigures(done),
    appDowntimeMs: rounded(rest.appDowntimeMs),
    appDowntimeEndMs:
      rest.appDowntimeEndMs === undefined ? undefined : rounded(rest.appDowntimeEndMs),
    usualGapMs: rounded(rest.usualGapMs),
    operationsPerSecond: rounded(rest.operationsPerSecond),
    opsLost: rounded(rest.opsLost),
  };
  const line = { bench: "javmm", ...rest, ...figures, ...constants(settings), ...own };
  if (options.json) console.log(JSON.stringify(line));
  const total = figures.totalMs === null ? "not finished" : `${figures.totalMs} ms`;
  const down = `application down ${figures.appDowntimeMs} ms (usual ${figures.usualGapMs})`;
  const wire = `${Math.round(rest.wireBytes / 1e6)} MB`;
  progress(
    `${done.run} ${done.workload} ${done.collector} ${done.case}: ${total}, ${wire}, ${down}`,
  );
}

/** With --json the table and the picture are for people only: on standard error. */
function show(runs: readonly Run[], settings: Settings, options: BenchOptions): void {
  const summaries = summarize(runs);
  if (!options.json) {
    report(summaries.map(rowOf), options);
    console.log(`\n${picture(summaries)}`);
    return;
  }
  for (const summary of summaries) {
    console.log(JSON.stringify({ bench: "javmm-summary", ...constants(settings), ...summary }));
  }
  console.error(`\n${picture(summaries)}`);
}
