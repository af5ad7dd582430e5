/**
 * What a worker's process is started with. Node keeps what it compiled (and stripped of types) in a folder: a worker then
 * starts in 0.1 s of CPU time instead of 0.3, and that time is part of every migration.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "../qemu/probe/index.ts";

/** What is freed of large buffers goes back to the machine at once: glibc would keep it for the next one of up to 32 MiB. */
const returning = { MALLOC_MMAP_THRESHOLD_: String(1 << 20) };

/** The environment for `spawn`. The folder must be this user's alone: whoever can write to it chooses what we run. */
export function workerEnvironment(environment: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const directory = join(cacheDirectory(), "compiled");
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(directory);
    if (uid !== process.getuid?.() || (mode & 0o022) !== 0) return { ...environment, ...returning };
  } catch {
    return { ...environment, ...returning };
  }
  return { ...environment, ...returning, NODE_COMPILE_CACHE: directory };
}
