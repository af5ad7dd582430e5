/** From rows to promises: only traces that nothing was tuned on count. Pure. */
import { methods } from "../../src/advise/index.ts";
import { type CodecRow, round, type SummaryRow } from "./rows.ts";
import { heldOut, judgedIntervalMs } from "./settings.ts";

/** The one that `--compress hybrid` is. */
export const judgedMethod = "hybrid+zstd-1";

const wanted = { ratioMin: 20, encodeMsPerMbMax: 1, decodeMbPerSMin: 2000 } as const;

/** Empty when there is no trace to judge by. */
export function summarize(rows: readonly CodecRow[]): SummaryRow[] {
  const traces = heldOut([...new Set(rows.map(({ trace }) => trace))]);
  const judged = rows.filter(
    ({ kind, intervalMs, phase, trace }) =>
      kind === "godwit" &&
      phase === "epochs" &&
      intervalMs === judgedIntervalMs &&
      traces.includes(trace),
  );
  const own = judged.filter(({ method }) => method === judgedMethod);
  if (own.length === 0) return [];
  return [...own.flatMap((row) => againstSingles(row, judged)), ...means(own)];
}

/** In ratio and CPU time, against the best that a well-known compressor can do in each. */
function againstSingles(own: CodecRow, judged: readonly CodecRow[]): SummaryRow[] {
  const names = new Set(methods.filter(({ isSingle }) => isSingle).map(({ name }) => name));
  const singles = judged.filter(({ trace, method }) => trace === own.trace && names.has(method));
  if (singles.length === 0) return [];
  const best = Math.max(...singles.map(({ ratio }) => ratio));
  const cheapest = Math.min(...singles.map(({ encodeMsPerMb }) => encodeMsPerMb));
  return [
    line("ratio over the best single method's", own.trace, own.ratio / best, {
      text: "> 1",
      holds: own.ratio > best,
    }),
    line("CPU time over the cheapest single method's", own.trace, own.encodeMsPerMb / cheapest, {
      text: "< 1",
      holds: own.encodeMsPerMb < cheapest,
    }),
  ];
}

function means(own: readonly CodecRow[]): SummaryRow[] {
  const mean = (key: "ratio" | "encodeMsPerMb") =>
    own.reduce((sum, row) => sum + row[key], 0) / own.length;
  const all = own.map(({ trace }) => trace).join(", ");
  const [ratio, cpu] = [mean("ratio"), mean("encodeMsPerMb")];
  const worst = Math.max(...own.map(({ encodeMsPerMb }) => encodeMsPerMb));
  const decode = Math.min(...own.map(({ decodeMbPerS }) => decodeMbPerS));
  const least = Math.min(...own.map((row) => row.ratio));
  return [
    line("mean ratio", all, ratio, {
      text: `>= ${wanted.ratioMin}`,
      holds: ratio >= wanted.ratioMin,
    }),
    line("least ratio", all, least),
    line("mean CPU ms per MB", all, cpu, {
      text: `<= ${wanted.encodeMsPerMbMax}`,
      holds: cpu <= wanted.encodeMsPerMbMax,
    }),
    line("most CPU ms per MB", all, worst),
    line("least decoding MB/s", all, decode, {
      text: `>= ${wanted.decodeMbPerSMin}`,
      holds: decode >= wanted.decodeMbPerSMin,
    }),
  ];
}

function line(
  what: string,
  trace: string,
  value: number,
  promise?: { readonly text: string; readonly holds: boolean },
): SummaryRow {
  return {
    bench: "codec-summary",
    what,
    trace,
    method: judgedMethod,
    value: round(value),
    wanted: promise?.text ?? "",
    verdict: promise === undefined ? "" : promise.holds ? "holds" : "DOES NOT HOLD",
  };
}
