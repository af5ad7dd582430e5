/**
 * The parts of QEMU's answers that godwit reads, named as QEMU names them (`qapi/*.json`). Fields that only some versions
 * send are optional; fields that we do not read are left out, and arrive all the same. Sizes are bytes and times
 * milliseconds unless the field says otherwise. Integers past 2^53 lose their last digits.
 */

/** QAPI `VersionInfo`. */
export interface QemuVersion {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  /** The distribution's name for the build, or "". */
  readonly package: string;
}

/** QAPI `RunState`, as reported by `query-status`. */
export type RunState =
  | "debug"
  | "inmigrate"
  | "internal-error"
  | "io-error"
  | "paused"
  | "postmigrate"
  | "prelaunch"
  | "finish-migrate"
  | "restore-vm"
  | "running"
  | "save-vm"
  | "shutdown"
  | "suspended"
  | "watchdog"
  | "guest-panicked"
  | "colo";

export interface StatusInfo {
  readonly status: RunState;
  readonly running: boolean;
}

/** QAPI `MigrationStatus`. */
export type MigrationStatus =
  | "none"
  | "setup"
  | "cancelling"
  | "cancelled"
  | "active"
  | "postcopy-device"
  | "postcopy-active"
  | "postcopy-paused"
  | "postcopy-recover-setup"
  | "postcopy-recover"
  | "completed"
  | "failed"
  | "colo"
  | "pre-switchover"
  | "device"
  | "wait-unplug";

/** QAPI `MigrationStats` for RAM. */
export interface MigrationRamStats {
  readonly transferred: number;
  readonly remaining: number;
  readonly total: number;
  /** Pages that went as zero pages. */
  readonly duplicate: number;
  /** Pages that went whole. */
  readonly normal: number;
  readonly "normal-bytes": number;
  /** Pages a second. */
  readonly "dirty-pages-rate": number;
  /** Megabits a second. */
  readonly mbps: number;
  /** Rounds: how often the dirty bitmap was fetched. */
  readonly "dirty-sync-count": number;
  readonly "page-size": number;
  readonly "pages-per-second"?: number;
  readonly "postcopy-requests"?: number;
  readonly "precopy-bytes"?: number;
  readonly "downtime-bytes"?: number;
  readonly "postcopy-bytes"?: number;
}

/** QAPI `MigrationInfo`; every field is absent before the first migration. */
export interface MigrationInfo {
  readonly status?: MigrationStatus;
  readonly ram?: MigrationRamStats;
  readonly "total-time"?: number;
  readonly "expected-downtime"?: number;
  readonly downtime?: number;
  readonly "setup-time"?: number;
  readonly "error-desc"?: string;
  readonly "blocked-reasons"?: readonly string[];
}

/** QAPI `MigrationCapability`. A name that this QEMU does not know makes it refuse the whole command. */
export type MigrationCapability =
  | "xbzrle"
  | "rdma-pin-all"
  | "auto-converge"
  | "zero-blocks"
  | "events"
  | "postcopy-ram"
  | "x-colo"
  | "release-ram"
  | "return-path"
  | "pause-before-switchover"
  | "multifd"
  | "dirty-bitmaps"
  | "postcopy-blocktime"
  | "late-block-activate"
  | "x-ignore-shared"
  | "validate-uuid"
  | "background-snapshot"
  | "zero-copy-send"
  | "postcopy-preempt"
  | "switchover-ack"
  | "dirty-limit"
  | "mapped-ram";

export interface MigrationCapabilityStatus {
  readonly capability: MigrationCapability;
  readonly state: boolean;
}

/** QAPI `MigrationParameters`. Setting one that this QEMU does not know makes it refuse the whole command. */
export interface MigrationParameters {
  readonly "announce-initial"?: number;
  readonly "announce-max"?: number;
  readonly "announce-rounds"?: number;
  readonly "announce-step"?: number;
  /** Bytes a second while the guest runs; 0 means no limit. */
  readonly "max-bandwidth"?: number;
  /** Bytes a second, assumed for the downtime estimate; 0 means "measure". Since QEMU 8.2. */
  readonly "avail-switchover-bandwidth"?: number;
  /** Milliseconds. 0 is a trap: QEMU then completes after the first pass. */
  readonly "downtime-limit"?: number;
  readonly "max-postcopy-bandwidth"?: number;
  readonly "cpu-throttle-initial"?: number;
  readonly "cpu-throttle-increment"?: number;
  readonly "max-cpu-throttle"?: number;
  readonly "multifd-channels"?: number;
  readonly "tls-creds"?: string;
  readonly "tls-hostname"?: string;
  readonly "tls-authz"?: string;
  /** Milliseconds between COLO checkpoints; setting it fires one at once. */
  readonly "x-checkpoint-delay"?: number;
  readonly mode?: "normal" | "cpr-reboot" | "cpr-transfer";
}

/** QAPI `CpuInfoFast`. */
export interface CpuInfo {
  readonly "cpu-index": number;
  readonly "thread-id": number;
  readonly "qom-path": string;
  readonly target?: string;
}

/** QAPI `BlockInfo`, the part that names the medium. */
export interface BlockInfo {
  readonly device: string;
  readonly qdev?: string;
  readonly locked: boolean;
  readonly removable: boolean;
  readonly type?: string;
  readonly inserted?: {
    readonly file: string;
    readonly drv: string;
    readonly ro: boolean;
    readonly "node-name"?: string;
    readonly image?: { readonly "virtual-size": number; readonly format: string };
  };
}

/** QAPI `MachineInfo`. */
export interface MachineInfo {
  readonly name: string;
  readonly alias?: string;
  readonly "is-default"?: boolean;
  readonly "cpu-max": number;
  readonly deprecated?: boolean;
  readonly "default-ram-id"?: string;
}

/** QAPI `CurrentMachineParams` is empty on x86; `ObjectPropertyInfo` is what `qom-list` answers. */
export interface ObjectProperty {
  readonly name: string;
  readonly type: string;
  readonly description?: string;
}

/** QAPI `YankInstance`: something whose connection can be torn down by force. */
export type YankInstance =
  | { readonly type: "block-node"; readonly "node-name": string }
  | { readonly type: "chardev"; readonly id: string }
  | { readonly type: "migration" };
