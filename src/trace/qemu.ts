/**
 * The QEMU whose VM is recorded: a migration that never completes. What is changed in its settings is put back; what was
 * changed is told to whoever can put it back if this process dies.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, sleep } from "../io/index.ts";
import {
  applyMigrationSettings,
  foreignCapabilities,
  isMigrationOver,
  iteratingSettings,
  type MigrationCapability,
  type MigrationInfo,
  type MigrationSettings,
  type QmpClient,
  readMigrationSettings,
} from "../qemu/qmp/index.ts";

/** `switchover-ack` (8.1 and newer): QEMU does not stop the VM before a word on the return path, which is never said. */
const wanted: readonly MigrationCapability[] = ["events", "return-path", "switchover-ack"];

const cancelEveryMs = 1_000;
const pollMs = 20;
/** After its socket was closed QEMU ends a migration in less than that. */
const overMs = 5_000;

export class RecordedQemu {
  readonly qmp: QmpClient;
  readonly #clock: Clock;
  #settings: MigrationSettings | undefined;
  #began = false;

  constructor(qmp: QmpClient, clock: Clock) {
    this.qmp = qmp;
    this.#clock = clock;
  }

  /** After the death of a recording that had said `settings`: `end` finishes what it left. */
  adopt(settings: MigrationSettings): void {
    this.#settings = settings;
    this.#began = true;
  }

  /** Fails with CONFLICT when it is being migrated or its VM does not run, QEMU_UNSUPPORTED when it cannot be recorded. */
  async check(): Promise<void> {
    const migration = await this.query();
    if (!isMigrationOver(migration)) {
      throw new GodwitError(
        "CONFLICT",
        `the VM is being migrated or recorded already (state ${migration.status}); it can be recorded when that is over`,
      );
    }
    const blocked = migration["blocked-reasons"];
    if (blocked !== undefined && blocked.length > 0) {
      const why = blocked.join("; ");
      throw new GodwitError(
        "QEMU_UNSUPPORTED",
        `QEMU cannot migrate this VM, so not record it: ${why}`,
      );
    }
    const { status, running } = await this.qmp.execute("query-status");
    if (!running) throw new GodwitError("CONFLICT", `the VM does not run (${status})`);
  }

  /** Answers what to put back, before anything is changed. */
  readSettings(): Promise<MigrationSettings> {
    const needs = "recording needs QEMU 8.1 or newer";
    return readMigrationSettings(this.qmp, { on: wanted, off: foreignCapabilities, needs });
  }

  async configure(settings: MigrationSettings): Promise<void> {
    this.#settings = settings;
    await applyMigrationSettings(this.qmp, iteratingSettings(settings));
  }

  async migrateTo(path: string): Promise<void> {
    this.#began = true;
    await this.qmp.executeAny("migrate", { uri: `unix:${path}` });
  }

  query(): Promise<MigrationInfo> {
    return this.qmp.execute("query-migrate");
  }

  /** Ends the migration, waits until it is over, and puts back what was changed. The VM runs all the while. */
  async end(deadlineMs: number): Promise<void> {
    const untilMs = this.#clock.nowMs() + deadlineMs;
    let cancelAtMs = Number.NEGATIVE_INFINITY;
    while (this.#began) {
      const nowMs = this.#clock.nowMs();
      const migration = await this.query();
      if (isMigrationOver(migration)) break;
      if (nowMs > untilMs) {
        throw new GodwitError(
          "TIMEOUT",
          `QEMU did not end its migration in time (${migration.status})`,
        );
      }
      if (nowMs >= cancelAtMs) {
        await this.qmp.execute("migrate_cancel");
        cancelAtMs = nowMs + cancelEveryMs;
      }
      await sleep(this.#clock, pollMs);
    }
    this.#began = false;
    if (this.#settings !== undefined) await applyMigrationSettings(this.qmp, this.#settings);
    this.#settings = undefined;
  }

  /**
   * For a recording whose process and daemon are both gone, perhaps for days: puts `settings` back, unless the limits are no
   * longer those of a recording, as somebody has seen to it then. Answers whether it did. Fails with CONFLICT when a migration
   * is under way, which is somebody else's, as ours ended with its socket; QMP_*.
   */
  async putBack(settings: MigrationSettings): Promise<boolean> {
    const all = (await this.qmp.execute("query-migrate-parameters")) as Record<string, unknown>;
    const ours = Object.entries(iteratingSettings(settings).parameters);
    if (!ours.every(([name, value]) => all[name] === value)) return false;
    const untilMs = this.#clock.nowMs() + overMs;
    for (;;) {
      const migration = await this.query();
      if (isMigrationOver(migration)) break;
      if (this.#clock.nowMs() > untilMs) {
        throw new GodwitError("CONFLICT", `the VM is being migrated (state ${migration.status})`);
      }
      await sleep(this.#clock, pollMs);
    }
    await applyMigrationSettings(this.qmp, settings);
    return true;
  }
}
