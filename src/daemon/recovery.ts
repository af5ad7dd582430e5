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
import { type Clock, sleep } from "../io/index.ts";
import type { Context } from "./context.ts";
import { listJson, readJson } from "./files.ts";
import { visit } from "./monitor.ts";

const journalSchema = z.looseObject({
  migrationId: z.string(),
  vmName: z.string(),
  host: z.string(),
  port: z.number(),
  qmpPath: z.string(),
  phase: z.string(),
});

export interface Journal {
  readonly migrationId: string;
  readonly vmName: string;
  readonly host: string;
  readonly port: number;
  readonly qmpPath: string;
  readonly phase: string;
}

export interface Recovered {
  readonly outcome: "handed-over" | "aborted" | "unknown";
  readonly text: string;
}

/** Finds out what became of a migration. Never fails. */
export type Recover = (journal: Journal) => Promise<Recovered>;

/** Until the worker of a daemon that died must have ended. */
const orphanMs = 15_000;

export function journalPath(runtimeDirectory: string, migrationId: string): string {
  return join(runtimeDirectory, "migrations", `${migrationId}.json`);
}

export async function readJournal(path: string): Promise<Journal | undefined> {
  const result = journalSchema.safeParse(await readJson(path));
  return result.success ? result.data : undefined;
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
  if (status === "completed" || run === "postmigrate") {
    return {
      outcome: "handed-over",
      text: `${vmName} had been handed over to ${formatHostPort(journal)}; check that it runs there. Here it stays stopped`,
    };
  }
  return { outcome: "aborted", text: `${vmName} had not been handed over; here it is ${run}` };
}

/** At start: says in the list what became of the migrations of the daemon before this one. */
export async function recoverJournals(context: Context, recover: Recover): Promise<void> {
  const paths = await listJson(join(context.runtimeDirectory, "migrations"));
  await Promise.all(paths.map((path) => recoverOne(context, recover, path)));
}

async function recoverOne(context: Context, recover: Recover, path: string): Promise<void> {
  const { clock, log, migrations } = context;
  const journal = await readJournal(path);
  const until = clock.nowMs() + orphanMs;
  while (existsSync(path) && clock.nowMs() < until && !context.stopping) await sleep(clock, 500);
  if (context.stopping) return;
  if (journal === undefined) {
    log.error({ path }, "a migration's journal cannot be read; it is put aside");
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
