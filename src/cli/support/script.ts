/** Programs of godwit that are none of the command line's business: run as they are, in a process of their own. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { GodwitError } from "../../base/index.ts";
import { SilentFailure } from "./errors.ts";

const root = join(import.meta.dirname, "../../..");

export interface ScriptOptions {
  /** Collect standard output instead of showing it. */
  readonly capture?: boolean;
  /** Called with each line of standard output, which is then neither shown nor collected. */
  readonly line?: (text: string) => void;
}

/** Runs `script` (relative to the project) to its end; answers what was captured. Its failure is ours, said already by it. */
export async function runScript(
  script: string,
  args: readonly string[],
  { capture = false, line }: ScriptOptions = {},
): Promise<string> {
  const path = join(root, script);
  if (!existsSync(path)) throw new GodwitError("NOT_FOUND", `${path} is missing in this copy`);
  const child = spawn(process.execPath, [path, ...args], {
    stdio: ["inherit", capture || line !== undefined ? "pipe" : "inherit", "inherit"],
  });
  const chunks: Uint8Array[] = [];
  if (line !== undefined && child.stdout !== null) {
    createInterface({ input: child.stdout }).on("line", line);
  } else child.stdout?.on("data", (chunk: Uint8Array) => chunks.push(chunk));
  // The terminal sends Ctrl-C to both; the child decides.
  const ignore = (): void => {};
  process.on("SIGINT", ignore);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    if (code !== 0) throw new SilentFailure();
  } finally {
    process.off("SIGINT", ignore);
  }
  return Buffer.concat(chunks).toString("utf8");
}
