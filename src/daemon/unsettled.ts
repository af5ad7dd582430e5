/**
 * Outgoing migrations whose end is not known at both sides: their worker broke down, or the destination did not confirm.
 *
 *   add ─▶ look at QEMU ─▶ told to the destination ─▶ settled: the note goes
 *             └──◀─ 10 s ◀──────┘   no answer, or none that is final
 *
 * What QEMU said is written into the note at once and QEMU is not asked again: a later migration of the same VM would answer
 * for this one. Until it has said it, the VM is not migrated again.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { formatHostPort } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { type Clock, systemProcesses } from "../io/index.ts";
import { listJson, writeJson } from "./files.ts";
import type { Logger } from "./log.ts";
import type { Ending } from "./migration.ts";
import type { Migrations } from "./migrations.ts";
import { type Found, type Journal, journalPath, type Recovery, readJournal } from "./recovery.ts";

/** After these a destination has nothing more to be told. */
const finalAnswers = ["running", "discarded", "not here"];

export interface Told extends Found {
  /** The destination has given its last word. */
  readonly final: boolean;
  /** What it said. */
  readonly there: string | undefined;
}

interface Options {
  readonly runtimeDirectory: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly migrations: Migrations;
  readonly recovery: Recovery;
  readonly background: (work: Promise<void>) => void;
}

export class Unsettled {
  readonly #options: Options;
  /** By migration id. */
  readonly #journals = new Map<string, Journal>();
  /** Those with attempts under way or to come. */
  readonly #settling = new Set<string>();
  readonly #wakers = new Set<() => void>();
  #stopping = false;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Reads what a daemon before this one left: from now on those VMs are not migrated until it is settled. */
  async load(): Promise<void> {
    for (const [path, id] of await this.#paths()) {
      const journal = await readJournal(path);
      if (journal?.migrationId === id) this.#journals.set(id, journal);
    }
  }

