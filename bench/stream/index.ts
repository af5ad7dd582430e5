/**
 * How fast one process takes a migration stream: bench/c/stream.c writes a made stream (full and zero pages) to a unix
 * socket, a child process takes it in one of several ways. The cases run by turns, several times; medians are printed.
 *
 * `megabytesPerSecond` is what goes through with the source (and, when it forwards, the discarding reader) on the same
 * cores; `cpuSecondsPerGigabyte` is the one process alone and does not depend on how many cores there are.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { type BenchOptions, median, progress, report } from "../harness.ts";
import { type CaseResult, caseSummaries, nodeCases } from "./cases.ts";

const names = [...nodeCases, "c-memcpy"] as const;
type Name = (typeof names)[number];

export async function run(options: BenchOptions): Promise<void> {
  const megabytes = options.quick ? 300 : 2000;
  const turns = options.quick ? 2 : 7;
  const directory = mkdtempSync(join(tmpdir(), "godwit-bench-"));
  try {
    const program = join(directory, "stream");
    await compile(join(import.meta.dirname, "../c/stream.c"), program);
    const results = new Map<Name, CaseResult[]>(names.map((name) => [name, []]));
    for (let turn = 0; turn < turns; turn++) {
      for (const name of names) {
        progress(`turn ${turn + 1} of ${turns}: ${name}`);
        results.get(name)?.push(await runCase(name, program, directory, megabytes));
      }
    }
    report(summarize(results), options);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function summarize(results: ReadonlyMap<Name, readonly CaseResult[]>) {
  const rate = (name: Name): number =>
    median((results.get(name) ?? []).map(({ bytes, wallMs }) => bytes / wallMs / 1000));
  const cpu = (name: Name): number =>
    median((results.get(name) ?? []).map(({ bytes, cpuMs }) => (cpuMs * 1e6) / bytes));
  return names.map((name) => ({
    case: name,
    megabytesPerSecond: Math.round(rate(name)),
    cpuSecondsPerGigabyte: Number(cpu(name).toFixed(3)),
    ratioToC: Number((rate(name) / rate("c-memcpy")).toFixed(2)),
    runs: results.get(name)?.length ?? 0,
    what: caseSummaries[name],
  }));
}

async function compile(source: string, target: string): Promise<void> {
  await promisify(execFile)("cc", ["-std=gnu11", "-O2", "-Wall", "-Werror", "-o", target, source]);
}

async function runCase(
  name: Name,
  program: string,
  directory: string,
  megabytes: number,
): Promise<CaseResult> {
  const path = join(directory, "in");
  const forwardPath = join(directory, "out");
  const children: ChildProcess[] = [];
  const start = async (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.value !== "ready") throw new Error(`${command} ${args[0]} did not start`);
    return async (): Promise<string> => {
      const line = await lines.next();
      if (line.done === true) throw new Error(`${name}: the process ended without a result`);
      return line.value;
    };
  };
  try {
    if (["forward", "pump", "naive-pipe"].includes(name))
      await start(program, ["discard", forwardPath]);
    const child = join(import.meta.dirname, "child.ts");
    const result =
      name === "c-memcpy"
        ? await start(program, ["copy", path])
        : await start(process.execPath, [child, name, path, forwardPath]);
    const source = spawn(program, ["source", path, String(megabytes)], { stdio: "inherit" });
    children.push(source);
    return JSON.parse(await result()) as CaseResult;
  } finally {
    await Promise.all(children.map(ended));
    rmSync(path, { force: true });
    rmSync(forwardPath, { force: true });
  }
}

/** All end by themselves when the stream does; a run that failed leaves some that do not. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const timer = setTimeout(() => child.kill("SIGKILL"), 2000);
  await once(child, "exit");
  clearTimeout(timer);
}
