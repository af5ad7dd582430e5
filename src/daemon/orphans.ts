/**
 * Workers that outlive their daemon: they give up what is not handed over and complete what is, and end. Each running worker
 * has a file `<directory>/<pid>` with its start time; a daemon that starts waits for those of the one before it.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Clock,
  isRunning,
  killProcess,
  type ProcessIdentity,
  sleep,
  systemProcesses,
} from "../io/index.ts";

/** Longer than any deadline of a worker whose daemon is gone; then it hangs, and is ended. */
const orphanMs = 120_000;

/** Notes a worker of ours; the returned function forgets it. */
export function noteWorker(directory: string, pid: number): () => void {
  const path = join(directory, String(pid));
  const identity = systemProcesses.identify(pid);
  if (identity !== undefined) {
    writeFileSync(path, String(identity.startTimeTicks), { mode: 0o600 });
  }
  return () => rmSync(path, { force: true });
}

/** Those that still run; the files of the others are removed. */
export function findOrphans(directory: string): ProcessIdentity[] {
  const found: ProcessIdentity[] = [];
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const identity = { pid: Number(name), startTimeTicks: Number(readFileSync(path, "utf8")) };
    if (isRunning(systemProcesses, identity)) found.push(identity);
    else rmSync(path, { force: true });
  }
  return found;
}

/** Returns when all have ended, or when `stopping` says so. */
export async function waitForOrphans(
  orphans: readonly ProcessIdentity[],
  clock: Clock,
  stopping: () => boolean,
): Promise<void> {
  const until = clock.nowMs() + orphanMs;
  const alive = (): ProcessIdentity[] =>
    orphans.filter((orphan) => isRunning(systemProcesses, orphan));
  while (alive().length > 0 && clock.nowMs() < until && !stopping()) await sleep(clock, 100);
  if (stopping()) return;
  for (const orphan of alive()) await killProcess(orphan, { clock, graceMs: 0 });
}
