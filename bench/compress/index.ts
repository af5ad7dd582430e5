/**
 * Whole migrations of guests that do real work, by codec: godwit's one by one, godwit's own choice among them, and QEMU's two.
 * docs/BENCH.md says what is measured, and how it is the same for all.
 *
 * Each migration has a guest of its own, booted for it, and a QEMU that waits for it already. Cases run by turns, each
 * repetition beginning with another one.
 */
import { readFile } from "node:fs/promises";
import { buildGuestImage, type GuestImage } from "../../guest/image/build.ts";
import type { GuestVariant } from "../../guest/image/recipe.ts";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { type BenchOptions, progress, report, rotated } from "../harness.ts";
import type { Case, CaseSettings, Measured } from "../migrate/case.ts";
import { guestDefinition, onStage, whereItRuns } from "../migrate/stage.ts";
import { NetworkPair } from "../netns.ts";
import { cases, usualCases } from "./cases.ts";
import { measureLink } from "./link-speed.ts";
import { benchName, failureText, lineOf, type Results, resultsIn, type Whole } from "./rows.ts";
import { caseSettings, type Settings, settingsOf } from "./settings.ts";
import { compare, comparisonRow, isFixed, summarize, type Summary, summaryRow } from "./summary.ts";
import { type Verdict, verdicts, verdictText } from "./verdict.ts";
import { type Workload, workloads } from "./workloads.ts";

/** A database is made anew in each guest, by an emulated CPU. */
const bootMs = 300_000;
/** A tick of the compiler is a file that it has compiled. */
const ticksAfter = { count: 3, deadlineMs: 180_000 };

export async function run(options: BenchOptions): Promise<void> {
  const settings = settingsOf(options);
  const results: Results = { runs: [], failures: [] };
  for (const path of settings.rowPaths) {
    const read = resultsIn(await readFile(path, "utf8"));
    results.runs.push(...read.runs);
    results.failures.push(...read.failures);
  }
  if (settings.rowPaths.length === 0) await measure(settings, options, results);
  if (results.runs.length > 0) show(results, options);
  if (results.failures.length > 0) {
    throw new GodwitError("MIGRATION_FAILED", results.failures.join("\n"));
  }
  if (results.runs.some(({ verified }) => verified === false)) {
    throw new GodwitError("VERIFY_MISMATCH", "memory differed after a migration");
  }
}

async function measure(settings: Settings, options: BenchOptions, results: Results): Promise<void> {
  const images = await imagesOf(settings);
  for (let repetition = 1; repetition <= settings.repetitions; repetition++) {
    for (const linkMegabits of settings.linksMegabits) {
      using link = NetworkPair.create(linkMegabits);
      if (repetition === 1) await tellLink(link, options);
      const turns = { settings, link, images, repetition, options };
      for (const workload of settings.workloads) await measureWorkload(turns, workload, results);
    }
  }
}

type Images = ReadonlyMap<GuestVariant, GuestImage>;

/** Once for all migrations, whatever happens to their recipes meanwhile. */
async function imagesOf({ workloads: chosen }: Settings): Promise<Images> {
  const images = new Map<GuestVariant, GuestImage>();
  for (const variant of new Set(chosen.map(({ image }) => image))) {
    images.set(variant, await buildGuestImage(variant, {}));
  }
  return images;
}

/** The token bucket is only an upper bound: a machine may not get that much through its network stack. */
async function tellLink(link: NetworkPair, options: BenchOptions): Promise<void> {
  const measuredMegabits = Math.round(await measureLink(link));
  const line = { bench: "compress-link", link: link.megabits, measuredMegabits };
  if (options.json) console.log(JSON.stringify(line));
  else console.log(`link of ${link.megabits} Mbit/s: TCP gets ${measuredMegabits} through it`);
}

interface Turns {
  readonly settings: Settings;
  readonly link: NetworkPair;
  readonly images: Images;
  readonly repetition: number;
  readonly options: BenchOptions;
}

/** One migration of each case. What other migrations have shown is not thrown away for one that breaks off. */
async function measureWorkload(turns: Turns, workload: Workload, results: Results): Promise<void> {
  const { settings, link, repetition, options } = turns;
  const chosen = cases.filter(({ name }) => settings.cases.includes(name));
  for (const next of rotated(chosen, repetition - 1)) {
    const names = {
      workload: workload.name,
      link: link.megabits,
      case: next.name,
      run: repetition,
    };
    const limits = caseSettings(settings, link.megabits);
    try {
      const measured = await migrateOnce(turns, limits, workload, next);
      const { ratio, encodeMs } = measured.compression ?? {};
      const done = { ...names, ratio, encodeMs, ...measured };
      results.runs.push(done);
      tell(done, { ...limits, memoryMb: settings.memoryMebibytes }, options);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      results.failures.push(failureText(names, text));
      if (options.json) console.log(JSON.stringify({ bench: benchName, ...names, error: text }));
    }
  }
}

async function migrateOnce(
  { settings, link, images }: Turns,
  limits: CaseSettings,
  workload: Workload,
  next: Case,
): Promise<Measured> {
  const image = images.get(workload.image) as GuestImage;
  const definition = guestDefinition(image, settings.memoryMebibytes, workload.words);
  return await onStage({ settings: limits, link, definition, next, bootMs }, async (stage) => {
    await sleep(systemClock, workload.settleMs);
    const measured = await next.run(stage);
    // All memory was compared; besides, the load has to go on.
    await whereItRuns(stage, measured).ticks(ticksAfter.count, ticksAfter.deadlineMs);
    return measured;
  });
}

function tell(done: Whole, constants: object, options: BenchOptions): void {
  if (options.json) console.log(JSON.stringify(lineOf(done, constants)));
  const total = done.totalMs === undefined ? "not finished" : `${Math.round(done.totalMs)} ms`;
  const wire = `${Math.round(done.wireBytes / 1e6)} MB`;
  progress(`${done.run} ${done.workload} ${done.link} Mbit/s ${done.case}: ${total}, ${wire}`);
}

function show({ runs, failures }: Results, options: BenchOptions): void {
  const summaries = summarize(runs);
  const comparisons = compare(summaries);
  const wanted = {
    workloads: workloads.map(({ name }) => name),
    fixedCases: usualCases.filter((name) => isFixed({ case: name })),
  };
  const failed = failures.map((text) => text.split("\n")[0] ?? "");
  const found = verdicts(summaries, comparisons, wanted, failed);
  if (options.json) showJson({ summaries, comparisons, found });
  else {
    report(summaries.map(summaryRow), options);
    console.log("");
    if (comparisons.length > 0) report(comparisons.map(comparisonRow), options);
    console.log("");
    for (const verdict of found) console.log(verdictText(verdict));
  }
}

interface Shown {
  readonly summaries: readonly Summary[];
  readonly comparisons: readonly object[];
  readonly found: readonly Verdict[];
}

function showJson({ summaries, comparisons, found }: Shown): void {
  const lines = { "compress-summary": summaries, "compress-comparison": comparisons };
  for (const [bench, rows] of Object.entries({ ...lines, "compress-verdict": found })) {
    for (const row of rows) console.log(JSON.stringify({ bench, ...row }));
  }
}
