/** Small files of the daemon: replaced by rename, so a reader sees the old one or the new one. */
import { randomUUID } from "node:crypto";
import { lstat, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GodwitError } from "../base/index.ts";

export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("IO", `cannot create the directory ${path}: ${why}`, { cause });
  }
}

/**
 * As `makeDirectory`, for sockets and records: whoever could write there would own our VMs. Under /tmp anybody may have made
 * it before us. Fails with INSECURE when it is not a real directory, of this user alone.
 */
export async function makePrivateDirectory(path: string): Promise<void> {
  await makeDirectory(path);
  const { mode, uid, ...status } = await lstatOf(path);
  const refuse = (what: string, advice: string): never => {
    throw new GodwitError("INSECURE", `${path} ${what}; ${advice}`);
  };
  const another = "remove it, or give another --runtime-directory";
  if (!status.isDirectory) refuse("is a link or a file, not a directory", another);
  const own = process.getuid?.() ?? uid;
  if (uid !== own) refuse(`belongs to user ${uid}, not to us (user ${own})`, another);
  const bits = mode & 0o777;
  if ((bits & 0o077) !== 0) {
    refuse(
      `is open to other users (mode ${bits.toString(8).padStart(4, "0")})`,
      `chmod 700 it, once you are sure that nobody put anything into it, or give another --runtime-directory`,
    );
  }
}

async function lstatOf(path: string): Promise<{ mode: number; uid: number; isDirectory: boolean }> {
  const status = await lstat(path);
  return { mode: status.mode, uid: status.uid, isDirectory: status.isDirectory() };
}

export async function writeJson(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, `${JSON.stringify(value)}\n`, { mode: 0o600, flush: true });
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new GodwitError("IO", `cannot write ${path}`, { cause });
  }
}

/** Undefined when there is none, or it cannot be used. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as unknown;
  } catch {
    return undefined;
  }
}

/** The paths of the JSON files in a folder, which may be missing. */
export async function listJson(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  return names.filter((name) => name.endsWith(".json")).map((name) => join(directory, name));
}
