/**
 * Who is at the other end of a TCP connection within this machine: the kernel lists each socket with its owner's uid in
 * /proc/net/tcp and tcp6.
 *
 * Without TLS this is what keeps another user of the machine from having VMs started with the daemon's rights: whoever
 * reaches the migration port may name files and devices for them.
 */
import { readFile } from "node:fs/promises";

export interface Endpoints {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localPort: number;
}

/** The uid that owns the peer's socket; undefined when it is not in this machine (or network namespace). */
export async function peerUid(endpoints: Endpoints): Promise<number | undefined> {
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    const text = await readFile(table, "utf8").catch(() => "");
    const uid = findUid(text, endpoints);
    if (uid !== undefined) return uid;
  }
  return undefined;
}

/** A socket that its owner has closed lives on for a while with uid 0: only this state tells the truth. */
const established = "01";

/** Columns: sl local_address rem_address st tx:rx tr:when retrnsmt uid …; addresses end in the port, in hex. */
export function findUid(table: string, endpoints: Endpoints): number | undefined {
  for (const line of table.split("\n").slice(1)) {
    const [, local = "", remote = "", state, , , , uid] = line.trim().split(/\s+/);
    const matches =
      state === established &&
      portOf(local) === endpoints.remotePort &&
      portOf(remote) === endpoints.localPort &&
      isLoopbackHex(local) &&
      isLoopbackHex(remote);
    if (matches && uid !== undefined) return Number(uid);
  }
  return undefined;
}

function portOf(entry: string): number {
  return Number.parseInt(entry.slice(entry.indexOf(":") + 1), 16);
}

/** Words are in host order (little-endian here): 0100007F is 127.0.0.1. */
function isLoopbackHex(entry: string): boolean {
  const address = entry.slice(0, entry.indexOf(":"));
  const v4 = address.length === 8 ? address : address.slice(24);
  const mapped = address.length === 8 || address.startsWith("0000000000000000FFFF0000");
  return (mapped && v4.endsWith("7F")) || address === "00000000000000000000000001000000";
}
