/**
 * The heartbeat of an application in a guest, seen from outside: it writes "b 1234" on its console after every few
 * operations, and what counts is when that line arrives here. The guest's own clock stands still while its VM does.
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";

interface Console {
  readonly path: string;
  file: number | undefined;
  inode: number;
  at: number;
  rest: string;
}

interface Beat {
  readonly atMs: number;
  readonly path: string;
}

/** Often enough for milliseconds. */
const lookEveryMs = 2;

export class Heartbeat implements Disposable {
  readonly #consoles: Console[];
  readonly #buffer = Buffer.alloc(65_536);
  readonly #timer: NodeJS.Timeout;
  readonly #beats: Beat[] = [];

  /** Follows the console logs from where they end now; those that are not there yet, from their beginning. */
  constructor(paths: readonly string[]) {
    this.#consoles = paths.map((path) => {
      const { ino = 0, size = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {};
      return { path, file: undefined, inode: ino, at: size, rest: "" };
    });
    this.#timer = setInterval(() => this.#consoles.forEach((one) => this.#look(one)), lookEveryMs);
  }

  get count(): number {
    return this.#beats.length;
  }

  /** The longest silence since the start. `heldMs` is taken from the one at which the application changed consoles. */
  longestGapMs(heldMs: number): number {
    const gaps = this.#beats.slice(1).map((beat, i) => {
      const last = this.#beats[i] as Beat;
      return beat.atMs - last.atMs - (beat.path === last.path ? 0 : heldMs);
    });
    return Math.max(0, ...gaps);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const { file } of this.#consoles) if (file !== undefined) closeSync(file);
  }

  #look(one: Console): void {
    const found = statSync(one.path, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (found.ino !== one.inode) {
      // Another VM's, made anew under the same name.
      if (one.file !== undefined) closeSync(one.file);
      Object.assign(one, { file: undefined, inode: found.ino, at: 0, rest: "" });
    }
    one.file ??= openSync(one.path, "r");
    const length = readSync(one.file, this.#buffer, 0, this.#buffer.length, one.at);
    if (length === 0) return;
    one.at += length;
    const lines = (one.rest + this.#buffer.toString("latin1", 0, length)).split("\n");
    one.rest = lines.pop() ?? "";
    const atMs = performance.now();
    for (const line of lines) {
      if (/^b \d+\r?$/.test(line)) this.#beats.push({ atMs, path: one.path });
    }
  }
}
