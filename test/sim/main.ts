/** `npm run sim -- [SEED] [--seeds N] [--first N]`: see docs/TESTING.md. */
import { parseArgs } from "node:util";
import { Coverage } from "./coverage.ts";
import { World } from "./world.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: "string", default: "10000" },
    first: { type: "string", default: "1" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log("usage: npm run sim -- [SEED] [--seeds N] [--first N]");
} else if (positionals[0] === undefined) {
  process.exitCode = runMany(count("--first", values.first), count("--seeds", values.seeds));
} else {
  process.exitCode = runOne(count("SEED", positionals[0]));
}

function count(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`${name} must be a whole number above 0, not "${text}"`);
  return process.exit(2);
}

function runOne(seed: number): number {
  const world = new World(seed, { trace: true }).run();
  console.log(`seed ${seed}`);
  console.log(`options ${JSON.stringify(world.options)}`);
  const { kind, memoryBytes } = world.guest;
  console.log(`guest ${kind}, ${memoryBytes / 2 ** 20} MiB`);
  for (const fault of world.faults) {
    const { side, phase, delayMs, durationMs } = fault;
    const from = fault.afterPrevious ? "the fault before" : `the ${side} enters ${phase}`;
    const times = `${delayMs.toFixed(3)} ms after ${from}, for ${durationMs.toFixed(0)} ms`;
    console.log(`planned ${fault.kind} ${times}`);
  }
  for (const { atMs, who, text, effects } of world.lines ?? []) {
    const arrow = effects === "" ? "" : `\n${" ".repeat(36)}=> ${effects}`;
    console.log(`${atMs.toFixed(3).padStart(14)} ms  ${who.padEnd(18)} ${text}${arrow}`);
  }
  for (const violation of world.violations) console.log(`VIOLATION ${violation}`);
  return world.violations.length === 0 ? 0 : 1;
}

function runMany(first: number, seedCount: number): number {
  const startMs = performance.now();
  const coverage = new Coverage();
  let failedCount = 0;
  for (let seed = first; seed < first + seedCount; seed++) {
    const world = new World(seed).run();
    coverage.add(world);
    if (world.violations.length === 0) continue;
    failedCount++;
    if (failedCount <= 20) console.log(`seed ${seed}: ${world.violations.join("; ")}`);
  }
  const seconds = (performance.now() - startMs) / 1000;
  console.log(coverage.describe());
  const rate = Math.round(seedCount / seconds);
  console.log(`${seedCount} seeds in ${seconds.toFixed(1)} s (${rate}/s), ${failedCount} failed`);
  for (const cell of coverage.missing()) console.log(`not hit: ${cell}`);
  return failedCount === 0 ? 0 : 1;
}
