/**
 * The QEMU whose VM is recorded: a migration that never completes. What is changed in its settings is put back; what was
 * changed is told to whoever can put it back if this process dies.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, sleep } from "../io/index.ts";
import type { MigrationCapability, MigrationInfo, QmpClient } from "../qemu/qmp/index.ts";

/** `switchover-ack` (8.1 and newer): QEMU does not stop the VM before a word on the return path, which is never said. */
const wanted: readonly MigrationCapability[] = ["events", "return-path", "switchover-ack"];
/** Capabilities that change the stream into something that is not read here. */
const unwanted: readonly MigrationCapability[] = [
  "xbzrle",
  "rdma-pin-all",
  "auto-converge",
  "postcopy-ram",
  "x-colo",
  "pause-before-switchover",
  "multifd",
  "dirty-bitmaps",
  "x-ignore-shared",
  "background-snapshot",
  "mapped-ram",
];

/** Keeps QEMU iterating, as in a migration (src/migrate/source/qemu.ts): it always finds too much left to stop the VM. */
const iterating = { "downtime-limit": 1, "max-bandwidth": 0, "avail-switchover-bandwidth": 4_000 };

const endedStates: readonly string[] = ["none", "completed", "failed", "cancelled"];
const cancelEveryMs = 1_000;
const pollMs = 20;

/** As they were: what is put back. */
export interface QemuSettings {
  readonly capabilities: readonly { capability: string; state: boolean }[];
  readonly parameters: Readonly<Record<string, unknown>>;
}

export class RecordedQemu {
  readonly qmp: QmpClient;
  readonly #clock: Clock;
  #settings: QemuSettings | undefined;
  #began = false;

  constructor(qmp: QmpClient, clock: Clock) {
    this.qmp = qmp;
    this.#clock = clock;
  }

  /** After the death of a recording that had said `settings`: `end` finishes what it left. */
  adopt(settings: QemuSettings): void {
    this.#settings = settings;
    this.#began = true;
  }

  /** Fails with CONFLICT when it is being migrated or its VM does not run, QEMU_UNSUPPORTED when it cannot be recorded. */
  async check(): Promise<void> {
    const migration = await this.query();
    const busy = migration.status ?? "none";
    if (!endedStates.includes(busy)) {
      throw new GodwitError(
        "CONFLICT",
        `the VM is being migrated or recorded already (state ${busy}); it can be recorded when that is over`,
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
  async readSettings(): Promise<QemuSettings> {
    const known = await this.qmp.execute("query-migrate-capabilities");
    const missing = wanted.filter((name) => !known.some(({ capability }) => capability === name));
    if (missing.length > 0) {
      throw new GodwitError(
        "QEMU_UNSUPPORTED",
        `this QEMU lacks the capability ${missing.join(", ")}: recording needs QEMU 8.1 or newer`,
      );
    }
    const capabilities = known.filter(({ capability, state }) =>
      (state ? unwanted : wanted).includes(capability),
    );
    const all = (await this.qmp.execute("query-migrate-parameters")) as Record<string, unknown>;
    const parameters = Object.fromEntries(
      Object.keys(iterating).flatMap((name) => (name in all ? [[name, all[name]]] : [])),
    );
    return { capabilities, parameters };
  }

  async configure(settings: QemuSettings): Promise<void> {
    this.#settings = settings;
    const capabilities = settings.capabilities.map(({ capability, state }) => ({
      capability,
      state: !state,
    }));
    const parameters = Object.fromEntries(
      Object.entries(iterating).filter(([name]) => name in settings.parameters),
    );
    await apply(this.qmp, { capabilities, parameters });
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
      const status = (await this.query()).status ?? "none";
      if (endedStates.includes(status)) break;
      if (nowMs > untilMs) {
        throw new GodwitError("TIMEOUT", `QEMU did not end its migration in time (${status})`);
      }
      if (nowMs >= cancelAtMs) {
        await this.qmp.execute("migrate_cancel");
        cancelAtMs = nowMs + cancelEveryMs;
      }
      await sleep(this.#clock, pollMs);
    }
    this.#began = false;
    if (this.#settings !== undefined) await apply(this.qmp, this.#settings);
    this.#settings = undefined;
  }
}

/** Fails with QMP_*. QEMU refuses while a migration is under way. */
async function apply(qmp: QmpClient, settings: QemuSettings): Promise<void> {
  const { capabilities, parameters } = settings;
  if (Object.keys(parameters).length > 0) {
    await qmp.executeAny("migrate-set-parameters", parameters);
  }
  if (capabilities.length > 0) await qmp.executeAny("migrate-set-capabilities", { capabilities });
}
