/** What is measured by default, and the rule by which settings are kept apart from results. */
import { existsSync, globSync } from "node:fs";
import { basename } from "node:path";
import { GodwitError } from "../../src/base/index.ts";
import type { BenchOptions } from "../harness.ts";
import { narrowing } from "../environment.ts";

/**
 * Traces on which the codecs' settings (sketches, limits, sizes of batches) were chosen. What is promised is measured on the
 * others only: a setting may fit the trace on which it was found by chance. The codecs were developed with dumps of PostgreSQL's
 * processes, so its guests do not count either. A trace that is used for tuning is added here.
 */
export const tunedOn: readonly string[] = ["postgres-1", "postgres-2", "postgres-3"];

/** VMs with the same workload, recorded side by side; judged together. */
export const isOfCluster = (trace: string): boolean => /^(cluster|postgres)-\w+$/.test(trace);

/** Those by which promises are judged: not tuned on, and of a cluster, whose VMs are alike, the first alone. */
export function heldOut(traces: readonly string[]): string[] {
  const cluster = traces.find(isOfCluster);
  return traces.filter(
    (trace) => !tunedOn.includes(trace) && (!isOfCluster(trace) || trace === cluster),
  );
}

/** In the order in which they are measured; the first copy goes with the first that a trace can give. */
export const intervalsMs: readonly number[] = [100, 25, 1000];
/** At which promises are judged. */
export const judgedIntervalMs = 100;

export interface CodecSettings {
  readonly paths: readonly string[];
  readonly passCount: number;
  readonly firstCopyBytesMax: number;
  readonly epochsBytesMax: number;
  readonly memoryBytes: number;
  /** Undefined: all. */
  readonly methods: readonly string[] | undefined;
  readonly intervalsMs: readonly number[];
  /** Command-line tools get this many epochs, from the first on. */
  readonly toolEpochsMax: number;
}

const defaultPattern = "test/golden/traces/*.gtrace";

export function settings({ quick }: BenchOptions): CodecSettings {
  const given = narrowing();
  const paths = given.names("TRACES") ?? globSync(defaultPattern).toSorted();
  const missing = paths.find((path) => !existsSync(path));
  if (paths.length === 0 || missing !== undefined) {
    const what = missing === undefined ? `no trace at ${defaultPattern}` : `no trace ${missing}`;
    throw new GodwitError("NOT_FOUND", `${what}; GODWIT_BENCH_TRACES names others`);
  }
  return {
    paths,
    passCount: given.number("PASSES", quick ? 1 : 3),
    firstCopyBytesMax: quick ? 8e6 : 64e6,
    epochsBytesMax: quick ? 8e6 : Number.POSITIVE_INFINITY,
    memoryBytes: given.number("MEMORY", 512) * 2 ** 20,
    methods: given.names("METHODS"),
    intervalsMs: given.names("INTERVALS")?.map(Number) ?? intervalsMs,
    toolEpochsMax: quick ? 3 : 20,
  };
}

/** By which results name it. */
export function traceName(path: string): string {
  return basename(path).replace(/\.gtrace$/, "");
}
