/** Shares of a largest value as bars, for pictures in a terminal. */

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** `share` of `width` columns, to an eighth of a column; anything above nothing shows. */
export function solidBar(share: number, width: number): string {
  const parts = Math.max(share > 0 ? 1 : 0, Math.round(Math.min(1, share) * width * 8));
  return "█".repeat(parts >> 3) + (eighths[parts & 7] ?? "");
}

export interface Bar {
  readonly name: string;
  /** Undefined: there is none, and `text` says why. */
  readonly value: number | undefined;
  readonly text: string;
}

/** One line each, the longest bar being `width` columns. */
export function bars(rows: readonly Bar[], width = 40): string {
  const largest = Math.max(...rows.map(({ value }) => value ?? 0), Number.MIN_VALUE);
  const names = Math.max(...rows.map(({ name }) => name.length));
  return rows
    .map(({ name, value, text }) => {
      const drawn = value === undefined ? "" : solidBar(value / largest, width);
      return `  ${name.padEnd(names)}  ${drawn}${drawn === "" ? "" : " "}${text}`;
    })
    .join("\n");
}
