/** Which process listens at a unix socket: for QEMUs that somebody else started, of which only the monitor is known. */
import { readdir, readFile, readlink, realpath } from "node:fs/promises";

/**
 * Answers the pid of the process that listens at `path`, or undefined (another network namespace, no permission). Looks
 * the socket up in /proc/net/unix and then among the descriptors of all processes, as ss(8) does.
 */
export async function findListener(path: string): Promise<number | undefined> {
  const inodes = await listeningInodes(path);
  if (inodes.size === 0) return undefined;
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    if (await holdsSocket(entry, inodes)) return Number(entry);
  }
  return undefined;
}

async function listeningInodes(path: string): Promise<Set<string>> {
  const wanted = new Set([path, await realpath(path).catch(() => path)]);
  const found = new Set<string>();
  for (const line of (await readFile("/proc/net/unix", "utf8")).split("\n")) {
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 = listening.
    const fields = line.trim().split(/\s+/);
    if (fields.length < 8 || !wanted.has(fields.slice(7).join(" "))) continue;
    if ((Number.parseInt(fields[3] ?? "0", 16) & 0x10000) !== 0) found.add(`socket:[${fields[6]}]`);
  }
  return found;
}

async function holdsSocket(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  // Processes end and descriptors close while we look: what is gone is not the one.
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  for (const descriptor of descriptors) {
    const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
    if (inodes.has(target)) return true;
  }
  return false;
}
