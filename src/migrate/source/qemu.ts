/**
 * The source QEMU as a migration needs it: its settings, its migration, its run state. What is changed is remembered and
 * put back when the VM stays here.
 */
import { GodwitError } from "../../base/index.ts";
import { type Clock, sleep } from "../../io/index.ts";
import {
  foreignCapabilities,
  isMigrationOver,
  iteratingLimits,
  iteratingSettings,
  type MigrationCapability,
  type MigrationCapabilityStatus,
  type MigrationInfo,
  type QmpClient,
  readMigrationSettings,
  type RunState,
  setMigrationCapabilities,
  setMigrationParameters,
} from "../../qemu/qmp/index.ts";

/** Capabilities that godwit needs on. */
const wanted: readonly MigrationCapability[] = ["events", "return-path"];
/** `switchover-ack` is only for a migration that asks for it: `gate`. */
const unwanted: readonly MigrationCapability[] = [...foreignCapabilities, "switchover-ack"];

const iterateDowntimeMs = iteratingLimits["downtime-limit"];
/** Bytes a second. */
const iterateBandwidth = iteratingLimits["avail-switchover-bandwidth"];
/** QEMU's own maximum, 2000 s: whatever is left "fits", so QEMU completes at once. */
const forceDowntimeMs = 2_000_000;
/** Bytes a second; 8.2 and newer judge by it instead of by what the socket seems to take. */
const forceBandwidth = 2 ** 40;

/** On any bus. */
const balloonType = /^child<virtio-balloon-/;

type Parameters = Readonly<Record<string, unknown>>;

export class SourceQemu {
  readonly qmp: QmpClient;
  readonly #clock: Clock;
  #capabilities: MigrationCapabilityStatus[] = [];
  #parameters: Parameters = {};
  #hasSwitchoverBandwidth = false;
  #armedBytes = 0;
  /** What was changed was put back: what comes late must not change it again. */
  #restored = false;
  /** `migrate` was given: what QEMU says of a migration is about ours. */
  #began = false;
  /** Run state when the migration began: what the VM gets back, here or there. */
  wasRunning = true;

  constructor(qmp: QmpClient, clock: Clock) {
    this.qmp = qmp;
    this.#clock = clock;
  }

  /** Fails with CONFLICT when a migration is under way or the VM is in a state that cannot be migrated. */
  async check(): Promise<void> {
    const [migration, { status, running }] = await Promise.all([
      this.qmp.execute("query-migrate"),
      this.qmp.execute("query-status"),
    ]);
    if (!isMigrationOver(migration)) {
      throw new GodwitError(
        "CONFLICT",
        `this QEMU is already migrating (state ${migration.status})`,
      );
    }
    const blocked = migration["blocked-reasons"];
    if (blocked !== undefined && blocked.length > 0) {
      throw new GodwitError(
        "QEMU_UNSUPPORTED",
        `QEMU cannot migrate this VM: ${blocked.join("; ")}`,
      );
    }
    if (!running && status !== "paused" && status !== "postmigrate" && status !== "prelaunch") {
      throw new GodwitError("CONFLICT", `the VM is in state ${status}: it cannot be migrated now`);
    }
    this.wasRunning = running;
  }

  async configure(): Promise<void> {
    const before = await readMigrationSettings(this.qmp, { on: wanted, off: unwanted });
    const { capabilities, parameters } = iteratingSettings(before);
    this.#hasSwitchoverBandwidth = "avail-switchover-bandwidth" in parameters;
    this.#parameters = before.parameters;
    this.#capabilities = [...before.capabilities];
    await Promise.all([
      setMigrationCapabilities(this.qmp, capabilities),
      // Bandwidth is kept by godwit, which knows what is really sent.
      setMigrationParameters(this.qmp, parameters),
    ]);
  }

  /** Whether the guest may say during the migration which memory it does not use, so that QEMU leaves it out. */
  async hintsFreePages(): Promise<boolean> {
    for (const parent of ["/machine/peripheral", "/machine/peripheral-anon"]) {
      const devices = await this.qmp.execute("qom-list", { path: parent });
      for (const { name } of devices.filter(({ type }) => balloonType.test(type))) {
        const device = { path: `${parent}/${name}`, property: "free-page-hint" };
        if ((await this.qmp.execute("qom-get", device)) === true) return true;
      }
    }
    return false;
  }

