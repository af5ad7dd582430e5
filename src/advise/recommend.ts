/**
 * Which method to use under given constraints. Pure.
 *
 * What counts is how fast a VM may dirty its memory before its pages cannot be sent as fast as they come: each method has two
 * limits, the processor's share over its CPU time per MB, and the link's rate times its ratio. The smaller one is what it
 * sustains; the method that sustains most is recommended, among those whose memory fits.
 */
import { paretoFront, type Tradeoff } from "./pareto.ts";

export interface Constraints {
  readonly linkBytesPerSecond: number;
  /** Of one core, from 0 to 1. */
  readonly cpuShare: number;
  /** For what a method keeps of earlier pages. */
  readonly memoryBytes: number;
}

export interface Candidate extends Tradeoff {
  readonly method: string;
  readonly memoryBytes: number;
}

/** What would limit the VM first. */
export type Limit = "link" | "cpu";

export interface Judgement {
  readonly method: string;
  /** The largest rate at which the VM may dirty memory. */
  readonly sustainableBytesPerSecond: number;
  readonly limit: Limit;
  /** What the VM's pages take of the link at the rate that was measured; above 1 they do not fit. */
  readonly linkShare: number;
  /** What encoding them takes of one core. */
  readonly cpuShare: number;
  readonly fitsMemory: boolean;
  /** All constraints are met at the rate that was measured. */
  readonly fits: boolean;
  readonly onFront: boolean;
}

export interface Recommendation {
  /** In the order of the candidates. */
  readonly judgements: readonly Judgement[];
  /** Undefined when no candidate fits the memory. */
  readonly method: string | undefined;
  readonly reason: string;
}

/** Two that sustain as much but for this share are equal: figures of CPU time are no better than that. */
const equalShare = 0.05;

export function recommend(
  candidates: readonly Candidate[],
  constraints: Constraints,
  dirtyBytesPerSecond: number,
): Recommendation {
  const front = new Set(paretoFront(candidates));
  const judged = candidates.map((candidate) => ({
    candidate,
    judgement: judge(candidate, constraints, dirtyBytesPerSecond, front.has(candidate)),
  }));
  const judgements = judged.map(({ judgement }) => judgement);
  const fitting = judged.filter(({ judgement }) => judgement.fitsMemory);
  const best = choose(fitting);
  if (best === undefined) {
    const reason = `No method keeps within ${mebibytes(constraints.memoryBytes)} of memory.`;
    return { judgements, method: undefined, reason };
  }
  const reason = explain(best, judged, constraints, dirtyBytesPerSecond);
  return { judgements, method: best.candidate.method, reason };
}

interface Judged {
  readonly candidate: Candidate;
  readonly judgement: Judgement;
}

function judge(
  { method, ratio, encodeMsPerMb, memoryBytes }: Candidate,
  constraints: Constraints,
  dirtyBytesPerSecond: number,
  onFront: boolean,
): Judgement {
  const byLink = constraints.linkBytesPerSecond * ratio;
  // A method that takes no time is not limited by it.
  const byCpu = (constraints.cpuShare * 1e3 * 1e6) / Math.max(encodeMsPerMb, 1e-6);
  const sustainableBytesPerSecond = Math.min(byLink, byCpu);
  const fitsMemory = memoryBytes <= constraints.memoryBytes;
  return {
    method,
    sustainableBytesPerSecond,
    limit: byLink <= byCpu ? "link" : "cpu",
    linkShare: dirtyBytesPerSecond / byLink,
    cpuShare: (dirtyBytesPerSecond / 1e6) * (encodeMsPerMb / 1e3),
    fitsMemory,
    fits: fitsMemory && dirtyBytesPerSecond <= sustainableBytesPerSecond,
    onFront,
  };
}

