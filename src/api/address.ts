/** Where things are reached: "HOST[:PORT]", loopback or not, and the daemon's socket. */
import { isIPv6 } from "node:net";
import { GodwitError } from "../base/index.ts";

export const migrationPortDefault = 7470;

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** "host", "host:7470", "10.0.0.2:7470", "[fe80::1]:7470", "::1". Fails with CONFIG_INVALID. */
export function parseHostPort(text: string, portDefault?: number): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]\s/]+))(?::(\d{1,5}))?$/.exec(text);
  const bareV6 = match === null && isIPv6(text);
  const host = bareV6 ? text : (match?.[1] ?? match?.[2]);
  const port = match?.[3] === undefined ? portDefault : Number(match[3]);
  if (host === undefined || port === undefined || port > 65535) {
    const example = portDefault === undefined ? "127.0.0.1:7470" : "host2 or 10.0.0.2:7470";
    throw new GodwitError("CONFIG_INVALID", `"${text}" is no address; write one like ${example}`);
  }
  return { host, port };
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether traffic to this host stays in this machine. A name other than localhost is not looked up: false. */
export function isLoopback(host: string): boolean {
  const plain = host.toLowerCase().replace(/^::ffff:/, "");
  return plain === "localhost" || plain === "::1" || /^127(\.\d{1,3}){3}$/.test(plain);
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Folder of sockets and of what runs now: gone after a reboot, like the VMs. */
export function defaultRuntimeDirectory(environment: Environment, uid: number): string {
  if (uid === 0) return "/run/godwit";
  const base = environment["XDG_RUNTIME_DIR"];
  return base !== undefined && base !== "" ? `${base}/godwit` : `/tmp/godwit-${uid}`;
}

export function defaultSocketPath(environment: Environment, uid: number): string {
  const own = environment["GODWIT_SOCKET"];
  if (own !== undefined && own !== "") return own;
  return `${defaultRuntimeDirectory(environment, uid)}/godwit.sock`;
}
