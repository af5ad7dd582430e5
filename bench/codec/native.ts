/** The limit of the machine: the differences alone, in C (bench/c/codec.c). */
import { execFile } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { atExit } from "../at-exit.ts";
import { progress } from "../harness.ts";
import { recordPairs } from "./previous.ts";
import { type CodecRow, round } from "./rows.ts";
import type { ToolInput } from "./tools.ts";

const run = promisify(execFile);
const source = join(import.meta.dirname, "../c/codec.c");
const passes = 7;

/** Empty where there is no C compiler. */
export async function measureNative(input: ToolInput): Promise<CodecRow[]> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-bench-"));
  const forget = atExit(() => rmSync(folder, { recursive: true, force: true }));
  try {
    const program = join(folder, "codec");
    const args = ["-std=gnu11", "-O3", "-march=native", "-Wall", "-Werror", "-o", program, source];
    const isThere = await run("sh", ["-c", "command -v cc"]).catch(() => undefined);
    if (isThere === undefined) return [];
    await run("cc", args);
    progress(`${input.trace}, ${input.intervalMs} ms: word differences in C`);
    return [await measureProgram(program, join(folder, "pairs"), input)];
  } finally {
    forget();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measureProgram(
  program: string,
  path: string,
  { open, trace, intervalMs, epochsMax }: ToolInput,
): Promise<CodecRow> {
  appendFileSync(path, "");
  for await (const pairs of recordPairs(open, epochsMax)) {
    const pages = pairs.flatMap(({ before, now }) => [pageOf(before), pageOf(now)]);
    appendFileSync(path, Buffer.concat(pages));
  }
  const { stdout } = await run(program, [path, String(passes)]);
  const { rawBytes, encodedBytes, encodeMs, decodeMs } = JSON.parse(stdout) as Record<
    "rawBytes" | "encodedBytes" | "encodeMs" | "decodeMs",
    number
  >;
  const mb = rawBytes / 1e6;
  return {
    bench: "codec",
    method: "word differences in C",
    kind: "native",
    trace,
    intervalMs,
    phase: "epochs",
    ratio: round(rawBytes / encodedBytes),
    encodeMsPerMb: round(encodeMs / mb),
    decodeMbPerS: round(mb / (decodeMs / 1000)),
    memoryBytes: -1,
    rawBytes,
  };
}

/** A zero record's page is all zeros. */
function pageOf(record: Buffer): Buffer {
  return record.length > 4096 ? record.subarray(8) : Buffer.alloc(4096);
}
