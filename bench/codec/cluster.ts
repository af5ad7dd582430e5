/**
 * Similarity across VMs with the same workload: what a sink that they share saves beside one for each, on the first copy and
 * on epochs. With the shared sink the VMs' epochs go by turns, as they would from one host; what the first VM sent, the second
 * can refer to. `similarWordsMax`: how unlike a page may be to be sent as a difference from another one.
 */
import {
  makeDecoders,
  Measurement,
  type MethodFigures,
  type PhaseFigures,
  rebatched,
} from "../../src/advise/index.ts";
import { createEncoder } from "../../src/codec/index.ts";
import { SharedPages, StreamsEncoder, type StreamsOptions } from "../../src/codec/streams/index.ts";
import { readTrace, type TraceBatch } from "../../src/trace/index.ts";
import { progress } from "../harness.ts";
import { type ClusterRow, round } from "./rows.ts";
import { type CodecSettings, judgedIntervalMs } from "./settings.ts";

interface Variant {
  readonly method: string;
  /** Undefined: zstd by itself, for comparison. */
  readonly options: StreamsOptions | undefined;
}

const kinds: readonly Variant[] = [
  { method: "similarity", options: { method: "similarity" } },
  { method: "similarity+zstd-1", options: { method: "similarity", pack: "zstd" } },
  { method: "hybrid+lz4", options: { method: "hybrid", pack: "lz4" } },
  { method: "hybrid+zstd-1", options: { method: "hybrid", pack: "zstd" } },
];
const similarWords = [32, 96, 192, 384] as const;

const variants: readonly Variant[] = [
  { method: "zstd-1", options: undefined },
  ...kinds,
  ...similarWords.map((similarWordsMax) => ({
    method: `hybrid+zstd-1, similar up to ${similarWordsMax} words`,
    options: { method: "hybrid", pack: "zstd", similarWordsMax } as const,
  })),
];

/** Empty when there are fewer than two traces of a cluster. */
export async function measureCluster(
  paths: readonly string[],
  chosen: CodecSettings,
): Promise<ClusterRow[]> {
  if (paths.length < 2) return [];
  const rows: ClusterRow[] = [];
  for (const variant of variants) {
    for (const sharing of ["alone", "shared"] as const) {
      if (variant.options === undefined && sharing === "shared") continue;
      progress(`cluster of ${paths.length}: ${variant.method}, ${sharing}`);
      rows.push(...(await measureVariant(paths, variant, sharing, chosen)));
    }
  }
  return rows;
}

async function measureVariant(
  paths: readonly string[],
  { method, options }: Variant,
  sharing: ClusterRow["sharing"],
  { memoryBytes, passCount }: CodecSettings,
): Promise<ClusterRow[]> {
  const vms = paths.map(() => new Measurement(method));
  let sharedBytes = 0;
  for (let pass = 0; pass < passCount; pass++) {
    const both = sharing === "shared";
    const [sent, received] = [1, 2].map(() => (both ? new SharedPages(memoryBytes) : undefined));
    for (const vm of vms) {
      const more = { memoryBytes, ...(sent === undefined ? {} : { shared: sent }) };
      const encoder =
        options === undefined
          ? createEncoder("zstd", { level: 1 })
          : new StreamsEncoder({ ...options, ...more });
      vm.begin(encoder, makeDecoders(received));
    }
    await feedByTurns(paths, vms);
    sharedBytes = sent?.memoryBytes ?? 0;
  }
  const figures = vms.map((vm) => vm.figures());
  const memory = figures.reduce((sum, one) => sum + one.memoryBytes, sharedBytes);
  return (["firstCopy", "epochs"] as const).map((phase) => ({
    bench: "codec-cluster",
    method,
    sharing,
    intervalMs: judgedIntervalMs,
    phase,
    ...sumOf(figures, phase),
    memoryBytes: memory,
  }));
}

/** The first copies one after another, then epoch by epoch. What one VM sends is measured before the next has its turn. */
async function feedByTurns(paths: readonly string[], vms: readonly Measurement[]): Promise<void> {
  const sources = paths.map((path) => {
    const batches = rebatched(readTrace(path, { intervalMs: judgedIntervalMs }));
    return { batches, next: undefined as TraceBatch | undefined, isDone: false };
  });
  for (let epoch = 0; sources.some(({ isDone }) => !isDone); epoch++) {
    for (const [i, source] of sources.entries()) {
      const vm = vms[i] as Measurement;
      while (!source.isDone) {
        if (source.next === undefined) {
          const { value, done } = await source.batches.next();
          if (done === true) source.isDone = true;
          else source.next = value;
        }
        if (source.next === undefined || source.next.epoch > epoch) break;
        vm.add(epoch === 0 ? "firstCopy" : "epochs", source.next.batch);
        source.next = undefined;
      }
      vm.flush();
    }
  }
}

function sumOf(
  all: readonly MethodFigures[],
  phase: ClusterRow["phase"],
): Pick<ClusterRow, "ratio" | "encodeMsPerMb"> {
  const figures = all.map((one) => one[phase]).filter((one) => one !== undefined);
  const sum = (value: (one: PhaseFigures) => number) =>
    figures.reduce((total, one) => total + value(one), 0);
  const rawBytes = sum((one) => one.rawBytes);
  return {
    ratio: round(rawBytes / sum((one) => one.encodedBytes)),
    encodeMsPerMb: round(sum((one) => one.encodeMsPerMb * one.rawBytes) / rawBytes),
  };
}
