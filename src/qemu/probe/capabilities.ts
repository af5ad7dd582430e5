/** What a QEMU says about itself when asked: one short-lived QEMU without a guest, spoken to over its stdin and stdout. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { Duplex } from "node:stream";
import { type Clock, systemClock } from "../../io/index.ts";
import { type MachineInfo, QmpClient, type QemuVersion } from "../qmp/index.ts";
import { reasonOf } from "./check.ts";
import type { QemuBinary } from "./find.ts";

export interface QemuFacts {
  readonly version: QemuVersion;
  readonly migrationCapabilities: ReadonlySet<string>;
  readonly migrationParameters: ReadonlySet<string>;
  readonly machines: readonly MachineInfo[];
  /** HMP `info ramblock` has the column HVA: the address of each block in QEMU's own memory. */
  readonly ramBlockAddresses: boolean;
  /** Undefined when /proc/PID/mem of that QEMU could be read, else why not. */
  readonly memoryUnreadable: string | undefined;
}

/** Fails with QMP_CLOSED or TIMEOUT when this QEMU does not even start, with its own words. */
export async function queryQemu(
  binary: QemuBinary,
  clock: Clock = systemClock,
): Promise<QemuFacts> {
  const child = spawn(
    binary.path,
    ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"],
    { stdio: ["pipe", "pipe", "ignore"] },
  );
  const exited = once(child, "exit").catch(() => {});
  try {
    const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
    await using client = await QmpClient.over(stream, { clock });
    return { ...(await ask(client)), memoryUnreadable: await tryMemory(child.pid ?? 0) };
  } finally {
    child.kill("SIGKILL");
    await exited;
  }
}

async function ask(client: QmpClient): Promise<Omit<QemuFacts, "memoryUnreadable">> {
  const capabilities = await client.execute("query-migrate-capabilities");
  return {
    version: client.version,
    migrationCapabilities: new Set(capabilities.map(({ capability }) => capability)),
    migrationParameters: new Set(Object.keys(await client.execute("query-migrate-parameters"))),
    machines: await client.execute("query-machines"),
    ramBlockAddresses: /\bHVA\b/.test(await client.hmp("info ramblock")),
  };
}

/** Reads a few bytes of the first mapping. Yama or a container's seccomp may forbid it, even to root. */
async function tryMemory(pid: number): Promise<string | undefined> {
  try {
    await using maps = await open(`/proc/${pid}/maps`);
    const line = (await maps.readFile("latin1")).split("\n")[0] ?? "";
    await using memory = await open(`/proc/${pid}/mem`);
    const position = BigInt(`0x${line.split("-")[0] ?? ""}`);
    const { bytesRead } = await memory.read({ buffer: Buffer.alloc(16), position });
    return bytesRead === 16 ? undefined : `only ${bytesRead} of 16 bytes could be read`;
  } catch (error) {
    return reasonOf(error);
  }
}