  async migrateTo(path: string): Promise<void> {
    this.#began = true;
    await this.qmp.executeAny("migrate", { uri: `unix:${path}` });
  }

  /**
   * Lets QEMU stop the VM as soon as at most `restBytes` are left (its threshold is bandwidth x limit, looked at every 100
   * ms), or only when nothing is (0). Without the parameter (before 8.2) that is decided at the end of rounds only:
   * then it answers false.
   */
  async arm(restBytes: number): Promise<boolean> {
    if (this.#restored || !this.#hasSwitchoverBandwidth) return false;
    if (restBytes === this.#armedBytes) return true;
    this.#armedBytes = restBytes;
    await setMigrationParameters(this.qmp, {
      "downtime-limit": restBytes > 0 ? 1000 : iterateDowntimeMs,
      "avail-switchover-bandwidth": restBytes > 0 ? restBytes : iterateBandwidth,
    });
    return true;
  }

  /**
   * From the next migration on QEMU does not stop the VM before it is told so on the return path, however little is left.
   * Answers false when this QEMU (before 8.1) cannot.
   */
  async gate(): Promise<boolean> {
    const capability = "switchover-ack";
    const known = await this.qmp.execute("query-migrate-capabilities");
    const is = known.find((one) => one.capability === capability);
    if (is === undefined) return false;
    await setMigrationCapabilities(this.qmp, [{ capability, state: true }]);
    // When it was on before, `configure` turned it off and knows.
    const isKnown = this.#capabilities.some((one) => one.capability === capability);
    if (!isKnown) this.#capabilities.push({ capability, state: false });
    return true;
  }

  /** After `forceSwitchover`: keeps on iterating. */
  async iterate(): Promise<void> {
    if (this.#restored) return;
    this.#armedBytes = 0;
    await setMigrationParameters(this.qmp, {
      "downtime-limit": iterateDowntimeMs,
      ...(this.#hasSwitchoverBandwidth ? { "avail-switchover-bandwidth": iterateBandwidth } : {}),
    });
  }

  /** QEMU completes within about 100 ms (its interval of judging), however much is left. */
  async forceSwitchover(): Promise<void> {
    if (this.#restored) return;
    await setMigrationParameters(this.qmp, {
      "downtime-limit": forceDowntimeMs,
      ...(this.#hasSwitchoverBandwidth ? { "avail-switchover-bandwidth": forceBandwidth } : {}),
    });
  }

  query(): Promise<MigrationInfo> {
    return this.qmp.execute("query-migrate");
  }

  /**
   * Waits until the VM is again as it was, after the stream has been closed. QEMU does this by itself; `migrate_cancel` and
   * `cont` are for the cases in which it had not noticed, or somebody stopped the VM meanwhile.
   */
  async ensureResumed(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const migration = await this.query();
      const { status: runState, running } = await this.qmp.execute("query-status");
      const idle = isMigrationOver(migration);
      if (idle && running === this.wasRunning) return await this.restore();
      // It has let go: whoever has the other copy may run it.
      if (migration.status === "completed" && runState === "postmigrate" && this.#began) {
        throw new GodwitError("CONFLICT", "the source QEMU has completed the migration");
      }
      if (idle && this.wasRunning && resumable.includes(runState)) await this.qmp.execute("cont");
      else if (!idle && attempt === 10) await this.qmp.execute("migrate_cancel");
      await sleep(this.#clock, 20);
    }
  }

  /** Puts back what `configure` changed; a second time it does nothing. */
  async restore(): Promise<void> {
    this.#restored = true;
    await setMigrationParameters(this.qmp, this.#parameters);
    await setMigrationCapabilities(this.qmp, this.#capabilities);
    this.#parameters = {};
    this.#capabilities = [];
  }
}

const resumable: readonly RunState[] = ["paused", "postmigrate", "finish-migrate"];
