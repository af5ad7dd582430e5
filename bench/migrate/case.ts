/** What a way of migrating is given, and what it answers. */
import type { CompressionReport } from "../../src/migrate/index.ts";
import type { GuestMemory } from "../../src/qemu/memory/index.ts";
import { GuestMemory as Memory } from "../../src/qemu/memory/index.ts";
import { compareHashes, hashMemory } from "../../src/migrate/verify.ts";
import type { NetworkPair } from "../netns.ts";
import type { Guest } from "./guest.ts";

/** What cases have to know of how a bench was set. */
export interface CaseSettings {
  /** A migration that has not ended by then is cancelled and counts as not finished. */
  readonly boundMs: number;
  /** QEMU's default, given to godwit as well. */
  readonly downtimeLimitMs: number;
  /** godwit's workers are started before the clock, as a daemon keeps a spare one (src/daemon/spare-worker.ts). */
  readonly warmWorkers: boolean;
}

/** A running guest in end a of the link and a QEMU that waits in end b. */
export interface Stage {
  readonly settings: CaseSettings;
  readonly link: NetworkPair;
  /** For sockets. */
  readonly directory: string;
  readonly source: Guest;
  readonly destination: Guest;
}

export interface Measured {
  /** False: given up after the bound; all times are then undefined. */
  readonly finished: boolean;
  /** From the command (godwit: from before its worker is started) until QEMU's migration is active: it sends. */
  readonly setupMs: number | undefined;
  /** From the command until the VM runs at the destination and needs the source no more, without verification. */
  readonly totalMs: number | undefined;
  /** From the source's STOP until the destination's RESUME, without verification. */
  readonly downtimeMs: number | undefined;
  /** QEMU's passes over memory. */
  readonly rounds: number;
  readonly wireBytes: number;
  /** All memory was equal while both were stopped; undefined where both are never stopped with the same memory. */
  readonly verified: boolean | undefined;
  /** When things happened, in ms since 1970: for who measures by what the guest does. */
  readonly moments: Moments;
  /** What godwit's codec did; undefined without one, and for QEMU's. */
  readonly compression?: CompressionReport | undefined;
  /** What the case itself says. */
  readonly own?: Readonly<Record<string, unknown>>;
}

export interface Moments {
  /** The command. */
  readonly startMs: number;
  /** The VM stands still between these; undefined when it was given up before. */
  readonly stopMs: number | undefined;
  readonly resumeMs: number | undefined;
  /** Part of the standstill that only the bench is to blame for: the comparison of both memories. */
  readonly heldMs: number;
  /** The source is not needed any more, or the migration was given up. */
  readonly endMs: number;
}

export interface Case {
  readonly name: string;
  /** As the QEMU at the destination is to be started. */
  readonly destination: "waiting" | "running";
  run(stage: Stage): Promise<Measured>;
}

/** Hashes all memory of both VMs, which must be stopped. */
export async function memoryIsEqual({ source, destination }: Stage): Promise<boolean> {
  const hash = async (guest: Guest) => {
    await using memory: GuestMemory = await Memory.open(guest.qmp, guest.vm.pid);
    const blocks = memory.blocks.map(({ name, usedBytes }, index) => ({
      index,
      name,
      lengthBytes: usedBytes,
      pageCount: usedBytes >> 12,
    }));
    return await hashMemory(memory, blocks, 1 << 20);
  };
  const [ours, theirs] = await Promise.all([hash(source), hash(destination)]);
  const difference = compareHashes(ours, theirs);
  if (difference !== undefined) process.stderr.write(`${difference}\n`);
  return difference === undefined;
}

/** How often QEMU went over memory, asked of the source after the migration. */
export async function passCount({ source }: Stage): Promise<number> {
  return (await source.qmp.execute("query-migrate")).ram?.["dirty-sync-count"] ?? 0;
}
