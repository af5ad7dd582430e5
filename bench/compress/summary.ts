/** Many runs → medians of each case, and how `auto` compares with the others on the same workload and link. Pure. */
import { median, type Row } from "../harness.ts";

/** What the summary needs of one migration. */
export interface Run {
  readonly workload: string;
  /** Mbit/s. */
  readonly link: number;
  readonly case: string;
  /** From 1. */
  readonly run: number;
  readonly finished: boolean;
  /** Undefined where it did not finish. */
  readonly totalMs: number | undefined;
  readonly downtimeMs: number | undefined;
  readonly wireBytes: number;
  /** Undefined where memory could not be compared. */
  readonly verified: boolean | undefined;
  /** Of the records that went through the codec; undefined where there was none. */
  readonly ratio: number | undefined;
  readonly encodeMs: number | undefined;
}

export interface Summary {
  readonly workload: string;
  readonly link: number;
  readonly case: string;
  readonly runs: number;
  readonly finished: number;
  readonly verified: number;
  /**
   * Medians of all runs, one that did not finish counting as longer than any other: null when it is the one in the middle.
   * Otherwise the slow half of a case's runs could be given up without a trace.
   */
  readonly totalMs: number | null;
  readonly downtimeMs: number | null;
  /** Longest over shortest total time: a difference of less than that may mean nothing. Null when a run did not finish. */
  readonly spread: number | null;
  /** Of all runs, finished or not. */
  readonly wireBytes: number;
  /** Of the runs with a codec; null without one. */
  readonly ratio: number | null;
  readonly encodeMs: number | null;
}

export const autoCase = "godwit-auto";
export const noneCase = "godwit-none";
export const qemuCaseNames = ["qemu-xbzrle", "qemu-multifd-zstd"] as const;
export type Rival = "best fixed" | typeof noneCase | (typeof qemuCaseNames)[number];
export const rivals: readonly Rival[] = ["best fixed", noneCase, ...qemuCaseNames];

/** `auto` against one other, by medians. */
export interface Comparison {
  readonly workload: string;
  readonly link: number;
  readonly rival: Rival;
  /** The case that the rival is here. */
  readonly case: string;
  /** Which of the two finished. */
  readonly finished: "both" | "auto" | "rival" | "neither";
  /** auto's over the rival's, below 1: less; null unless both finished. */
  readonly time: number | null;
  readonly bytes: number | null;
}

export function summarize(runs: readonly Run[]): readonly Summary[] {
  const keyOf = (run: Run): string => `${run.workload} ${run.link} ${run.case}`;
  const groups = Map.groupBy(runs, keyOf);
  return [...groups.values()].map(summaryOf);
}

function summaryOf(runs: readonly Run[]): Summary {
  const { workload, link, case: name } = runs[0] as Run;
  const totals = runs.map(({ totalMs }) => totalMs ?? Number.POSITIVE_INFINITY);
  const known = (value: (run: Run) => number | undefined): number | null => {
    const values = runs.map(value).filter((found) => found !== undefined);
    return values.length === 0 ? null : finite(median(values));
  };
  const encodeMs = known((run) => run.encodeMs);
  return {
    workload,
    link,
    case: name,
    runs: runs.length,
    finished: runs.filter(({ finished }) => finished).length,
    verified: runs.filter(({ verified }) => verified === true).length,
    totalMs: whole(median(totals)),
    downtimeMs: whole(median(runs.map((run) => run.downtimeMs ?? Number.POSITIVE_INFINITY))),
    spread: share(Math.max(...totals), Math.min(...totals)),
    wireBytes: Math.round(median(runs.map(({ wireBytes }) => wireBytes))),
    ratio: known((run) => run.ratio),
    encodeMs: encodeMs === null ? null : Math.round(encodeMs),
  };
}

/** All that can be compared: where `auto` was not measured, or the rival, there is nothing. */
export function compare(summaries: readonly Summary[]): readonly Comparison[] {
  const places = Map.groupBy(summaries, ({ workload, link }) => `${workload} ${link}`);
  return [...places.values()].flatMap((here) => {
    const auto = here.find((one) => one.case === autoCase);
    if (auto === undefined) return [];
    return rivals.flatMap((rival) => {
      const other = rival === "best fixed" ? bestFixed(here) : here.find((o) => o.case === rival);
      return other === undefined ? [] : [comparison(auto, rival, other)];
    });
  });
}

/** By time. Those that finished come first. */
function bestFixed(here: readonly Summary[]): Summary | undefined {
  const time = ({ totalMs }: Summary): number => totalMs ?? Number.MAX_VALUE;
  return here.filter(isFixed).toSorted((a, b) => time(a) - time(b))[0];
}

export function isFixed(summary: { readonly case: string }): boolean {
  return summary.case.startsWith("godwit-") && summary.case !== autoCase;
}

function comparison(auto: Summary, rival: Rival, other: Summary): Comparison {
  const { workload, link } = auto;
  const [ours, theirs] = [auto.totalMs !== null, other.totalMs !== null];
  const both = ours && theirs;
  return {
    workload,
    link,
    rival,
    case: other.case,
    finished: both ? "both" : ours ? "auto" : theirs ? "rival" : "neither",
    time: both ? share(auto.totalMs, other.totalMs) : null,
    bytes: both ? share(auto.wireBytes, other.wireBytes) : null,
  };
}

/** To one part in ten thousand, which is finer than anything that is promised; null when that is no number. */
function share(value: number | null, base: number | null): number | null {
  return value === null || base === null ? null : finite(Number((value / base).toFixed(4)));
}

function whole(value: number): number | null {
  return finite(Math.round(value));
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** For people. */
export function summaryRow(one: Summary): Row {
  return {
    workload: one.workload,
    "link Mb/s": one.link,
    case: one.case,
    finished: `${one.finished}/${one.runs}`,
    "total ms": one.totalMs ?? "-",
    spread: one.spread?.toFixed(2) ?? "-",
    "wire MB": Math.round(one.wireBytes / 1e5) / 10,
    "downtime ms": one.downtimeMs ?? "-",
    ratio: one.ratio?.toFixed(2) ?? "-",
    "encode ms": one.encodeMs ?? "-",
    verified: `${one.verified}/${one.runs}`,
  };
}

export function comparisonRow(one: Comparison): Row {
  return {
    workload: one.workload,
    "link Mb/s": one.link,
    "auto against": one.rival === one.case ? one.case : `${one.rival}: ${one.case}`,
    time: one.time?.toFixed(3) ?? "-",
    bytes: one.bytes?.toFixed(3) ?? "-",
    finished: one.finished,
  };
}
