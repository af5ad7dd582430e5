/**
 * `npm test`: check, then the unit tests (side by side), then those with real QEMUs: one file at a time, so that guests have
 * the machine to themselves; but those two at a time in which what happens is looked at, and not how fast.
 *
 *   npm test -- [--only check|unit|e2e] [PATTERN …]      PATTERN: part of a file's path
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { check } from "./check.ts";

/** They mostly wait: for a guest to boot, for a fault to be noticed, for ticks of a guest. The longest first. */
const patient = [
  "assist-faults",
  "assist-victims",
  "trace",
  "by-hand",
  "daemon",
  "advise",
  "assist-libraries",
  "trace-daemon",
  "refused",
  "assist-examples",
].map((name) => `test/e2e/${name}.test.ts`);

interface Group {
  readonly name: string;
  readonly files: readonly string[];
  /** All but these. */
  readonly besides?: readonly string[];
  /** Files at a time. */
  readonly concurrency: number;
  readonly timeoutMs: number;
}

const groups: readonly Group[] = [
  {
    name: "unit",
    files: [
      "src/**/*.test.ts",
      "bench/**/*.test.ts",
      "test/{tidy,sim,fuzz,golden,conformance}/**/*.test.ts",
    ],
    concurrency: 2,
    timeoutMs: 300_000,
  },
  {
    name: "e2e",
    files: ["test/e2e/**/*.test.ts", "test/soak/**/*.test.ts"],
    besides: patient,
    concurrency: 1,
    timeoutMs: 900_000,
  },
  { name: "e2e", files: patient, concurrency: 2, timeoutMs: 900_000 },
];

function run(name: string, files: string[], concurrency: number, timeoutMs: number): boolean {
  if (files.length === 0) return true;
  console.log(`\n${name}: ${files.length} files`);
  const startMs = performance.now();
  const options = [`--test-concurrency=${concurrency}`, `--test-timeout=${timeoutMs}`];
  const reporter = process.env["CI"] === undefined && process.stdout.isTTY ? "spec" : "dot";
  const reporters = [`--test-reporter=${reporter}`, "--test-reporter-destination=stdout"];
  const summary = [
    "--test-reporter=./scripts/test-summary.ts",
    "--test-reporter-destination=stdout",
  ];
  const args = ["--test", ...options, ...reporters, ...summary, ...files];
  const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
  console.log(`${name}: ${status === 0 ? "ok" : "failed"} (${seconds(startMs)} s)`);
  return status === 0;
}

function seconds(startMs: number): string {
  return ((performance.now() - startMs) / 1000).toFixed(0);
}

function main(): boolean {
  const words = process.argv.slice(2);
  const at = words.indexOf("--only");
  const only = at < 0 ? undefined : words.splice(at, 2)[1];
  const startMs = performance.now();
  let good = true;
  if (words.length === 0 && (only ?? "check") === "check") good = check();
  for (const { name, files, besides = [], concurrency, timeoutMs } of groups) {
    if (only !== undefined && only !== name) continue;
    const found = files.flatMap((pattern) => globSync(pattern).toSorted());
    const wanted = found.filter(
      (file) => !besides.includes(file) && words.every((word) => file.includes(word)),
    );
    if (!run(name, wanted, concurrency, timeoutMs)) good = false;
  }
  console.log(`\nall: ${good ? "ok" : "FAILED"} (${seconds(startMs)} s)`);
  return good;
}

process.exitCode = main() ? 0 : 1;
