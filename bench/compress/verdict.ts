/** Comparisons → what is promised of `auto`: held, broken, or not all measured. Pure. */
import {
  autoCase,
  type Comparison,
  isFixed,
  noneCase,
  type Rival,
  rivals,
  type Summary,
} from "./summary.ts";

interface Limit {
  readonly rival: Rival;
  readonly measure: "time" | "bytes";
  /** auto's over the rival's. */
  readonly max: number;
  /** Equal is too much. */
  readonly isStrict: boolean;
}

interface Promised {
  readonly text: string;
  readonly links: readonly number[];
  readonly limits: readonly Limit[];
}

export interface Verdict {
  readonly promise: string;
  /** Null: nothing is broken, but not all that is promised was measured. */
  readonly holds: boolean | null;
  /** How many comparisons were made, and broke it. */
  readonly compared: number;
  readonly broken: number;
  /** The one that is furthest over its limit, or nearest to it. */
  readonly worst: string | null;
  /** What is promised as well, and was not measured. */
  readonly missing: readonly string[];
}

const qemuRivals = rivals.filter((rival) => rival.startsWith("qemu-"));

const promises: readonly Promised[] = [
  {
    text: "auto is at most 5 % slower than the best fixed choice, and at most 2 % slower than none",
    links: [100, 1_000, 10_000],
    limits: [
      { rival: "best fixed", measure: "time", max: 1.05, isStrict: false },
      { rival: noneCase, measure: "time", max: 1.02, isStrict: false },
    ],
  },
  {
    text: "auto needs less time and fewer bytes than qemu-xbzrle and qemu-multifd-zstd",
    links: [200, 1_000],
    limits: qemuRivals.flatMap((rival) =>
      (["time", "bytes"] as const).map((measure) => ({ rival, measure, max: 1, isStrict: true })),
    ),
  },
];

export interface Wanted {
  readonly workloads: readonly string[];
  /** Fixed choices without which the best of them is not the best. */
  readonly fixedCases: readonly string[];
}

/** `failed`: migrations that broke off with an error and are in no summary. */
export function verdicts(
  summaries: readonly Summary[],
  comparisons: readonly Comparison[],
  wanted: Wanted,
  failed: readonly string[],
): readonly Verdict[] {
  return promises.map((promised) => {
    const judged = promised.limits.flatMap((limit) =>
      comparisons
        .filter(({ rival, link }) => rival === limit.rival && promised.links.includes(link))
        .map((found) => judge(found, limit)),
    );
    const broken = judged.filter(({ holds }) => !holds).length;
    const missing = [...missingOf(promised, summaries, comparisons, wanted), ...failed];
    const worst = judged.toSorted((a, b) => b.excess - a.excess)[0];
    return {
      promise: promised.text,
      holds: broken > 0 ? false : missing.length > 0 ? null : true,
      compared: judged.length,
      broken,
      worst: worst?.text ?? null,
      missing,
    };
  });
}

interface Judged {
  readonly holds: boolean;
  /** The ratio over its limit. */
  readonly excess: number;
  readonly text: string;
}

function judge(found: Comparison, { measure, max, isStrict }: Limit): Judged {
  const ratio = ratioOf(found, measure);
  const name = found.rival === found.case ? found.case : `${found.rival} (${found.case})`;
  const where = `${found.workload}, ${found.link} Mbit/s, ${measure} against ${name}`;
  return {
    holds: isStrict ? ratio < max : ratio <= max,
    excess: ratio / max,
    text: `${where}: ${textOf(found, ratio)}`,
  };
}

/** Who finishes is better than who does not. */
function ratioOf(found: Comparison, measure: "time" | "bytes"): number {
  switch (found.finished) {
    case "both":
      return found[measure] ?? Number.POSITIVE_INFINITY;
    case "auto":
      return 0;
    case "rival":
      return Number.POSITIVE_INFINITY;
    default:
      return 1;
  }
}

function textOf({ finished }: Comparison, ratio: number): string {
  if (finished === "both") return ratio.toFixed(3);
  if (finished === "neither") return "neither finished";
  return finished === "auto" ? "only auto finished" : "auto did not finish";
}

function missingOf(
  { links, limits }: Promised,
  summaries: readonly Summary[],
  comparisons: readonly Comparison[],
  { workloads, fixedCases }: Wanted,
): readonly string[] {
  const measured = new Set(summaries.map(({ link }) => link));
  const absent = links.filter((link) => !measured.has(link)).map((link) => `${link} Mbit/s`);
  const present = new Set(summaries.map(({ workload }) => workload));
  const idle = workloads.filter((workload) => !present.has(workload));
  const places = links.filter((link) => measured.has(link));
  const unmeasured = (has: (workload: string, link: number) => boolean): boolean =>
    places.some((link) => [...present].some((workload) => !has(workload, link)));
  const rivalNames = [...new Set(limits.map(({ rival }) => rival))].filter((rival) =>
    unmeasured((workload, link) =>
      comparisons.some((c) => c.rival === rival && c.workload === workload && c.link === link),
    ),
  );
  const judgesFixed = limits.some(({ rival }) => rival === "best fixed");
  const fixed = (judgesFixed ? fixedCases : []).filter((name) =>
    unmeasured((workload, link) =>
      summaries.some(
        (one) =>
          isFixed(one) && one.case === name && one.workload === workload && one.link === link,
      ),
    ),
  );
  return [...absent, ...idle, ...new Set([...rivalNames.map(withAuto), ...fixed])];
}

function withAuto(rival: Rival): string {
  return `${autoCase} and ${rival} side by side`;
}

/** For people. */
export function verdictText({ promise, holds, compared, broken, worst, missing }: Verdict): string {
  const open = compared === 0 ? "NOT MEASURED" : "HOLDS SO FAR";
  const word = holds === null ? open : holds ? "HOLDS" : "DOES NOT HOLD";
  const lines = [`${word}: ${promise}`, `  ${broken} of ${compared} comparisons break it`];
  if (worst !== null) lines.push(`  worst: ${worst}`);
  if (missing.length > 0) lines.push(`  not measured: ${missing.join("; ")}`);
  return lines.join("\n");
}
