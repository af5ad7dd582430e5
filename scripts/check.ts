/** Types, lint and format: everything that can be said about the code without running it. Prints only what is wrong. */
import { spawnSync } from "node:child_process";

const steps: readonly { name: string; command: string[] }[] = [
  { name: "types", command: ["tsc", "-p", "."] },
  { name: "lint", command: ["oxlint", "--type-aware", "--quiet", "--deny-warnings"] },
  { name: "format", command: ["biome", "format", "."] },
];

/** Answers whether all is well. */
export function check(): boolean {
  let good = true;
  for (const { name, command } of steps) {
    const startMs = performance.now();
    const [program = "", ...args] = command;
    const result = spawnSync(`node_modules/.bin/${program}`, args, { encoding: "utf8" });
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    if (result.status === 0) console.log(`check ${name}: ok (${seconds} s)`);
    else {
      good = false;
      console.log(`check ${name}: failed\n${result.stdout}${result.stderr}`);
    }
  }
  return good;
}

if (import.meta.main) process.exitCode = check() ? 0 : 1;
