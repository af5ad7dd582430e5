/**
 * Command-line compressors on the same records, for comparison: one file an epoch, as a whole, without batches and without
 * memory of earlier epochs; those that take a reference get the previous version of the same pages, in the same order (zeros
 * where there is none). CPU time is user and system time of all epochs' processes, less that of as many on empty files.
 */
import { execFile } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { OpenTrace } from "../../src/advise/index.ts";
import { progress } from "../harness.ts";
import { atExit } from "../at-exit.ts";
import { recordPairs } from "./previous.ts";
import { type CodecRow, round } from "./rows.ts";

interface Tool {
  readonly name: string;
  readonly command: string;
  /** Shell words: $f is the epoch, $p the previous version of its pages, $o what is written. */
  readonly encode: string;
  readonly decode: string;
}

const tools: readonly Tool[] = [
  { name: "gzip -1", command: "gzip", encode: "gzip -1 <$f >$o", decode: "gzip -d <$o" },
  { name: "gzip -6", command: "gzip", encode: "gzip -6 <$f >$o", decode: "gzip -d <$o" },
  { name: "zstd -1", command: "zstd", encode: "zstd -1 -q <$f >$o", decode: "zstd -d -q <$o" },
  { name: "zstd -3", command: "zstd", encode: "zstd -3 -q <$f >$o", decode: "zstd -d -q <$o" },
  { name: "lz4 -1", command: "lz4", encode: "lz4 -1 -q <$f >$o", decode: "lz4 -d -q <$o" },
  {
    name: "zstd -1 --patch-from",
    command: "zstd",
    encode: "zstd -1 -q -f --patch-from=$p $f -o $o",
    decode: "zstd -d -q -c --patch-from=$p $o",
  },
  {
    name: "xdelta3 -1",
    command: "xdelta3",
    encode: "xdelta3 -e -f -1 -s $p $f $o",
    decode: "xdelta3 -d -c -s $p $o",
  },
];

const run = promisify(execFile);

export interface ToolInput {
  readonly open: OpenTrace;
  readonly trace: string;
  readonly intervalMs: number;
  readonly epochsMax: number;
}

/** Those that are installed; the others are passed over. */
export async function measureTools(input: ToolInput): Promise<CodecRow[]> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-bench-"));
  const forget = atExit(() => rmSync(folder, { recursive: true, force: true }));
  try {
    const rawBytes = await writeEpochs(input, folder);
    if (rawBytes === 0) return [];
    const rows: CodecRow[] = [];
    for (const tool of tools) {
      if (!(await isInstalled(tool.command))) continue;
      progress(`${input.trace}, ${input.intervalMs} ms: ${tool.name} (command)`);
      rows.push(await measureTool(tool, input, folder, rawBytes));
    }
    return rows;
  } finally {
    forget();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function isInstalled(command: string): Promise<boolean> {
  return await run("sh", ["-c", `command -v ${command}`]).then(
    () => true,
    () => false,
  );
}

async function measureTool(
  { name, encode, decode }: Tool,
  { trace, intervalMs }: ToolInput,
  folder: string,
  rawBytes: number,
): Promise<CodecRow> {
  const onEpochs = (command: string) => cpuMs(command, join(folder, "epochs"));
  const onNothing = (command: string) => cpuMs(command, join(folder, "empty"));
  const encodeMs = (await onEpochs(encode)) - (await onNothing(encode));
  const decodeMs =
    (await onEpochs(`${decode} >/dev/null`)) - (await onNothing(`${decode} >/dev/null`));
  await onEpochs(`${decode} | cmp -s - $f`);
  const encodedBytes = sizesOf(join(folder, "epochs"), ".out");
  const mb = rawBytes / 1e6;
  return {
    bench: "codec",
    method: name,
    kind: "tool",
    trace,
    intervalMs,
    phase: "epochs",
    ratio: round(rawBytes / encodedBytes),
    encodeMsPerMb: round(Math.max(0, encodeMs) / mb),
    // Less than the clock can tell: then it says nothing.
    decodeMbPerS: decodeMs < 5 ? 0 : round(mb / (decodeMs / 1000)),
    memoryBytes: -1,
    rawBytes,
  };
}

/** Of the command on all files of a folder, in a shell of its own; fails when it fails on one. */
async function cpuMs(command: string, folder: string): Promise<number> {
  const script = `set -e -o pipefail; cd ${folder}; TIMEFORMAT="%U %S"; time for f in *.raw; do p=\${f%.raw}.prev; o=\${f%.raw}.out; ${command}; done`;
  const { stderr } = await run("bash", ["-c", script]);
  const [user, system] = (stderr.trim().split("\n").at(-1) ?? "").split(" ").map(Number);
  return ((user ?? 0) + (system ?? 0)) * 1000;
}

function sizesOf(folder: string, ending: string): number {
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** `epochs/N.raw`, `epochs/N.prev`, and the same names, nearly empty, in `empty`. Answers the bytes of the records. */
async function writeEpochs({ open, epochsMax }: ToolInput, folder: string): Promise<number> {
  mkdirSync(join(folder, "epochs"));
  mkdirSync(join(folder, "empty"));
  let rawBytes = 0;
  for await (const pairs of recordPairs(open, epochsMax)) {
    const name = String(pairs[0]?.epoch ?? 0).padStart(6, "0");
    const now = Buffer.concat(pairs.map((pair) => pair.now));
    rawBytes += now.length;
    appendFileSync(join(folder, "epochs", `${name}.raw`), now);
    appendFileSync(
      join(folder, "epochs", `${name}.prev`),
      Buffer.concat(pairs.map((pair) => pair.before)),
    );
    for (const ending of ["raw", "prev"]) {
      writeFileSync(join(folder, "empty", `${name}.${ending}`), "a small file");
    }
  }
  return rawBytes;
}
