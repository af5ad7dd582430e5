/**
 * Who is at the other end of a TCP connection within this machine: the kernel lists each socket with its owner's uid in
 * /proc/net/tcp and tcp6.
 *
 * Without TLS this is what keeps another user of the machine from having VMs started with the daemon's rights: whoever
 * reaches the migration port may name files and devices for them.
 */
import { readFile } from "node:fs/promises";
import { isIPv4 } from "node:net";

/** As our socket has them. */
export interface Endpoints {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
}

/** The uid that owns the peer's socket; undefined when it is not in this machine (or network namespace), or not sure. */
export async function peerUid(endpoints: Endpoints): Promise<number | undefined> {
  const tables = ["/proc/net/tcp", "/proc/net/tcp6"].map((path) =>
    readFile(path, "utf8").catch(() => ""),
  );
  return findUid((await Promise.all(tables)).join("\n"), endpoints);
}

/** A socket that its owner has closed lives on for a while with uid 0: only this state tells the truth. */
const established = "01";

/**
 * Columns: sl local_address rem_address st tx:rx tr:when retrnsmt uid …; addresses end in the port, in hex. The peer's socket
 * is the one with our two ends exchanged; if several say so, none is believed.
 */
export function findUid(table: string, endpoints: Endpoints): number | undefined {
  const { remoteAddress, remotePort, localAddress, localPort } = endpoints;
  const theirs = endOf(addressBytes(remoteAddress), remotePort);
  const ours = endOf(addressBytes(localAddress), localPort);
  if (theirs === undefined || ours === undefined) return undefined;
  const uids: string[] = [];
  for (const line of table.split("\n")) {
    const [, local = "", remote = "", state, , , , uid] = line.trim().split(/\s+/);
    const matches =
      state === established && endOfEntry(local) === theirs && endOfEntry(remote) === ours;
    if (matches && uid !== undefined) uids.push(uid);
  }
  const [uid, second] = uids;
  return uid === undefined || second !== undefined ? undefined : Number(uid);
}

/** One form for both kinds of addresses: an IPv4 one counts as the IPv6 one that maps it. */
function endOf(bytes: readonly number[] | undefined, port: number): string | undefined {
  if (bytes === undefined) return undefined;
  const mapped = bytes.length === 4 ? [...Array<number>(10).fill(0), 0xff, 0xff, ...bytes] : bytes;
  return `${mapped.join(".")}:${port}`;
}

/** Words are in host order (little-endian here): 0100007F is 127.0.0.1. */
function endOfEntry(entry: string): string | undefined {
  const [, address, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(entry) ?? [];
  if (address === undefined || port === undefined) return undefined;
  const words = address.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => Array.from(Buffer.from(word, "hex")).toReversed());
  return endOf(bytes, Number.parseInt(port, 16));
}

/** Undefined when it is not an address. */
function addressBytes(text: string): number[] | undefined {
  if (isIPv4(text)) return text.split(".").map(Number);
  const plain = text.replace(/%.*$/, "");
  const url = URL.parse(`http://[${plain}]`);
  if (url === null) return undefined;
  // Now without dots, and with at most one "::".
  const [head = "", tail] = url.hostname.slice(1, -1).split("::");
  const groups = (part: string): number[] =>
    part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 0xff]);
}
