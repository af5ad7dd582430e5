/** Many runs → medians, and their ratio to plain QEMU's on the same workload. */
import { median, type Row } from "../harness.ts";
import type { Measured } from "./case.ts";

export interface Run extends Measured {
  readonly workload: string;
  readonly case: string;
  readonly run: number;
}

const reference = "qemu";

export interface Summary {
  readonly workload: string;
  readonly case: string;
  readonly runs: number;
  readonly finished: number;
  /** Medians of the runs that finished; null when none did. */
  readonly setupMs: number | null;
  readonly totalMs: number | null;
  readonly downtimeMs: number | null;
  /** Medians of all runs. */
  readonly wireBytes: number;
  readonly rounds: number;
  readonly verified: number;
  /** To the reference's; null where one of the two did not finish. */
  readonly totalRatio: number | null;
  readonly wireRatio: number | null;
  readonly downtimeRatio: number | null;
}

export function summarize(runs: readonly Run[]): readonly Summary[] {
  const keys = [...new Set(runs.map((run) => `${run.workload} ${run.case}`))];
  const groups = keys.map((key) => runs.filter((run) => `${run.workload} ${run.case}` === key));
  const medians = groups.map(mediansOf);
  return medians.map((own) => {
    const base = medians.find(
      (other) => other.case === reference && other.workload === own.workload,
    );
    const comparable = base?.totalMs !== null && own.totalMs !== null;
    return {
      ...own,
      totalRatio: ratio(own.totalMs, base?.totalMs),
      wireRatio: comparable ? ratio(own.wireBytes, base?.wireBytes) : null,
      downtimeRatio: ratio(own.downtimeMs, base?.downtimeMs),
    };
  });
}

function mediansOf(runs: readonly Run[]) {
  const first = runs[0] as Run;
  const of = (value: (run: Run) => number | undefined): number | null => {
    const values = runs.map(value).filter((found) => found !== undefined);
    return values.length === 0 ? null : Math.round(median(values));
  };
  return {
    workload: first.workload,
    case: first.case,
    runs: runs.length,
    finished: runs.filter(({ finished }) => finished).length,
    setupMs: of(({ setupMs }) => setupMs),
    totalMs: of(({ totalMs }) => totalMs),
    downtimeMs: of(({ downtimeMs }) => downtimeMs),
    wireBytes: of(({ wireBytes }) => wireBytes) ?? 0,
    rounds: of(({ rounds }) => rounds) ?? 0,
    verified: runs.filter(({ verified }) => verified === true).length,
  };
}

function ratio(value: number | null, base: number | null | undefined): number | null {
  if (value === null || base === null || base === undefined || base === 0) return null;
  return Number((value / base).toFixed(3));
}

/** For people. */
export function rowOf(summary: Summary): Row {
  const { workload, finished, runs, verified, rounds } = summary;
  return {
    workload,
    case: summary.case,
    finished: `${finished}/${runs}`,
    "total ms": summary.totalMs ?? "-",
    "wire MB": Math.round(summary.wireBytes / 1e5) / 10,
    "downtime ms": summary.downtimeMs ?? "-",
    rounds,
    "setup ms": summary.setupMs ?? "-",
    verified: `${verified}/${runs}`,
    "total/qemu": summary.totalRatio ?? "-",
    "wire/qemu": summary.wireRatio ?? "-",
    "downtime/qemu": summary.downtimeRatio ?? "-",
  };
}
