/** All migrations, under way and ended, and the logs of their workers. */
import { rm } from "node:fs/promises";
import type { Migration, MigrationEvent } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { Followers } from "./events.ts";
import type { History } from "./history.ts";
import type { Logger } from "./log.ts";
import { type Ending, type MigrationIdentity, MigrationRecord } from "./migration.ts";

export class Migrations {
  readonly followers = new Followers<MigrationEvent>();
  readonly #history: History;
  readonly #log: Logger;
  readonly #running = new Map<string, MigrationRecord>();

  constructor(options: { history: History; log: Logger }) {
    this.#history = options.history;
    this.#log = options.log;
  }

  open(identity: MigrationIdentity): MigrationRecord {
    const record = new MigrationRecord(identity, (event) => this.followers.emit(event));
    this.#running.set(identity.id, record);
    this.#log.info({ migration: identity.id, vm: identity.vm, peer: identity.peer }, "begins");
    this.followers.emit({ type: "migration", migration: record.view() });
    return record;
  }

  /** First into the history, then to the followers: whoever is told finds it there. */
  async close(record: MigrationRecord, ending: Ending): Promise<void> {
    const { id, vm } = record.identity;
    if (!record.running) return;
    this.#running.delete(id);
    this.#log.info({ migration: id, vm, state: ending.state }, ending.text);
    const ended = { ...record.view(), ...ending };
    await this.#history.add(ended).catch((error: unknown) => {
      this.#log.error({ error: String(error) }, "the migration history cannot be written");
    });
    record.finish(ending);
  }

  /** What became known of one after its end. */
  async correct(
    id: string,
    how: (ended: Ending & Migration) => Pick<Ending, "state" | "text">,
  ): Promise<void> {
    const ended = this.#history.list().find((migration) => migration.id === id);
    if (ended === undefined || ended.state === "running") return;
    const change = how(ended as Ending & Migration);
    this.#log.info({ migration: id, vm: ended.vm, state: change.state }, change.text);
    await this.#history.correct({ ...ended, ...change }).catch((error: unknown) => {
      this.#log.error({ error: String(error) }, "the migration history cannot be written");
    });
  }

  /** The same migration may have been here before, when a source tries again. */
  freeId(wanted: string): string {
    const taken = new Set(this.list().map(({ id }) => id));
    if (!taken.has(wanted)) return wanted;
    let suffix = 2;
    while (taken.has(`${wanted}-${suffix}`)) suffix++;
    return `${wanted}-${suffix}`;
  }

  /** Oldest first. */
  list(): Migration[] {
    return [...this.#history.list(), ...Array.from(this.#running.values(), (r) => r.view())];
  }

  /** By id, or by the beginning of one if only one begins so. Fails with NOT_FOUND. */
  find(id: string): Migration {
    const all = this.list();
    const exact = all.find((migration) => migration.id === id);
    if (exact !== undefined) return exact;
    const [first, second] = all.filter((migration) => migration.id.startsWith(id));
    if (first !== undefined && second === undefined) return first;
    const many = second === undefined ? "" : " (several begin so)";
    throw new GodwitError("NOT_FOUND", `there is no migration ${id}${many}`);
  }

  running(): Migration[] {
    return Array.from(this.#running.values(), (record) => record.view());
  }

  runningOf(vm: string): Migration | undefined {
    return this.running().find((migration) => migration.vm === vm);
  }

  /** Whether this migration brought a VM here. */
  hasArrived(migrationId: string): boolean {
    return this.list().some(
      (migration) =>
        migration.migrationId === migrationId &&
        migration.role === "destination" &&
        migration.state === "done",
    );
  }

  async dropLog(path: string): Promise<void> {
    await rm(path, { force: true });
  }
}
