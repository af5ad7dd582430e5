/**
 * Reads consoles as they grow and notes when each beat ("b 1234") arrived, by one clock for all of them. In a process of
 * its own with a raised priority, so that nothing else that the bench does delays it; looks about 800 times a second.
 */
import { openSync, readSync } from "node:fs";
import { setPriority } from "node:os";

/** Time in ms since 1970 with fractions, and operations done by then. */
export type Beat = readonly [wallMs: number, operations: number];
export type ToReader = { readonly follow: string } | { readonly collect: true };

interface Console {
  readonly path: string;
  file: number | undefined;
  rest: string;
}

const consoles: Console[] = [];
const buffer = Buffer.alloc(65_536);
let beats: Beat[] = [];

function open(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined; // Not there yet.
  }
}

function look(): void {
  for (const one of consoles) {
    one.file ??= open(one.path);
    if (one.file === undefined) continue;
    const length = readSync(one.file, buffer);
    if (length > 0) note(one, buffer.toString("latin1", 0, length));
  }
  setTimeout(look, 1);
}

/** A line that a migration tears in two belongs to no console and is not counted. */
function note(one: Console, text: string): void {
  const wallMs = performance.timeOrigin + performance.now();
  const lines = (one.rest + text).split("\n");
  one.rest = lines.pop() ?? "";
  for (const line of lines) {
    const found = /^b (\d+)\r?$/.exec(line);
    if (found !== null) beats.push([wallMs, Number(found[1])]);
  }
}

try {
  setPriority(-15);
} catch {
  // Without the right to: a little later, then.
}
process.on("message", (message: ToReader) => {
  if ("follow" in message) consoles.push({ path: message.follow, file: undefined, rest: "" });
  else {
    process.send?.(beats);
    beats = [];
  }
});
process.on("disconnect", () => process.exit());
look();
