/** The advisor: all methods on one trace within a bounded time, and what follows from it for given constraints. */
import type { Clock } from "../io/index.ts";
import { type MethodFigures, measure, type OpenTrace, type Survey, survey } from "./measure.ts";
import { methods } from "./methods.ts";
import { picture } from "./picture.ts";
import { type Constraints, type Judgement, recommend } from "./recommend.ts";

export interface AdviceInput {
  /** Of the VM or the file, for people. */
  readonly name: string;
  readonly open: OpenTrace;
  readonly intervalMs: number;
  /** The trace holds one of so many pages that were written. Default 1: all. */
  readonly sampledPages?: number;
  readonly constraints: Constraints;
  readonly clock: Clock;
  /** Methods that are not begun by then are left out. Default 60 000. */
  readonly budgetMs?: number;
  readonly signal?: AbortSignal;
  readonly say: (text: string) => void;
}

/** What one method did, and what that means. */
export type MethodAdvice = Omit<Judgement, "method"> & {
  readonly method: string;
  readonly ratio: number;
  readonly encodeMsPerMb: number;
  readonly decodeMbPerS: number;
  readonly memoryBytes: number;
  readonly firstCopyRatio: number | undefined;
};

export interface Advice {
  readonly name: string;
  readonly intervalMs: number;
  readonly epochCount: number;
  readonly epochsBytes: number;
  readonly dirtyBytesPerSecond: number;
  readonly constraints: Constraints;
  readonly methods: readonly MethodAdvice[];
  /** Methods that were not measured: time was up, or nothing was written. */
  readonly leftOut: readonly string[];
  readonly recommended: string | undefined;
  readonly reason: string;
  /** SVG. */
  readonly picture: string;
}

const budgetMsDefault = 60_000;
/** Enough for figures that hold within a few percent, and little enough for the slowest method. */
const firstCopyBytesMax = 16e6;
const epochsBytesMax = 32e6;
/** In the first one code is still compiled. */
const passCount = 2;

export async function advise(input: AdviceInput): Promise<Advice> {
  const { name, open, intervalMs, constraints, clock, signal, say } = input;
  const found = await survey(open);
  const writtenBytes = found.epochsBytes * (input.sampledPages ?? 1);
  const dirtyBytesPerSecond = found.endMs > 0 ? writtenBytes / (found.endMs / 1000) : 0;
  const endMs = clock.nowMs() + (input.budgetMs ?? budgetMsDefault);
  const [measured, leftOut] = [[] as Measured[], [] as string[]];
  for (const method of methods) {
    const late = clock.nowMs() >= endMs;
    if (!late) say(`measuring ${method.name}`);
    const options = {
      memoryBytes: constraints.memoryBytes,
      firstCopyBytesMax,
      epochsBytesMax,
      passCount,
      ...(signal === undefined ? {} : { signal }),
    };
    const figures = late ? undefined : await measure(method, open, options);
    if (figures?.epochs !== undefined) measured.push(flat(figures, figures.epochs));
    else leftOut.push(method.name);
  }
  const { judgements, method, reason } = recommend(measured, constraints, dirtyBytesPerSecond);
  const advised = measured.map((figures, i) => ({ ...figures, ...(judgements[i] as Judgement) }));
  return {
    name,
    intervalMs,
    epochCount: found.epochCount,
    epochsBytes: found.epochsBytes,
    dirtyBytesPerSecond,
    constraints,
    methods: advised,
    leftOut,
    recommended: method,
    reason: found.epochsBytes === 0 ? nothingWritten : measured.length === 0 ? noTime : reason,
    picture: picture(
      measured.map((figures) => ({ ...figures, label: figures.method })),
      {
        title: `Compressing the dirty pages of ${name}`,
        subtitle: subtitle(found, intervalMs),
        recommended: method,
      },
    ),
  };
}

const nothingWritten = "No page was written in this time: any method will do.";
const noTime = "No method could be measured in the time that there was for it.";

type Measured = Pick<
  MethodAdvice,
  "method" | "ratio" | "encodeMsPerMb" | "decodeMbPerS" | "memoryBytes" | "firstCopyRatio"
>;

function flat(
  { method, memoryBytes, firstCopy }: MethodFigures,
  { ratio, encodeMsPerMb, decodeMbPerS }: NonNullable<MethodFigures["epochs"]>,
): Measured {
  return {
    method,
    ratio,
    encodeMsPerMb,
    decodeMbPerS,
    memoryBytes,
    firstCopyRatio: firstCopy?.ratio,
  };
}

function subtitle({ epochCount, epochsBytes }: Survey, intervalMs: number): string {
  return `${epochCount} epochs of ${intervalMs} ms, ${(epochsBytes / 1e6).toFixed(1)} MB of pages; each method with what it knows of earlier ones`;
}
