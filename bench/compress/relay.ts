/** What a program between two QEMUs has to do to compress, and nothing else, in C (bench/c/relay.c): one of it in each end of the link. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { GodwitError } from "../../src/base/index.ts";
import { systemClock, withDeadline } from "../../src/io/index.ts";
import { atExit } from "../at-exit.ts";
import type { Stage } from "../migrate/case.ts";
import type { Between } from "../migrate/qemu-case.ts";
import type { Side } from "../netns.ts";

const source = join(import.meta.dirname, "../c/relay.c");
const port = 4445;
const readyMsMax = 10_000;

/** Fails with IO where it cannot be compiled. */
export async function relayed(stage: Stage): Promise<Between> {
  const { directory, link } = stage;
  const program = join(directory, "relay");
  await compile(program);
  const children: ChildProcess[] = [];
  const kill = (): void => children.forEach((child) => void child.kill("SIGKILL"));
  const forget = atExit(kill);
  const between = {
    sourceUri: `unix:${join(directory, "relay-a")}`,
    destinationUri: `unix:${join(directory, "relay-b")}`,
    [Symbol.dispose]: () => {
      kill();
      forget();
    },
  };
  const start = async (side: Side, args: readonly string[]): Promise<void> => {
    const [command, words] = link.inside(side, program, args);
    const child = spawn(command, words, { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    await ready(child);
  };
  const host = link.address("b");
  try {
    await start("b", ["decompress", host, String(port), join(directory, "relay-b")]);
    await start("a", ["compress", join(directory, "relay-a"), host, String(port)]);
    return between;
  } catch (error) {
    between[Symbol.dispose]();
    throw error;
  }
}

async function compile(program: string): Promise<void> {
  const flags = ["-std=gnu11", "-O3", "-march=native", "-Wall", "-Wextra", "-Werror"];
  try {
    await promisify(execFile)("cc", [...flags, "-o", program, source, "-l:libzstd.so.1"]);
  } catch (cause) {
    throw new GodwitError("IO", "the relay in C wants a C compiler and libzstd1", { cause });
  }
}

async function ready(child: ChildProcess): Promise<void> {
  const said = Promise.withResolvers<void>();
  child.stdout?.once("data", () => said.resolve());
  child.once("exit", (code) => said.reject(new GodwitError("IO", `the relay ended with ${code}`)));
  child.once("error", said.reject);
  await withDeadline(systemClock, readyMsMax, "start of the relay", said.promise);
}
