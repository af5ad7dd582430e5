/** Where progress goes: one block that is drawn over and over on a terminal, plain lines elsewhere. On standard error. */
import type { Migration } from "../../api/index.ts";
import { progressBlock, progressLine } from "./progress.ts";

export interface Screen {
  progress(migration: Migration): void;
  /** A line that stays. */
  line(text: string): void;
  /** Removes what is only progress. */
  clear(): void;
}

type Output = Pick<NodeJS.WriteStream, "write" | "isTTY" | "columns">;

export function createScreen(output: Output, nowMs: () => number): Screen {
  return output.isTTY ? new Terminal(output) : new Plain(output, nowMs);
}

class Terminal implements Screen {
  readonly #output: Output;
  /** What is drawn now, below everything else. */
  #block: readonly string[] = [];

  constructor(output: Output) {
    this.#output = output;
  }

  progress(migration: Migration): void {
    // Some terminals say that they have 0 columns.
    const width = Math.max(40, (this.#output.columns || 80) - 1);
    this.#draw("", progressBlock(migration, width));
  }

  line(text: string): void {
    this.#draw(`${text}\n`, this.#block);
  }

  clear(): void {
    this.#draw("", []);
  }

  #draw(above: string, block: readonly string[]): void {
    const lines = block.map((line) => `${line}\n`).join("");
    this.#output.write(`${this.#erase()}${above}${lines}`);
    this.#block = block;
  }

  /** Cursor up to the block's first line, then everything below is cleared. */
  #erase(): string {
    return this.#block.length === 0 ? "" : `\x1b[${this.#block.length}A\x1b[0J`;
  }
}

/** A line a second is enough for a log. */
const lineEveryMs = 1_000;

class Plain implements Screen {
  readonly #output: Output;
  readonly #nowMs: () => number;
  #lastMs = Number.NEGATIVE_INFINITY;
  #lastPhase: string | undefined;

  constructor(output: Output, nowMs: () => number) {
    this.#output = output;
    this.#nowMs = nowMs;
  }

  progress(migration: Migration): void {
    const now = this.#nowMs();
    const phase = `${migration.progress?.phase} ${migration.progress?.round}`;
    if (phase === this.#lastPhase && now - this.#lastMs < lineEveryMs) return;
    this.#lastMs = now;
    this.#lastPhase = phase;
    this.#output.write(`${progressLine(migration)}\n`);
  }

  line(text: string): void {
    this.#output.write(`${text}\n`);
  }

  clear(): void {}
}
