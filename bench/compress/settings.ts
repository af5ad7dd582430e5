/** What is measured: the guest, links, workloads and cases. Environment variables narrow it down. */
import { GodwitError } from "../../src/base/index.ts";
import { narrowing } from "../environment.ts";
import type { BenchOptions } from "../harness.ts";
import type { CaseSettings } from "../migrate/case.ts";
import { cases, usualCases } from "./cases.ts";
import { type Workload, workloads } from "./workloads.ts";

export interface Settings {
  readonly linksMegabits: readonly number[];
  readonly memoryMebibytes: number;
  readonly repetitions: number;
  readonly workloads: readonly Workload[];
  readonly cases: readonly string[];
  /** For all links; undefined: see `caseSettings`. */
  readonly boundMs: number | undefined;
  readonly warmWorkers: boolean;
  /** What this bench printed with --json before, to be judged instead of measuring. */
  readonly rowPaths: readonly string[];
}

/** Throws CONFIG_INVALID on names that are not known. */
export function settingsOf({ quick }: BenchOptions): Settings {
  const { number, names, text } = narrowing();
  const namesOf = (all: readonly { readonly name: string }[]) => all.map(({ name }) => name);
  const chosen = names("WORKLOADS", namesOf(workloads)) ?? (quick ? ["idle"] : undefined);
  return {
    linksMegabits: linksOf(names("LINKS") ?? (quick ? ["1000"] : ["200", "1000"])),
    memoryMebibytes: number("MEMORY", 512),
    repetitions: number("REPETITIONS", quick ? 1 : 3),
    workloads: workloads.filter(({ name }) => chosen?.includes(name) ?? true),
    cases: names("CASES", namesOf(cases)) ?? usualCases,
    boundMs: text("BOUND") === undefined ? undefined : number("BOUND", 0) * 1000,
    warmWorkers: text("WORKERS") !== "cold",
    rowPaths: names("ROWS") ?? [],
  };
}

/** The bound is three times what one pass over all memory takes, and at least 25 s: as in the bench of migrations. */
export function caseSettings(settings: Settings, linkMegabits: number): CaseSettings {
  const { memoryMebibytes, boundMs, warmWorkers } = settings;
  const passMs = (memoryMebibytes * 2 ** 20) / (linkMegabits * 125);
  return {
    boundMs: boundMs ?? Math.max(25_000, Math.ceil(3 * passMs)),
    downtimeLimitMs: 300,
    warmWorkers,
  };
}

function linksOf(words: readonly string[]): readonly number[] {
  return words.map((word) => {
    const megabits = Number(word);
    if (Number.isFinite(megabits) && megabits >= 1) return megabits;
    throw new GodwitError("CONFIG_INVALID", `GODWIT_BENCH_LINKS: no rate in Mbit/s: ${word}`);
  });
}
