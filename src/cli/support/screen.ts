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
  #height = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  progress(migration: Migration): void {
    const lines = progressBlock(migration, Math.max(20, (this.#output.columns ?? 80) - 1));
    this.#output.write(`${this.#erase()}${lines.join("\n")}\n`);
    this.#height = lines.length;
  }

  line(text: string): void {
    this.#output.write(`${this.#erase()}${text}\n`);
    this.#height = 0;
  }

  clear(): void {
    this.#output.write(this.#erase());
    this.#height = 0;
  }

  /** Cursor up to the block's first line, then everything below is cleared. */
  #erase(): string {
    return this.#height === 0 ? "" : `\x1b[${this.#height}A\x1b[0J`;
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