/** The one that sustains most; of those about equal to it the one with least CPU time, then with least memory. */
function choose(judged: readonly Judged[]): Judged | undefined {
  const most = Math.max(...judged.map(({ judgement }) => judgement.sustainableBytesPerSecond));
  return judged
    .filter(({ judgement }) => judgement.sustainableBytesPerSecond >= most * (1 - equalShare))
    .toSorted(
      ({ candidate: a }, { candidate: b }) =>
        a.encodeMsPerMb - b.encodeMsPerMb || a.memoryBytes - b.memoryBytes,
    )[0];
}

function explain(
  best: Judged,
  all: readonly Judged[],
  constraints: Constraints,
  dirtyBytesPerSecond: number,
): string {
  const { candidate, judgement } = best;
  const words = [
    `${candidate.method} sustains the most: the VM may dirty ${rate(judgement.sustainableBytesPerSecond)} ` +
      `before ${limitText(judgement.limit, constraints)}.`,
  ];
  const second = runnerUp(best, all);
  if (second !== undefined) words.push(second);
  const excluded = excludedByMemory(best, all);
  if (excluded !== undefined) words.push(excluded);
  words.push(presentText(judgement, dirtyBytesPerSecond));
  return words.join(" ");
}

function limitText(limit: Limit, { linkBytesPerSecond, cpuShare }: Constraints): string {
  if (limit === "link") return `its pages fill the link of ${bits(linkBytesPerSecond)}`;
  return `encoding takes ${percent(cpuShare)} of a core`;
}

function runnerUp(best: Judged, all: readonly Judged[]): string | undefined {
  const [next] = all
    .filter((one) => one !== best && one.judgement.fitsMemory)
    .toSorted(
      (a, b) => b.judgement.sustainableBytesPerSecond - a.judgement.sustainableBytesPerSecond,
    );
  if (next === undefined) return undefined;
  const { method, sustainableBytesPerSecond, limit } = next.judgement;
  const isEqual =
    sustainableBytesPerSecond >= best.judgement.sustainableBytesPerSecond * (1 - equalShare);
  if (isEqual) return `${method} sustains about as much, and costs more CPU time or memory.`;
  const by = limit === "link" ? "the link" : "CPU time";
  return `Next is ${method} with ${rate(sustainableBytesPerSecond)}, limited by ${by}.`;
}

/** Told when what does not fit would have been better. */
function excludedByMemory(best: Judged, all: readonly Judged[]): string | undefined {
  const better = all.filter(
    ({ judgement: { fitsMemory, sustainableBytesPerSecond } }) =>
      !fitsMemory && sustainableBytesPerSecond > best.judgement.sustainableBytesPerSecond,
  );
  const [most] = better.toSorted(
    (a, b) => b.judgement.sustainableBytesPerSecond - a.judgement.sustainableBytesPerSecond,
  );
  if (most === undefined) return undefined;
  return `${most.candidate.method} would sustain more, but keeps ${mebibytes(most.candidate.memoryBytes)} of pages.`;
}

function presentText(judgement: Judgement, dirtyBytesPerSecond: number): string {
  const now = `Now the VM dirties ${rate(dirtyBytesPerSecond)}`;
  const takes = `${percent(judgement.linkShare)} of the link and ${percent(judgement.cpuShare)} of a core`;
  if (judgement.fits) return `${now}, which takes ${takes}.`;
  return `${now}, more than that: it would take ${takes}, so epochs would last longer than their interval.`;
}

function rate(bytesPerSecond: number): string {
  const mib = bytesPerSecond / 2 ** 20;
  if (mib >= 10_000) return `${(mib / 1024).toFixed(0)} GiB/s`;
  return `${mib.toFixed(mib < 10 ? 1 : 0)} MiB/s`;
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function bits(bytesPerSecond: number): string {
  const mbit = (bytesPerSecond * 8) / 1e6;
  return mbit >= 1000 ? `${+(mbit / 1000).toFixed(1)} Gbit/s` : `${+mbit.toFixed(1)} Mbit/s`;
}

function percent(share: number): string {
  const value = share * 100;
  return `${value < 10 ? +value.toFixed(1) : Math.round(value)} %`;
}
