/** Many runs → medians, their ratios to a reference's, a table and a picture. */
import { bars } from "../../src/cli/support/bars.ts";
import { median, type Row } from "../harness.ts";
import type { Noticed } from "./figures.ts";

export interface Run extends Noticed {
  readonly workload: string;
  readonly collector: string;
  readonly case: string;
  readonly run: number;
  readonly finished: boolean;
  readonly totalMs: number | undefined;
  readonly downtimeMs: number | undefined;
  readonly wireBytes: number;
  readonly verified: boolean | undefined;
}

export interface Summary {
  readonly workload: string;
  readonly collector: string;
  readonly case: string;
  readonly runs: number;
  readonly finished: number;
  /** Medians of the runs that finished; null when none did. */
  readonly totalMs: number | null;
  readonly downtimeMs: number | null;
  readonly appDowntimeMs: number | null;
  readonly opsLost: number | null;
  /** Medians of all runs. */
  readonly wireBytes: number;
  readonly usualGapMs: number;
  readonly operationsPerSecond: number;
  readonly verified: number;
  /** The case that the others are compared with: xen-rule if it ran, else plain godwit; null where neither did. */
  readonly reference: string | null;
  /** In percent of the reference's; null where one of the two did not finish. */
  readonly totalPercent: number | null;
  readonly wirePercent: number | null;
  readonly appDowntimePercent: number | null;
}

const references = ["xen-rule", "godwit"];

export function summarize(runs: readonly Run[]): readonly Summary[] {
  const keyOf = (run: Run): string => `${run.workload} ${run.collector} ${run.case}`;
  const keys = [...new Set(runs.map(keyOf))];
  const medians = keys.map((key) => mediansOf(runs.filter((run) => keyOf(run) === key)));
  return medians.map((own) => {
    const others = medians.filter(
      ({ workload, collector }) => workload === own.workload && collector === own.collector,
    );
    const [base] = references.flatMap((name) => others.filter((other) => other.case === name));
    const comparable = base?.totalMs !== null && own.totalMs !== null;
    return {
      ...own,
      reference: base?.case ?? null,
      totalPercent: percent(own.totalMs, base?.totalMs),
      wirePercent: comparable ? percent(own.wireBytes, base?.wireBytes) : null,
      appDowntimePercent: percent(own.appDowntimeMs, base?.appDowntimeMs),
    };
  });
}

function mediansOf(runs: readonly Run[]) {
  const { workload, collector, case: name } = runs[0] as Run;
  const finished = runs.filter((run) => run.finished);
  const of = (
    value: (run: Run) => number | undefined,
    among: readonly Run[] = finished,
  ): number | null => {
    const values = among.map(value).filter((found) => found !== undefined);
    return values.length === 0 ? null : Math.round(median(values));
  };
  return {
    workload,
    collector,
    case: name,
    runs: runs.length,
    finished: finished.length,
    totalMs: of(({ totalMs }) => totalMs),
    downtimeMs: of(({ downtimeMs }) => downtimeMs),
    appDowntimeMs: of(({ appDowntimeMs }) => appDowntimeMs),
    opsLost: of(({ opsLost }) => opsLost),
    wireBytes: of(({ wireBytes }) => wireBytes, runs) ?? 0,
    usualGapMs: of(({ usualGapMs }) => usualGapMs, runs) ?? 0,
    operationsPerSecond: of(({ operationsPerSecond }) => operationsPerSecond, runs) ?? 0,
    verified: runs.filter(({ verified }) => verified === true).length,
  };
}

function percent(value: number | null, base: number | null | undefined): number | null {
  if (value === null || base === null || base === undefined || base === 0) return null;
  return Number(((value / base) * 100).toFixed(1));
}

export function rowOf(summary: Summary): Row {
  const { workload, collector, finished, runs, verified } = summary;
  return {
    workload,
    collector,
    case: summary.case,
    finished: `${finished}/${runs}`,
    "total ms": summary.totalMs ?? "-",
    "wire MB": Math.round(summary.wireBytes / 1e5) / 10,
    "down ms": summary.downtimeMs ?? "-",
    "app down ms": summary.appDowntimeMs ?? "-",
    "usual gap ms": summary.usualGapMs,
    "ops lost": summary.opsLost ?? "-",
    "ops/s": summary.operationsPerSecond,
    verified: `${verified}/${runs}`,
    "total %": summary.totalPercent ?? "-",
    "wire %": summary.wirePercent ?? "-",
    "app down %": summary.appDowntimePercent ?? "-",
  };
}

interface Measure {
  readonly title: string;
  readonly value: (summary: Summary) => number | null;
  readonly percent: (summary: Summary) => number | null;
  readonly text: (value: number) => string;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

const measures: readonly Measure[] = [
  {
    title: "time",
    value: ({ totalMs }) => totalMs,
    percent: ({ totalPercent }) => totalPercent,
    text: seconds,
  },
  {
    title: "traffic",
    value: ({ totalMs, wireBytes }) => (totalMs === null ? null : wireBytes),
    percent: ({ wirePercent }) => wirePercent,
    text: (bytes) => `${Math.round(bytes / 1e6)} MB`,
  },
  {
    title: "application downtime",
    value: ({ appDowntimeMs }) => appDowntimeMs,
    percent: ({ appDowntimePercent }) => appDowntimePercent,
    text: seconds,
  },
];

/** Bars for each workload and collector, the longest of each measure being as wide as it gets. */
export function picture(summaries: readonly Summary[]): string {
  const groups = [...new Set(summaries.map((one) => `${one.workload}, ${one.collector}`))];
  return groups
    .map((group) => {
      const own = summaries.filter((one) => `${one.workload}, ${one.collector}` === group);
      const parts = measures.map((measure) => {
        const rows = own.map((one) => ({
          name: one.case,
          value: measure.value(one) ?? undefined,
          text: textOf(one, measure),
        }));
        return `${group}: ${measure.title}\n${bars(rows)}`;
      });
      return parts.join("\n\n");
    })
    .join("\n\n\n");
}

function textOf(one: Summary, measure: Measure): string {
  const value = measure.value(one);
  if (value === null) return "not finished";
  const share = measure.percent(one);
  return share === null || one.case === one.reference
    ? measure.text(value)
    : `${measure.text(value)} (${share} %)`;
}
