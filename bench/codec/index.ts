/**
 * Every way of compressing on every trace: how small, at how much CPU time, how fast it is undone, how much is kept for it.
 * docs/BENCH.md says what is compared, docs/GUIDELINES.md what was found.
 */
import { type Method, type MethodFigures, measure, methods } from "../../src/advise/index.ts";
import { readTrace, readTraceHeader } from "../../src/trace/index.ts";
import { type BenchOptions, progress, report } from "../harness.ts";
import { measureCluster } from "./cluster.ts";
import { measureNative } from "./native.ts";
import { type AnyRow, type CodecRow, round } from "./rows.ts";
import { type CodecSettings, isOfCluster, settings, traceName } from "./settings.ts";
import { summarize } from "./summary.ts";
import { measureTools } from "./tools.ts";

export async function run(options: BenchOptions): Promise<void> {
  const chosen = settings(options);
  const rows: CodecRow[] = [];
  const shown = new Printer(options);
  for (const path of chosen.paths) {
    for await (const row of measureTrace(path, chosen)) {
      rows.push(row);
      shown.add(row);
    }
  }
  shown.table();
  for (const row of await measureCluster(
    chosen.paths.filter((path) => isOfCluster(traceName(path))),
    chosen,
  )) {
    shown.add(row);
  }
  shown.table();
  const summary = summarize(rows);
  for (const row of summary) shown.add(row);
  shown.table();
  if (summary.length === 0) progress("no trace to judge by: all of them were used for tuning");
}

/** JSON lines at once, tables when they are complete. */
class Printer {
  readonly #options: BenchOptions;
  #rows: AnyRow[] = [];

  constructor(options: BenchOptions) {
    this.#options = options;
  }

  add(row: AnyRow): void {
    if (this.#options.json) console.log(JSON.stringify(row));
    else this.#rows.push(row);
  }

  table(): void {
    if (this.#rows.length === 0) return;
    report(
      this.#rows.map((row) => ({ ...row })),
      this.#options,
    );
    console.log("");
    this.#rows = [];
  }
}

async function* measureTrace(path: string, chosen: CodecSettings): AsyncGenerator<CodecRow> {
  const trace = traceName(path);
  const { intervalMs: recordedMs } = await readTraceHeader(path);
  const intervals = chosen.intervalsMs.filter((ms) => ms % recordedMs === 0);
  for (const [i, intervalMs] of intervals.entries()) {
    const open = () => readTrace(path, { intervalMs });
    for (const method of methods) {
      if (chosen.methods?.includes(method.name) === false) continue;
      progress(`${trace}, ${intervalMs} ms: ${method.name}`);
      const figures = await measureMethod(method, open, chosen, i === 0);
      yield* rowsOf(figures, trace, intervalMs, i === 0);
    }
    const input = { open, trace, intervalMs, epochsMax: chosen.toolEpochsMax };
    yield* await measureTools(input);
    yield* await measureNative(input);
  }
}

async function measureMethod(
  method: Method,
  open: () => ReturnType<typeof readTrace>,
  chosen: CodecSettings,
  withFirstCopy: boolean,
): Promise<MethodFigures> {
  const { memoryBytes, passCount, epochsBytesMax } = chosen;
  // Every interval has the same first copy: once is enough for those that need not know it.
  const firstCopyBytesMax = withFirstCopy ? chosen.firstCopyBytesMax : 1;
  return await measure(method, open, { memoryBytes, passCount, epochsBytesMax, firstCopyBytesMax });
}

function* rowsOf(
  { method, firstCopy, epochs, memoryBytes }: MethodFigures,
  trace: string,
  intervalMs: number,
  withFirstCopy: boolean,
): Generator<CodecRow> {
  const phases = [
    ["firstCopy", withFirstCopy ? firstCopy : undefined],
    ["epochs", epochs],
  ] as const;
  for (const [phase, figures] of phases) {
    if (figures === undefined) continue;
    yield {
      bench: "codec",
      method,
      kind: "godwit",
      trace,
      intervalMs,
      phase,
      ratio: round(figures.ratio),
      encodeMsPerMb: round(figures.encodeMsPerMb),
      decodeMbPerS: round(figures.decodeMbPerS),
      memoryBytes,
      rawBytes: figures.rawBytes,
    };
  }
}
