/** The tables of docs/GUIDELINES.md from the bench's rows. Pure: a document and rows go in, a document comes out. */
import { methods, recommend } from "../../src/advise/index.ts";
import type { AnyRow, ClusterRow, CodecRow, SummaryRow } from "./rows.ts";
import { heldOut, intervalsMs, judgedIntervalMs, tunedOn } from "./settings.ts";

interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** By the name in their marker: `<!-- codec:NAME -->`, up to `<!-- end -->`. */
const tables: Readonly<Record<string, (rows: Rows) => Table>> = {
  traces: traceTable,
  promises: promiseTable,
  epochs: (rows) => methodTable(rows, "epochs"),
  "first-copy": (rows) => methodTable(rows, "firstCopy"),
  intervals: intervalTable,
  cost: costTable,
  tools: toolTable,
  cluster: clusterTable,
  choice: choiceTable,
};

export const notMeasured = "not yet measured";

/** Replaces what is between the markers. Fails at a marker for which there is no table. */
export function fill(document: string, all: readonly AnyRow[]): string {
  const rows = new Rows(all);
  return document.replaceAll(
    /(<!-- codec:([\w-]+) -->\n)[^]*?(<!-- end -->)/g,
    (_, begin: string, name: string, end: string) => {
      const make = tables[name];
      if (make === undefined) throw new Error(`there is no table named ${name}`);
      return `${begin}${markdown(make(rows))}\n${end}`;
    },
  );
}

class Rows {
  readonly codec: readonly CodecRow[];
  readonly summary: readonly SummaryRow[];
  readonly cluster: readonly ClusterRow[];
  /** In the order in which they were measured. */
  readonly traces: readonly string[];

  constructor(rows: readonly AnyRow[]) {
    this.codec = rows.filter((row) => row.bench === "codec");
    this.summary = rows.filter((row) => row.bench === "codec-summary");
    this.cluster = rows.filter((row) => row.bench === "codec-cluster");
    this.traces = [...new Set(this.codec.map(({ trace }) => trace))];
  }

  /** Of our own methods. */
  of(want: Partial<CodecRow>): CodecRow[] {
    return this.codec.filter((row) =>
      Object.entries({ kind: "godwit", ...want }).every(
        ([key, value]) => row[key as keyof CodecRow] === value,
      ),
    );
  }

  get methodNames(): string[] {
    const measured = new Set(this.of({}).map(({ method }) => method));
    return methods.map(({ name }) => name).filter((name) => measured.has(name));
  }
}

