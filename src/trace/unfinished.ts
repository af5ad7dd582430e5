/**
 * Names of files that are not whole yet. They lie beside NAME and name the process that writes them, NAME.PID-START.part (START
 * as in io/process.ts), so that what a killed one left can be told from what another is writing, and goes when NAME is
 * written next.
 */
import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isRunning, systemProcesses } from "../io/index.ts";

/** part: becomes NAME. full: a whole recording, of which NAME is made (and which is itself a part at first). */
export type UnfinishedKind = "part" | "full";

export function unfinishedPath(path: string, kind: UnfinishedKind): string {
  const { pid } = process;
  const { startTimeTicks = 0 } = systemProcesses.identify(pid) ?? {};
  return `${path}.${pid}-${startTimeTicks}.${kind}`;
}

const pattern = /^\.(\d{1,10})-(\d{1,18})\.(part|full)(?:(?<=full)\.\1-\2\.part)?$/;

/** Removes what processes that are gone left beside `path`; answers what others, or this one, are writing there now. */
export async function removeUnfinished(
  path: string,
): Promise<{ readonly path: string; readonly kind: UnfinishedKind }[]> {
  const folder = dirname(path);
  const base = basename(path);
  // What is wrong with a folder is told when something is to be written there.
  const names = await readdir(folder).catch(() => []);
  const writing: { path: string; kind: UnfinishedKind }[] = [];
  for (const name of names) {
    const match = name.startsWith(base) ? pattern.exec(name.slice(base.length)) : null;
    if (match === null) continue;
    const one = join(folder, name);
    const writer = { pid: Number(match[1]), startTimeTicks: Number(match[2]) };
    const kind = match[3] === "full" ? "full" : "part";
    if (isRunning(systemProcesses, writer)) writing.push({ path: one, kind });
    else await rm(one, { force: true });
  }
  return writing;
}