  /** The retries end; notes stay for the next daemon. */
  stop(): void {
    this.#stopping = true;
    for (const wake of this.#wakers) wake();
  }

  /** Fails with CONFLICT while it is not known whether this VM was handed over before. */
  check(vmName: string, qmpPath: string): void {
    const found = Array.from(this.#journals.values()).find(
      (journal) =>
        (journal.vmName === vmName || journal.qmpPath === qmpPath) && this.#isOpen(journal),
    );
    if (found === undefined) return;
    const { migrationId } = found;
    throw new GodwitError(
      "CONFLICT",
      `it is not known yet how the migration ${migrationId} of ${found.vmName} to ${formatHostPort(found)} ended; ` +
        `see \`godwit status ${migrationId}\`. Once you have settled it yourself, remove ${this.#path(migrationId)}`,
    );
  }

  /** A QEMU that is gone answers for nothing, and no other is taken for it. */
  #isOpen({ outcome, pid, migrationId }: Journal): boolean {
    if (outcome !== undefined || !existsSync(this.#path(migrationId))) return false;
    return pid === undefined || systemProcesses.identify(pid) !== undefined;
  }

  /** One attempt; when it was not the last, others follow in the background and correct the record `recordId`. */
  async settle(job: Journal, recordId: string): Promise<Told> {
    this.#settling.add(job.migrationId);
    this.#journals.set(job.migrationId, { ...job, outcome: undefined });
    let journal = await readJournal(this.#path(job.migrationId));
    if (journal === undefined) {
      journal = noteOf(job);
      await this.#note(journal);
    }
    this.#journals.set(job.migrationId, journal);
    const told = await this.#attempt(journal);
    if (!told.final) this.#options.background(this.#keepTrying(job.migrationId, recordId));
    return told;
  }

  /** For one that its worker left `unconfirmed`: all attempts are in the background. */
  settleLater(job: Journal, recordId: string): void {
    this.#options.background(
      this.settle(job, recordId).then(async (told) => {
        if (told.final) await this.#correct(recordId, told);
      }),
    );
  }

  /** After a restart, once no worker of the daemon before is left. `busy`: those of this one. */
  async settleLeftovers(busy: (migrationId: string) => boolean): Promise<void> {
    const paths = await this.#paths();
    const left = Array.from(paths).filter(([, id]) => !busy(id) && !this.#settling.has(id));
    for (const id of this.#journals.keys()) {
      // Its worker has completed it and removed the note.
      if (!existsSync(this.#path(id))) this.#journals.delete(id);
    }
    await Promise.all(left.map(([path]) => this.#leftover(path)));
  }

  async #leftover(path: string): Promise<void> {
    const { log, migrations, clock } = this.#options;
    const journal = await readJournal(path);
    if (journal === undefined) {
      if (existsSync(path)) log.error({ path }, "a migration's journal cannot be read");
      return await rm(path, { force: true });
    }
    const known = migrations
      .list()
      .find(
        ({ id, role, state }) =>
          id === journal.migrationId && role === "source" && state !== "running",
      );
    if (known !== undefined) return this.settleLater(journal, known.id);
    const record = migrations.open({
      id: migrations.freeId(journal.migrationId),
      migrationId: journal.migrationId,
      role: "source",
      vm: journal.vmName,
      peer: formatHostPort(journal),
      startedWallMs: clock.wallMs(),
    });
    const told = await this.settle(journal, record.identity.id);
    await migrations.close(record, {
      state: told.outcome === "aborted" ? "failed" : "interrupted",
      text: `the daemon ended during this migration: ${told.text}`,
      finishedWallMs: clock.wallMs(),
    });
  }

  async #keepTrying(migrationId: string, recordId: string): Promise<void> {
    for (;;) {
      await this.#pause(this.#options.recovery.retryMs);
      const journal = this.#journals.get(migrationId);
      if (journal === undefined || this.#stopping) return;
      if (!existsSync(this.#path(migrationId))) {
        // Somebody has settled it and removed the note.
        return await this.#forget(migrationId);
      }
      const told = await this.#attempt(journal);
      if (!told.final) continue;
      return await this.#correct(recordId, told);
    }
  }

  async #attempt(journal: Journal): Promise<Told> {
    const { recovery, log } = this.#options;
    const found = await this.#find(journal);
    const { outcome, text } = found;
    if (outcome === "unknown") return { ...found, final: false, there: undefined };
    try {
      const there = await recovery.tell(journal, outcome);
      const final = finalAnswers.includes(there);
      log.info({ migration: journal.migrationId, outcome, there }, "the destination was told");
      if (final) await this.#forget(journal.migrationId);
      return { outcome, text: `${text}. The destination says of it: ${there}`, final, there };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const told = `${text}. The destination could not be told: ${why}`;
      return { outcome, text: told, final: false, there: undefined };
    }
  }

  async #find(journal: Journal): Promise<Found> {
    const { recovery } = this.#options;
    const { outcome, vmName, migrationId } = journal;
    if (outcome === "aborted") return { outcome, text: `${vmName} had not been handed over` };
    if (outcome === "handed-over") {
      return { outcome, text: `${vmName} had been handed over to ${formatHostPort(journal)}` };
    }
    const found = await recovery.look(journal, () => this.#stopping);
    if (found.outcome === "unknown") return found;
    const known = { ...noteOf(journal), outcome: found.outcome };
    this.#journals.set(migrationId, known);
    await this.#note(known);
    return found;
  }

  async #forget(migrationId: string): Promise<void> {
    await rm(this.#path(migrationId), { force: true });
    this.#journals.delete(migrationId);
    this.#settling.delete(migrationId);
  }

  async #note(journal: Journal): Promise<void> {
    const note = { version: 1, phase: "handing-over", ...journal };
    await writeJson(this.#path(journal.migrationId), note).catch((error: unknown) => {
      this.#options.log.error({ error: String(error) }, "a migration's journal cannot be written");
    });
  }

  #path(migrationId: string): string {
    return journalPath(this.#options.runtimeDirectory, migrationId);
  }

  /** What the list says of it, now that it is known. */
  async #correct(recordId: string, told: Told): Promise<void> {
    await this.#options.migrations.correct(recordId, (ended) => {
      const was = ended.text ?? "";
      return { state: stateAfter(ended.state, told), text: `${was}. Settled since: ${told.text}` };
    });
  }

  async #paths(): Promise<Map<string, string>> {
    const paths = await listJson(dirname(this.#path("x")));
    return new Map(paths.map((path) => [path, basename(path, ".json")]));
  }

  /** Ends early when the daemon stops. */
  #pause(ms: number): Promise<void> {
    if (this.#stopping) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        stopTimer();
        this.#wakers.delete(wake);
        resolve();
      };
      const stopTimer = this.#options.clock.after(ms, wake);
      this.#wakers.add(wake);
    });
  }
}

function stateAfter(was: Ending["state"], { outcome, there }: Told): Ending["state"] {
  if (outcome === "aborted") return "failed";
  return there === "running" ? "done" : was;
}

/** A job has more than its note. */
function noteOf(journal: Journal): Journal {
  const { migrationId, vmName, host, port, qmpPath, pid, transport, outcome } = journal;
  return { migrationId, vmName, host, port, qmpPath, pid, transport, outcome };
}
