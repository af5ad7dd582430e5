/** What all benches share: their shape, medians, and how results are shown. */

export interface BenchOptions {
  /** Small and short: shows that the bench works, not what the machine can do. */
  readonly quick: boolean;
  /** One JSON object a line on standard output instead of a table. */
  readonly json: boolean;
}

export interface Bench {
  run(options: BenchOptions): Promise<void>;
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** The same items, beginning with another one: what runs by turns should not always run in the same place. */
export function rotated<T>(items: readonly T[], by: number): readonly T[] {
  const at = by % Math.max(1, items.length);
  return [...items.slice(at), ...items.slice(0, at)];
}

export type Row = Readonly<Record<string, string | number>>;

/** Results as a table with right-aligned numbers, or as JSON lines. All rows have the keys of the first. */
export function report(rows: readonly Row[], options: BenchOptions): void {
  if (options.json) {
    for (const row of rows) console.log(JSON.stringify(row));
    return;
  }
  const keys = Object.keys(rows[0] ?? {});
  const widths = keys.map((key) =>
    Math.max(key.length, ...rows.map((row) => text(row[key]).length)),
  );
  const print = (cells: readonly string[]): void => {
    const padded = cells.map((cell, i) =>
      typeof rows[0]?.[keys[i] ?? ""] === "number"
        ? cell.padStart(widths[i] ?? 0)
        : cell.padEnd(widths[i] ?? 0),
    );
    console.log(padded.join("  ").trimEnd());
  };
  print(keys);
  for (const row of rows) print(keys.map((key) => text(row[key])));
}

/** Progress of a long bench: on standard error and only on a terminal, so that it never mixes with results. */
export function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${line}\n`);
}

function text(value: string | number | undefined): string {
  return typeof value === "number" ? value.toLocaleString("en-US") : (value ?? "");
}
