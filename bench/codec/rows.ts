/** The lines that `npm run bench -- codec --json` prints, and reading them again. */
import { readFileSync } from "node:fs";

export interface CodecRow {
  readonly bench: "codec";
  readonly method: string;
  /** godwit: as shipped. tool: a command. native: C (bench/c/codec.c). */
  readonly kind: "godwit" | "tool" | "native";
  readonly trace: string;
  readonly intervalMs: number;
  readonly phase: "firstCopy" | "epochs";
  readonly ratio: number;
  readonly encodeMsPerMb: number;
  readonly decodeMbPerS: number;
  /** -1: not known (other programs). */
  readonly memoryBytes: number;
  readonly rawBytes: number;
}

/** One promise, or one sum, over the traces that nothing was tuned on. */
export interface SummaryRow {
  readonly bench: "codec-summary";
  readonly what: string;
  readonly trace: string;
  readonly method: string;
  readonly value: number;
  /** What was asked for; "" where nothing was. */
  readonly wanted: string;
  readonly verdict: "holds" | "DOES NOT HOLD" | "";
}

/** Sketches and block sizes of similarity, on several VMs (cluster.ts). */
export interface ClusterRow {
  readonly bench: "codec-cluster";
  readonly method: string;
  readonly sharing: "alone" | "shared";
  readonly intervalMs: number;
  readonly phase: "firstCopy" | "epochs";
  readonly ratio: number;
  readonly encodeMsPerMb: number;
  readonly memoryBytes: number;
}

export type AnyRow = CodecRow | SummaryRow | ClusterRow;

/** Rows of other benches are passed over. */
export function readRows(path: string): AnyRow[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as { bench?: string })
    .filter((row): row is AnyRow =>
      ["codec", "codec-summary", "codec-cluster"].includes(row.bench ?? ""),
    );
}

/** Four significant digits: more would be noise. */
export function round(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(4)) : 0;
}
