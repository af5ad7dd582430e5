/** npm run fuzz -- [NAME] [--seconds N] [--seed S]: fuzzes one target, or all in turn. Exit code 1 when a case failed. */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type FuzzTarget, fuzz } from "./engine.ts";
import { targets } from "./targets.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "10" },
    seed: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});
const names = targets.map((target) => target.name);
const chosen = positionals.length === 0 ? targets : targets.filter(isChosen);
const seconds = Number(values.seconds);
// Chance enters here and nowhere else; the seed is printed.
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);

if (values.help) {
  console.log(
    `usage: npm run fuzz -- [NAME] [--seconds N] [--seed S]\n\ntargets: ${names.join(" ")}`,
  );
} else if (chosen.length < Math.max(1, positionals.length) || !(seconds >= 0) || !(seed >= 0)) {
  console.error(`fuzz: the targets are ${names.join(", ")}; --seconds and --seed are numbers`);
  process.exitCode = 2;
} else {
  for (const target of chosen) runTarget(target);
}

function isChosen(target: FuzzTarget): boolean {
  return positionals.includes(target.name);
}

function runTarget(target: FuzzTarget): void {
  const { caseCount, refusedCount, failure } = fuzz(target, { seed, seconds });
  console.log(`${target.name}: ${caseCount} cases, ${refusedCount} refused, seed ${seed}`);
  if (failure === undefined) return;
  const directory = join(tmpdir(), "godwit-fuzz");
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${target.name}-${failure.seed}.bin`);
  writeFileSync(file, failure.input);
  console.error(`${target.name}: FAILED: ${failure.reason}`);
  if (failure.error instanceof Error) console.error(failure.error.stack);
  console.error(`input: ${file}`);
  console.error(`replay: npm run fuzz -- ${target.name} --seconds 0 --seed ${failure.seed}`);
  process.exitCode = 1;
}
