/**
 * After a crash of a daemon and its workers: what became of the migrations that were about to hand over.
 *
 * A source's worker writes `<runtimeDirectory>/migrations/<id>.json` before it hands over and removes it when all is known.
 * A journal that is there when a daemon starts belongs to a worker which is still at it, or which died.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { formatHostPort } from "../api/index.ts";
import type { Clock } from "../io/index.ts";
import { resolveAtDestination } from "../migrate/index.ts";
import type { Context } from "./context.ts";
import { readJson } from "./files.ts";
import { visit } from "./monitor.ts";

const journalSchema = z.looseObject({
  migrationId: z.string(),
  vmName: z.string(),
  host: z.string(),
  port: z.number(),
  qmpPath: z.string(),
  transport: z
    .object({ tlsDirectory: z.string().optional(), insecure: z.boolean() })
    .default({ insecure: false }),
});

export interface Journal {
  readonly migrationId: string;
  readonly vmName: string;
  readonly host: string;
  readonly port: number;
  readonly qmpPath: string;
  readonly transport: { readonly tlsDirectory?: string | undefined; readonly insecure: boolean };
}

export interface Recovered {
  readonly outcome: "handed-over" | "aborted" | "unknown";
  readonly text: string;
}

/** Finds out what became of a migration. Never fails. */
export type Recover = (journal: Journal) => Promise<Recovered>;

export function journalPath(runtimeDirectory: string, migrationId: string): string {
  return join(runtimeDirectory, "migrations", `${migrationId}.json`);
}

export async function readJournal(path: string): Promise<Journal | undefined> {
  const result = journalSchema.safeParse(await readJson(path));
  return result.success ? result.data : undefined;
}

/** Asks QEMU, and tells the destination, which may hold the VM until it knows. */
export function recoverWithPeer(clock: Clock): Recover {
  const ask = recoverByQemu(clock);
  return async (journal) => {
    const found = await ask(journal);
    if (found.outcome === "unknown") return found;
    const { host, port, transport, migrationId } = journal;
    const peer = { host, port, transport: { ...transport, tlsDirectory: transport.tlsDirectory } };
    try {
      const there = await resolveAtDestination(clock, peer, found.outcome, migrationId, 3);
      return { ...found, text: `${found.text}. The destination says of it: ${there}` };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return { ...found, text: `${found.text}. The destination could not be told: ${why}` };
    }
  };
}

/** Asks QEMU only: after `completed` it never runs the VM again by itself; before, it does. */
export function recoverByQemu(clock: Clock): Recover {
  return async (journal) => {
    try {
      return await visit(journal.qmpPath, clock, async (monitor) => {
        const { status } = await monitor.execute("query-migrate");
        const run = (await monitor.execute("query-status")).status;
        return describe(journal, status ?? "none", run);
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

function describe(journal: Journal, status: string, run: string): Recovered {
  const { vmName } = journal;
  // A VM that runs again after `completed` was started here by somebody: then it is not the destination's.
  if (status === "completed" && run !== "running") {
    return {
      outcome: "handed-over",
      text: `${vmName} had been handed over to ${formatHostPort(journal)}; check that it runs there. Here it stays stopped`,
    };
  }
  return { outcome: "aborted", text: `${vmName} had not been handed over; here it is ${run}` };
}

/** At start: says in the list what became of a migration of the daemon before this one. Its worker has ended. */
export async function recoverJournal(
  context: Context,
  recover: Recover,
  path: string,
): Promise<void> {
  const { clock, log, migrations } = context;
  const journal = await readJournal(path);
  if (journal === undefined) {
    // Its worker completed the migration and removed it, or it is damaged.
    if (existsSync(path)) log.error({ path }, "a migration's journal cannot be read");
    return await rm(path, { force: true });
  }
  const found = await recover(journal);
  const record = migrations.open({
    id: migrations.freeId(journal.migrationId),
    migrationId: journal.migrationId,
    role: "source",
    vm: journal.vmName,
    peer: formatHostPort(journal),
    startedWallMs: clock.wallMs(),
  });
  await migrations.close(record, {
    state: found.outcome === "aborted" ? "failed" : "interrupted",
    text: `the daemon ended during this migration: ${found.text}`,
    finishedWallMs: clock.wallMs(),
  });
  await rm(path, { force: true });
}
