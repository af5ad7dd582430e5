/**
 * Finds the socket behind the guest agent's virtio-serial port of any QEMU, whoever started it: HMP `info qtree` names the
 * character device of the port and tells whether the guest has it open, `query-chardev` tells its socket.
 *
 *     dev: virtserialport, id ""
 *       chardev = "agent"
 *       name = "org.godwit.agent.0"
 *       port 1, guest on, host off, throttle off
 */
import { readlink } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { HumanMonitor } from "./guest-memory.ts";

export const agentPortName = "org.godwit.agent.0";

export interface AgentPort {
  readonly path: string;
  /** An agent in the guest has the port open. */
  readonly guestOpen: boolean;
  /** Somebody on this host is connected already: QEMU serves one at a time. */
  readonly hostOpen: boolean;
}

/** What is needed of a QMP client. */
export interface PortMonitor extends HumanMonitor {
  executeAny(command: string, args?: Record<string, unknown>): Promise<unknown>;
}

/** Undefined when the VM has no such port, or it is not a unix socket that QEMU serves. Fails with QMP_*. */
export async function findAgentPort(
  monitor: PortMonitor,
  pid: number | undefined,
): Promise<AgentPort | undefined> {
  const port = parsePort(await monitor.hmp("info qtree"));
  if (port === undefined) return undefined;
  const chardevs = await monitor.executeAny("query-chardev");
  const path = socketPath(chardevs, port.chardev);
  if (path === undefined) return undefined;
  const { guestOpen, hostOpen } = port;
  return { path: await absolute(path, pid), guestOpen, hostOpen };
}

export function parsePort(
  qtree: string,
): { chardev: string; guestOpen: boolean; hostOpen: boolean } | undefined {
  for (const device of qtree.split(/^\s*dev: /m)) {
    if (!device.startsWith("virtserialport")) continue;
    if (/^\s*name = "([^"]*)"/m.exec(device)?.[1] !== agentPortName) continue;
    const chardev = /^\s*chardev = "([^"]+)"/m.exec(device)?.[1];
    if (chardev === undefined) return undefined;
    const state = /^\s*port \d+, guest (on|off), host (on|off)/m.exec(device);
    return { chardev, guestOpen: state?.[1] === "on", hostOpen: state?.[2] === "on" };
  }
  return undefined;
}

/** "disconnected:unix:/run/vm/agent.sock,server=on", or with what is connected after it: "unix:/run/vm/agent.sock,server=on". */
export function socketPath(chardevs: unknown, label: string): string | undefined {
  if (!Array.isArray(chardevs)) return undefined;
  const found = (chardevs as { label?: unknown; filename?: unknown }[]).find(
    (one) => one.label === label,
  );
  if (typeof found?.filename !== "string") return undefined;
  return /^(?:disconnected:)?unix:(.+?),server(?:=on)?(?:,|\s|$)/.exec(found.filename)?.[1];
}

async function absolute(path: string, pid: number | undefined): Promise<string> {
  if (isAbsolute(path) || pid === undefined) return path;
  return join(await readlink(`/proc/${pid}/cwd`).catch(() => "."), path);
}
