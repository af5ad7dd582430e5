/**
 * The settings of QEMU's that its migrations go by, as whoever drives one needs them: read before anything is changed, so that
 * they can be put back afterwards. QEMU refuses to change them while a migration is under way, but for the limits.
 */
import { GodwitError } from "../../base/index.ts";
import type { QmpClient } from "./client.ts";
import type { MigrationCapability, MigrationCapabilityStatus, MigrationInfo } from "./types.ts";

/** Capabilities that change the stream into something that is not read by godwit. */
export const foreignCapabilities: readonly MigrationCapability[] = [
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

/**
 * Keeps QEMU iterating: it completes by itself only when a pass leaves nothing dirty. The limit of 1 ms and 4000 bytes a second
 * make a threshold of 4 bytes. Neither must be 0: without a limit QEMU completes after the first pass, whatever is left; and it
 * looks for newly dirtied pages only when what it knows to be left is *below* the threshold, so with 0 it would complete after
 * its first pass, too. Bandwidth (0: no limit) is kept by whoever reads.
 */
export const iteratingLimits = {
  "downtime-limit": 1,
  "max-bandwidth": 0,
  /** 8.2 and newer judge by it instead of by what the socket seems to take. */
  "avail-switchover-bandwidth": 4_000,
} as const;

/** What is changed for a migration, and put back. */
export interface MigrationSettings {
  readonly capabilities: readonly MigrationCapabilityStatus[];
  /** Those of `iteratingLimits` that this QEMU has. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

const overStates: readonly string[] = ["none", "completed", "failed", "cancelled"];

/** No migration is under way. */
export function isMigrationOver({ status = "none" }: MigrationInfo): boolean {
  return overStates.includes(status);
}

/**
 * As they are: the capabilities that have to be turned over, and the limits. Fails with QEMU_UNSUPPORTED when a capability of
 * `on` does not exist, which then says `needs` as well; QMP_*.
 */
export async function readMigrationSettings(
  qmp: QmpClient,
  wanted: {
    readonly on: readonly MigrationCapability[];
    readonly off: readonly MigrationCapability[];
    readonly needs?: string;
  },
): Promise<MigrationSettings> {
  const { on, off, needs } = wanted;
  const [known, limits] = await Promise.all([
    qmp.execute("query-migrate-capabilities"),
    qmp.execute("query-migrate-parameters"),
  ]);
  const missing = on.filter((name) => !known.some(({ capability }) => capability === name));
  if (missing.length > 0) {
    const why = needs === undefined ? "" : `: ${needs}`;
    const what = `this QEMU lacks the capability ${missing.join(", ")}${why}`;
    throw new GodwitError("QEMU_UNSUPPORTED", what);
  }
  const capabilities = known
    .filter(({ capability, state }) => (state ? off : on).includes(capability))
    .map(({ capability, state }) => ({ capability, state }));
  const all = limits as Readonly<Record<string, unknown>>;
  const names = Object.keys(iteratingLimits).filter((name) => name in all);
  return { capabilities, parameters: Object.fromEntries(names.map((name) => [name, all[name]])) };
}

/** What `settings` were read for: capabilities the other way round, limits that keep QEMU iterating. */
export function iteratingSettings({
  capabilities,
  parameters,
}: MigrationSettings): MigrationSettings {
  // The others are in every QEMU.
  const { "avail-switchover-bandwidth": bandwidth, ...limits } = iteratingLimits;
  const judged =
    "avail-switchover-bandwidth" in parameters ? { "avail-switchover-bandwidth": bandwidth } : {};
  return {
    capabilities: capabilities.map(({ capability, state }) => ({ capability, state: !state })),
    parameters: { ...limits, ...judged },
  };
}

/** Fails with QMP_*: while a migration is under way QEMU refuses. */
export async function applyMigrationSettings(
  qmp: QmpClient,
  { capabilities, parameters }: MigrationSettings,
): Promise<void> {
  await setMigrationParameters(qmp, parameters);
  await setMigrationCapabilities(qmp, capabilities);
}

/** Without any, nothing is said to QEMU. */
export async function setMigrationParameters(
  qmp: QmpClient,
  parameters: Readonly<Record<string, unknown>>,
): Promise<void> {
  if (Object.keys(parameters).length === 0) return;
  await qmp.executeAny("migrate-set-parameters", parameters);
}

/** Without any, nothing is said to QEMU. */
export async function setMigrationCapabilities(
  qmp: QmpClient,
  capabilities: readonly MigrationCapabilityStatus[],
): Promise<void> {
  if (capabilities.length === 0) return;
  await qmp.executeAny("migrate-set-capabilities", { capabilities });
}
