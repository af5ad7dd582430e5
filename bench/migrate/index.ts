/**
 * Whole migrations of the same guest over the same link: by QEMU alone in several ways, by Xen's rule for stopping, and by
 * godwit. docs/BENCH.md says what is measured, and how it is the same for all.
 *
 * Each migration has a guest of its own, booted for it, and a QEMU that waits for it already: none inherits what another
 * left behind in memory. Cases run by turns, each repetition beginning with another one.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuestImage } from "../../guest/image/build.ts";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import {
  checkDefinition,
  pinnedDefinition,
  type VmDefinition,
} from "../../src/qemu/launch/index.ts";
import { atExit } from "../at-exit.ts";
import { type BenchOptions, progress, report } from "../harness.ts";
import { NetworkPair } from "../netns.ts";
import type { Case, Measured } from "./case.ts";
import { godwitCase } from "./godwit-case.ts";
import { Guest } from "./guest.ts";
import { qemuCases } from "./qemu-case.ts";
import { type Settings, settingsOf, type Workload } from "./settings.ts";
import { rowOf, type Run, summarize } from "./summary.ts";

/** Time for the workload to become steady after its first tick. */
const settleMs = 1500;

export async function run(options: BenchOptions): Promise<void> {
  const settings = settingsOf(options);
  const cases = [...qemuCases, godwitCase("godwit")].filter(
    ({ name }) => settings.cases?.includes(name) ?? true,
  );
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

function rotated(cases: readonly Case[], by: number): readonly Case[] {
  const at = by % Math.max(1, cases.length);
  return [...cases.slice(at), ...cases.slice(0, at)];
}

async function migrateOnce(
  settings: Settings,
  link: NetworkPair,
  workload: Workload,
  next: Case,
): Promise<Measured> {
  const directory = mkdtempSync(join(tmpdir(), "gwb-"));
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  const forget = atExit(remove);
  try {
    const definition = await guestDefinition(settings, workload);
    const place = (side: "a" | "b") => ({ link, side, runtimeDirectory: join(directory, side) });
    await using source = await Guest.start(definition, { ...place("a"), start: "fresh" });
    await source.ticks(1);
    const pinned = checkDefinition(pinnedDefinition(source.vm));
    await using destination = await Guest.start(pinned, { ...place("b"), start: next.destination });
    await sleep(systemClock, settleMs);
    const stage = { settings, link, directory, source, destination };
    const measured = await next.run(stage);
    // The guest itself checks that it goes on; where memory was not compared, that all of it is what it was.
    const there = measured.finished ? destination : source;
    if (measured.finished && measured.verified === undefined) await there.wholeSweep();
    else await there.ticks(3);
    return measured;
  } finally {
    remove();
    forget();
  }
}

async function guestDefinition(settings: Settings, workload: Workload): Promise<VmDefinition> {
  const image = await buildGuestImage("small", {});
  return checkDefinition({
    name: "bench",
    memory: `${settings.memoryMebibytes}M`,
    vcpus: 1,
    machine: "q35",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${workload.words}`,
  });
}

function constants({ linkMegabits, memoryMebibytes, boundMs }: Settings) {
  return { linkMbit: linkMegabits, memoryMb: memoryMebibytes, boundMs };
}

function tell(done: Run, settings: Settings, options: BenchOptions): void {
  const { own, moments: _, ...rest } = done;
  const { assist: _assist, roundDetails: _rounds, ...words } = own ?? {};
  const figures = {
    setupMs: rounded(rest.setupMs),
    totalMs: rounded(rest.totalMs),
    downtimeMs: rounded(rest.downtimeMs),
    verified: rest.verified ?? null,
  };
  const line = { bench: "migrate", ...rest, ...figures, ...words, ...constants(settings) };
  if (options.json) console.log(JSON.stringify(line));
  const total = figures.totalMs === null ? "not finished" : `${figures.totalMs} ms`;
  progress(`${done.run} ${done.workload} ${done.case}: ${total}, down ${figures.downtimeMs} ms`);
}

function rounded(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value);
}
