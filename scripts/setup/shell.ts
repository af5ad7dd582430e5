/**
 * What the set-up needs of the machine: its cache folder, running a program, saying what goes on, and
 * putting a finished directory into place in one step.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rename, rm, stat, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** A failure whose text tells the reader what to do; shown without a stack. */
export class SetupError extends Error {
  override readonly name = "SetupError";
}

/** Everything downloaded or built outside the clone. Safe to delete: the next run makes it again. */
export function cacheFolder(): string {
  const own = process.env["GODWIT_CACHE"];
  if (own !== undefined && own !== "") return own;
  const shared = process.env["XDG_CACHE_HOME"];
  return join(shared !== undefined && shared !== "" ? shared : join(homedir(), ".cache"), "godwit");
}

/** One progress line on stderr: stdout belongs to results. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

export type RunOptions = {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Bytes for the program's standard input. */
  readonly input?: Uint8Array;
};

/** /sbin is not on the PATH of ordinary users, and mke2fs lives there. */
const searchPath = `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;

/**
 * Runs a program to its end and gives back its standard output. If it fails, throws a SetupError with
 * the command and the end of what it printed.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Buffer> {
  const env = { ...process.env, LC_ALL: "C.UTF-8", PATH: searchPath, ...options.env };
  const child = spawn(program, args, { cwd: options.cwd, env, stdio: ["pipe", "pipe", "pipe"] });
  const output: Buffer[] = [];
  const complaints: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk));
  // A program that ends without reading its input closes the pipe; its exit status tells the story.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input);
  const ending = await new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(code === 0 ? "" : `exit ${code ?? signal}`));
  });
  if (ending === "") return Buffer.concat(output);
  const last = Buffer.concat([...complaints, ...output])
    .toString()
    .trim()
    .split("\n")
    .slice(-12)
    .join("\n  ");
  throw new SetupError(`${program} ${args.join(" ")}\n  failed: ${ending}\n  ${last}`);
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Makes directory `target` by letting `fill` work in a temporary sibling and renaming that at the end,
 * so that a directory under its final name is always complete. If another process was faster, its
 * directory (made from the same recipe) stays.
 */
export async function makeDirectoryAtOnce(
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  await withTemporaryFolder(dirname(target), async (folder) => {
    const made = join(folder, "made");
    await mkdir(made);
    await fill(made);
    await rename(made, target).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  });
}

/** Gives `use` an empty folder inside `parent` (on the same file system) and removes it afterwards. */
export async function withTemporaryFolder<T>(
  parent: string,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  await mkdir(parent, { recursive: true });
  const folder = await mkdtemp(join(parent, "tmp-"));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs a command's main function: a SetupError is printed plainly, anything else with its stack. */
export async function mainProgram(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const text =
      error instanceof SetupError
        ? error.message
        : error instanceof Error
          ? error.stack
          : String(error);
    say(`${name}: ${text}`);
    process.exitCode = 1;
  }
}

/** Replaces the link in one step, so that no reader ever finds it missing. */
export async function pointLink(link: string, version: string): Promise<void> {
  const fresh = `${link}.${process.pid}`;
  await rm(fresh, { force: true });
  await symlink(version, fresh);
  await rename(fresh, link);
}

export async function subfolder(parent: string, name: string): Promise<string> {
  const path = join(parent, name);
  await mkdir(path);
  return path;
}
