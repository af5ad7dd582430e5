/**
 * Whole migrations of the same guest over the same link: by QEMU alone in several ways, by Xen's rule for stopping, and by
 * godwit. docs/BENCH.md says what is measured, and how it is the same for all.
 *
 * Each migration has a guest of its own, booted for it, and a QEMU that waits for it already: none inherits what another
 * left behind in memory. Cases run by turns, each repetition beginning with another one.
 */
import { buildGuestImage } from "../../guest/image/build.ts";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import { type BenchOptions, progress, report, rotated } from "../harness.ts";
import { NetworkPair } from "../netns.ts";
import type { Case, Measured } from "./case.ts";
import { godwitCase } from "./godwit-case.ts";
import { qemuCases } from "./qemu-case.ts";
import { type Settings, settingsOf, type Workload } from "./settings.ts";
import { guestDefinition, onStage, printedFigures, whereItRuns } from "./stage.ts";
import { rowOf, type Run, summarize } from "./summary.ts";

/** Time for the workload to become steady after its first tick. */
const settleMs = 1500;

export async function run(options: BenchOptions): Promise<void> {
  const all = [...qemuCases, godwitCase("godwit")];
  const settings = settingsOf(
    options,
    all.map(({ name }) => name),
  );
  const cases = all.filter(({ name }) => settings.cases?.includes(name) ?? true);
  using link = NetworkPair.create(settings.linkMegabits);
  const runs: Run[] = [];
  for (let repetition = 0; repetition < settings.repetitions; repetition++) {
    for (const workload of settings.workloads) {
      for (const next of rotated(cases, repetition)) {
        const measured = await migrateOnce(settings, link, workload, next);
        const done = { workload: workload.name, case: next.name, run: repetition + 1, ...measured };
        runs.push(done);
        tell(done, settings, options);
      }
    }
  }
  const summaries = summarize(runs);
  if (!options.json) report(summaries.map(rowOf), options);
  else {
    for (const summary of summaries) {
      console.log(JSON.stringify({ bench: "migrate-summary", ...constants(settings), ...summary }));
    }
  }
  if (runs.some(({ verified }) => verified === false)) {
    throw new GodwitError("VERIFY_MISMATCH", "memory differed after a migration");
  }
}

async function migrateOnce(
  settings: Settings,
  link: NetworkPair,
  workload: Workload,
  next: Case,
): Promise<Measured> {
  const image = await buildGuestImage("small", {});
  const definition = guestDefinition(image, settings.memoryMebibytes, workload.words);
  return await onStage({ settings, link, definition, next }, async (stage) => {
    await sleep(systemClock, settleMs);
    const measured = await next.run(stage);
    // The guest itself checks that it goes on; where memory was not compared, that all of it is what it was.
    const there = whereItRuns(stage, measured);
    if (measured.finished && measured.verified === undefined) await there.wholeSweep();
    else await there.ticks(3);
    return measured;
  });
}

function constants({ linkMegabits, memoryMebibytes, boundMs }: Settings) {
  return { linkMbit: linkMegabits, memoryMb: memoryMebibytes, boundMs };
}

function tell(done: Run, settings: Settings, options: BenchOptions): void {
  const { own, moments: _, ...rest } = done;
  const { assist: _assist, roundDetails: _rounds, ...words } = own ?? {};
  const figures = printedFigures(done);
  const line = { bench: "migrate", ...rest, ...figures, ...words, ...constants(settings) };
  if (options.json) console.log(JSON.stringify(line));
  const total = figures.totalMs === null ? "not finished" : `${figures.totalMs} ms`;
  progress(`${done.run} ${done.workload} ${done.case}: ${total}, down ${figures.downtimeMs} ms`);
}
