/** A migration as a line of JSON, and back: what was measured in parts, over hours, can be judged as one. */
import { GodwitError } from "../../src/base/index.ts";
import type { Measured } from "../migrate/case.ts";
import { printedFigures, rounded } from "../migrate/stage.ts";
import type { Run } from "./summary.ts";

export interface Whole extends Run, Omit<Measured, keyof Run> {}

export const benchName = "compress";

/** Null stands for undefined. */
export function lineOf(done: Whole, constants: object): object {
  const { own, moments: _, compression, ...rest } = done;
  const { assist: _assist, roundDetails: _rounds, ...words } = own ?? {};
  const codec = {
    codec: compression?.codec ?? "none",
    ratio: rest.ratio ?? null,
    encodeMs: rounded(rest.encodeMs),
    codecMemoryBytes: compression?.memoryBytes,
    hitShare: compression?.hitShare,
    methods: compression?.methods,
  };
  const godwits = done.case.startsWith("godwit-") ? codec : {};
  const figures = printedFigures(done);
  return { bench: benchName, ...rest, ...figures, ...godwits, ...words, ...constants };
}

export interface Results {
  readonly runs: Run[];
  /** Migrations that broke off, and why. */
  readonly failures: string[];
}

export interface Names {
  readonly workload: string;
  readonly link: number;
  readonly case: string;
  readonly run: number;
}

export function failureText({ workload, link, case: name }: Names, error: string): string {
  return `${workload} ${link} Mbit/s ${name}: ${error}`;
}

/** All migrations in the output of this bench with --json; its other lines are passed over. Throws CONFIG_INVALID. */
export function resultsIn(text: string): Results {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const results: Results = { runs: [], failures: [] };
  for (const fields of lines.map(fieldsOf)) {
    if (fields["bench"] !== benchName) continue;
    const row = new Row(fields);
    const error = row.text("error");
    if (error === undefined) results.runs.push(runOf(row));
    else results.failures.push(failureText(namesOf(row), error));
  }
  return results;
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(line: string): Fields {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value as Fields;
  } catch {
    // Said below.
  }
  throw invalid(`no line of this bench's output: ${line.slice(0, 80)}`);
}

/** Fields by type; undefined where there is none. */
class Row {
  readonly #fields: Fields;

  constructor(fields: Fields) {
    this.#fields = fields;
  }

  text(key: string): string | undefined {
    const value = this.#fields[key] ?? undefined;
    if (value === undefined || typeof value === "string") return value;
    throw invalid(`${key} is no text: ${JSON.stringify(value)}`);
  }

  number(key: string): number | undefined {
    const value = this.#fields[key] ?? undefined;
    if (value === undefined || typeof value === "number") return value;
    throw invalid(`${key} is no number: ${JSON.stringify(value)}`);
  }

  flag(key: string): boolean | undefined {
    const value = this.#fields[key] ?? undefined;
    if (value === undefined || typeof value === "boolean") return value;
    throw invalid(`${key} is neither true nor false: ${JSON.stringify(value)}`);
  }
}

function runOf(row: Row): Run {
  return {
    ...namesOf(row),
    finished: needed("finished", row.flag("finished")),
    totalMs: row.number("totalMs"),
    downtimeMs: row.number("downtimeMs"),
    wireBytes: needed("wireBytes", row.number("wireBytes")),
    verified: row.flag("verified"),
    ratio: row.number("ratio"),
    encodeMs: row.number("encodeMs"),
  };
}

function namesOf(row: Row): Names {
  return {
    workload: needed("workload", row.text("workload")),
    link: needed("link", row.number("link")),
    case: needed("case", row.text("case")),
    run: needed("run", row.number("run")),
  };
}

function needed<T>(key: string, value: T | undefined): T {
  if (value === undefined) throw invalid(`a migration without ${key}`);
  return value;
}

function invalid(problem: string): GodwitError {
  return new GodwitError("CONFIG_INVALID", problem);
}