function markdown({ head, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const body = rows.length > 0 ? rows : [[notMeasured, ...head.slice(1).map(() => "")]];
  return [line(head), line(head.map(() => "---")), ...body.map(line)].join("\n");
}

function traceTable(rows: Rows): Table {
  const epochs = (trace: string) =>
    rows.of({ trace, method: "none", phase: "epochs", intervalMs: judgedIntervalMs })[0];
  return {
    head: ["trace", "codecs' settings", `pages of all epochs at ${judgedIntervalMs} ms`],
    rows: rows.traces.map((trace) => {
      const bytes = epochs(trace)?.rawBytes;
      const isJudged = heldOut(rows.traces).includes(trace);
      const use = tunedOn.includes(trace)
        ? "tuned on it"
        : isJudged
          ? "held out"
          : "another speaks for it";
      return [trace, use, bytes === undefined ? "" : `${number(bytes / 1e6)} MB`];
    }),
  };
}

function promiseTable({ summary }: Rows): Table {
  return {
    head: ["what", "trace", "wanted", "measured", ""],
    rows: summary.map(({ what, trace, wanted, value, verdict }) => [
      what,
      trace,
      wanted.replaceAll(">=", "≥").replaceAll("<=", "≤"),
      number(value),
      verdict,
    ]),
  };
}

/** Ratio and CPU time, a row for each method, a column for each trace, the mean of those held out. */
function methodTable(rows: Rows, phase: CodecRow["phase"]): Table {
  const at = (method: string, trace: string) =>
    rows.of({ method, trace, phase }).find(
      // The first copy is the same at each interval, and measured at one.
      ({ intervalMs }) => phase === "firstCopy" || intervalMs === judgedIntervalMs,
    );
  return {
    head: ["method", ...rows.traces, "mean of those held out"],
    rows: rows.methodNames.map((method) => [
      method,
      ...rows.traces.map((trace) => pair(at(method, trace))),
      pair(meanOf(heldOut(rows.traces).map((trace) => at(method, trace)))),
    ]),
  };
}

type Pair = Pick<CodecRow, "ratio" | "encodeMsPerMb">;

function pair(row: Pair | undefined): string {
  return row === undefined ? "" : `${number(row.ratio)} / ${number(row.encodeMsPerMb)}`;
}

/** Undefined unless all are there: a mean of fewer would be of other traces. */
function meanOf(rows: readonly (Pair | undefined)[]): Pair | undefined {
  const all = rows.filter((row) => row !== undefined);
  if (all.length === 0 || all.length < rows.length) return undefined;
  const mean = (key: keyof Pair) => all.reduce((sum, row) => sum + row[key], 0) / all.length;
  return { ratio: mean("ratio"), encodeMsPerMb: mean("encodeMsPerMb") };
}

function intervalTable(rows: Rows): Table {
  const intervals = intervalsMs.toSorted((a, b) => a - b);
  const shown = ["zstd-1", "lz4", "hybrid+lz4", "hybrid+zstd-1"];
  return {
    head: ["trace", "method", ...intervals.map((ms) => `${ms} ms`)],
    rows: rows.traces.flatMap((trace) =>
      shown
        .filter((method) => rows.methodNames.includes(method))
        .map((method) => [
          trace,
          method,
          ...intervals.map((intervalMs) =>
            pair(rows.of({ trace, method, intervalMs, phase: "epochs" })[0]),
          ),
        ]),
    ),
  };
}

/** What the destination has to do, and what both sides keep: the worst of all traces. */
function costTable(rows: Rows): Table {
  return {
    head: ["method", "decoding, MB/s (least)", "memory of the encoder (most)"],
    rows: rows.methodNames.map((method) => {
      const all = rows.of({ method, phase: "epochs", intervalMs: judgedIntervalMs });
      const decode = Math.min(...all.map(({ decodeMbPerS }) => decodeMbPerS));
      const memory = Math.max(...all.map(({ memoryBytes }) => memoryBytes));
      return [method, number(decode), `${number(memory / 2 ** 20)} MiB`];
    }),
  };
}

function toolTable(rows: Rows): Table {
  const others = rows.codec.filter(
    ({ kind, intervalMs }) => kind !== "godwit" && intervalMs === judgedIntervalMs,
  );
  const names = [...new Set(others.map(({ method }) => method))];
  return {
    head: ["command", ...rows.traces],
    rows: names.map((method) => [
      method,
      ...rows.traces.map((trace) =>
        pair(others.find((row) => row.method === method && row.trace === trace)),
      ),
    ]),
  };
}

function clusterTable({ cluster }: Rows): Table {
  return {
    head: ["method", "sink", "first copy", `epochs of ${judgedIntervalMs} ms`, "memory"],
    rows: cluster
      .filter(({ phase }) => phase === "epochs")
      .map((row) => {
        const first = cluster.find(
          ({ method, sharing, phase }) =>
            phase === "firstCopy" && method === row.method && sharing === row.sharing,
        );
        const memory = `${number(row.memoryBytes / 2 ** 20)} MiB`;
        return [row.method, row.sharing, pair(first), pair(row), memory];
      }),
  };
}

const mbit = 125_000;
const situations = [
  { linkBytesPerSecond: 100 * mbit, cpuShare: 0.2 },
  { linkBytesPerSecond: 1000 * mbit, cpuShare: 0.2 },
  { linkBytesPerSecond: 1000 * mbit, cpuShare: 1 },
  { linkBytesPerSecond: 10_000 * mbit, cpuShare: 0.2 },
  { linkBytesPerSecond: 10_000 * mbit, cpuShare: 1 },
] as const;
const memories = [
  { name: "memory for the whole VM", memoryBytes: Number.POSITIVE_INFINITY },
  { name: "8 MiB", memoryBytes: 8 * 2 ** 20 },
];

/** What `godwit advise` would say. */
function choiceTable(rows: Rows): Table {
  const head = situations.map(
    ({ linkBytesPerSecond, cpuShare }) =>
      `${linkBytesPerSecond / mbit} Mbit/s, ${cpuShare * 100} % CPU`,
  );
  return {
    head: ["trace", "memory", ...head],
    rows: rows.traces.flatMap((trace) => {
      const candidates = rows.of({ trace, phase: "epochs", intervalMs: judgedIntervalMs });
      if (candidates.length === 0) return [];
      return memories.map(({ name, memoryBytes }) => [
        trace,
        name,
        ...situations.map(
          (situation) => recommend(candidates, { ...situation, memoryBytes }, 0).method ?? "none",
        ),
      ]);
    }),
  };
}

/** Three digits that say something. */
function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(value < 0.1 ? 2 : 3)));
}
