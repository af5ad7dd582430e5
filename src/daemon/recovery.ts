/**
 * After a crash of a daemon and its workers: what became of the migrations that were about to hand over.
 *
 * A source's worker writes `<runtimeDirectory>/migrations/<id>.json` before it hands over and removes it when all is known.
 * A journal whose worker has ended is settled by unsettled.ts: first QEMU is asked, then the destination is told.
 */
import { join } from "node:path";
import { z } from "zod";
import { formatHostPort } from "../api/index.ts";
import { type Clock, type Processes, sleep, systemProcesses } from "../io/index.ts";
import { resolveAtDestination } from "../migrate/index.ts";
import { findListener } from "../qemu/memory/index.ts";
import { readJson } from "./files.ts";
import { visit } from "./monitor.ts";

const journalSchema = z.looseObject({
  migrationId: z.string(),
  vmName: z.string(),
  host: z.string(),
  port: z.number(),
  qmpPath: z.string(),
  pid: z.number().optional(),
  transport: z
    .object({ tlsDirectory: z.string().optional(), insecure: z.boolean() })
    .default({ insecure: false }),
  /** Written by a daemon that has found it out: QEMU may be asked only once, as it may be migrated again later. */
  outcome: z.enum(["handed-over", "aborted"]).optional(),
});

export interface Journal {
  readonly migrationId: string;
  readonly vmName: string;
  readonly host: string;
  readonly port: number;
  readonly qmpPath: string;
  /** Undefined when it could not be found out. */
  readonly pid?: number | undefined;
  readonly transport: { readonly tlsDirectory?: string | undefined; readonly insecure: boolean };
  readonly outcome?: "handed-over" | "aborted" | undefined;
}

export interface Found {
  readonly outcome: "handed-over" | "aborted" | "unknown";
  readonly text: string;
}

export interface Recovery {
  /** Finds out from the source QEMU what became of a migration. Never fails. */
  readonly look: (journal: Journal, stopping: () => boolean) => Promise<Found>;
  /** Tells the destination, which may hold the VM until it knows; answers what it made of it. Fails when there is no answer. */
  readonly tell: (journal: Journal, outcome: "handed-over" | "aborted") => Promise<string>;
  /** Between attempts. */
  readonly retryMs: number;
}

export function journalPath(runtimeDirectory: string, migrationId: string): string {
  return join(runtimeDirectory, "migrations", `${migrationId}.json`);
}

export async function readJournal(path: string): Promise<Journal | undefined> {
  const result = journalSchema.safeParse(await readJson(path));
  return result.success ? result.data : undefined;
}

export function systemRecovery(clock: Clock): Recovery {
  return {
    look: lookAtQemu(clock),
    tell: ({ host, port, transport, migrationId }, outcome) => {
      const peer = {
        host,
        port,
        transport: { ...transport, tlsDirectory: transport.tlsDirectory },
      };
      return resolveAtDestination(clock, peer, outcome, migrationId, 3);
    },
    retryMs: 10_000,
  };
}

export interface LookOptions {
  /** How long a QEMU that is about to decide is waited for. */
  readonly waitMs?: number;
  readonly processes?: Pick<Processes, "identify">;
}

const pollMs = 200;

/** Asks QEMU only: after `completed` it never runs the VM again by itself; before, it does. */
export function lookAtQemu(clock: Clock, options: LookOptions = {}): Recovery["look"] {
  const { waitMs = 30_000, processes = systemProcesses } = options;
  return async (journal, stopping) => {
    try {
      const stranger = await notItsQemu(journal, processes);
      if (stranger !== undefined) return { outcome: "unknown", text: stranger };
      return await visit(journal.qmpPath, clock, async (monitor) => {
        const until = clock.nowMs() + waitMs;
        for (;;) {
          const { status = "none" } = await monitor.execute("query-migrate");
          const run = (await monitor.execute("query-status")).status;
          const found = describe(journal, status, run);
          if (found !== undefined) return found;
          if (clock.nowMs() >= until || stopping()) return undecided(journal, status, run);
          await sleep(clock, pollMs);
        }
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return {
        outcome: "unknown",
        text: `the source QEMU of ${journal.vmName} does not answer: ${why}`,
      };
    }
  };
}

/** Whoever answers at the path may be a QEMU started since, which knows nothing of this migration. */
async function notItsQemu(
  { pid, vmName, qmpPath }: Journal,
  processes: Pick<Processes, "identify">,
): Promise<string | undefined> {
  if (pid === undefined) return undefined;
  if (processes.identify(pid) === undefined) {
    return (
      `the source QEMU of ${vmName} (process ${pid}) is gone: whether it had handed over cannot be known. ` +
      `Look whether ${vmName} did anything since, then decide at the destination: \`godwit continue ${vmName}\` or \`godwit discard ${vmName}\``
    );
  }
  const listener = await findListener(qmpPath).catch(() => undefined);
  if (listener === undefined || listener === pid) return undefined;
  return `${qmpPath} belongs to another process (${listener}) than the source QEMU of ${vmName} (${pid}): it cannot be asked`;
}

/** Run states of a VM that is here as before. */
const hereStates: readonly string[] = ["running", "paused", "suspended", "prelaunch"];

/** Undefined: QEMU has yet to decide. */
function describe(journal: Journal, status: string, run: string): Found | undefined {
  const { vmName } = journal;
  if (status === "completed") {
    if (run === "running") {
      return {
        outcome: "unknown",
        text: `${vmName} had been handed over to ${formatHostPort(journal)}, and somebody has run it here again; look whether it runs there as well, and end one of them`,
      };
    }
    return {
      outcome: "handed-over",
      text: `${vmName} had been handed over to ${formatHostPort(journal)}; check that it runs there. Here it stays stopped`,
    };
  }
  if (!["failed", "cancelled", "none"].includes(status) || !hereStates.includes(run)) {
    return undefined;
  }
  return { outcome: "aborted", text: `${vmName} had not been handed over; here it is ${run}` };
}

function undecided({ vmName }: Journal, status: string, run: string): Found {
  return {
    outcome: "unknown",
    text: `the source QEMU of ${vmName} has not decided (migration ${status}, VM ${run}): whether it hands over is not known yet`,
  };
}
