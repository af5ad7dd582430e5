/**
 * QMP, QEMU's machine protocol: one JSON object a line, both ways, over a unix socket.
 *
 *     QEMU                                       godwit
 *      ── {"QMP": {"version": …, "capabilities": […]}} ──▶      greeting, once
 *      ◀── {"execute": "qmp_capabilities", "id": 1} ────
 *      ── {"return": {}, "id": 1} ──▶                           commands are legal from here on
 *      ◀── {"execute": "stop", "id": 2} ────
 *      ── {"event": "STOP", "timestamp": …} ──▶                 events come at any time
 *      ── {"return": {}, "id": 2} ──▶                           or {"error": {"class", "desc"}, "id": 2}
 *
 * This file is the table of the commands and events that godwit uses. To use another one, add a row.
 */
import { unreachable } from "../../base/index.ts";
import type {
  BlockInfo,
  CpuInfo,
  MachineInfo,
  MigrationCapabilityStatus,
  MigrationInfo,
  MigrationParameters,
  MigrationStatus,
  ObjectProperty,
  QemuVersion,
  StatusInfo,
  YankInstance,
} from "./types.ts";

/** An object without members. */
export type Nothing = Readonly<Record<string, never>>;

/** A command without arguments; the answer is of type `Return`. */
interface Plain<Return> {
  arguments: Nothing;
  return: Return;
}

/** A command with arguments; most of them answer `{}`, which nobody reads. */
interface With<Arguments, Return = unknown> {
  arguments: Arguments;
  return: Return;
}

/** Command name → its arguments and its answer. */
export interface QmpCommands {
  // The monitor and the machine
  qmp_capabilities: With<{ enable?: readonly string[] }>;
  "query-version": Plain<QemuVersion>;
  "query-name": Plain<{ name?: string }>;
  "query-uuid": Plain<{ UUID: string }>;
  "query-kvm": Plain<{ enabled: boolean; present: boolean }>;
  "query-machines": Plain<MachineInfo[]>;
  "query-cpus-fast": Plain<CpuInfo[]>;
  "query-commands": Plain<{ name: string }[]>;
  "query-memory-size-summary": Plain<{ "base-memory": number; "plugged-memory"?: number }>;
  "human-monitor-command": With<{ "command-line": string; "cpu-index"?: number }, string>;
  "qom-list": With<{ path: string }, ObjectProperty[]>;
  "qom-get": With<{ path: string; property: string }>;
  "qom-set": With<{ path: string; property: string; value: unknown }>;
  // Running and ending
  "query-status": Plain<StatusInfo>;
  stop: Plain<unknown>;
  cont: Plain<unknown>;
  system_powerdown: Plain<unknown>;
  system_reset: Plain<unknown>;
  quit: Plain<unknown>;
  // Migration
  migrate: With<{ uri: string; resume?: boolean }>;
  migrate_cancel: Plain<unknown>;
  "migrate-incoming": With<{ uri: string; "exit-on-error"?: boolean }>;
  "migrate-continue": With<{ state: MigrationStatus }>;
  "migrate-pause": Plain<unknown>;
  "migrate-start-postcopy": Plain<unknown>;
  "query-migrate": Plain<MigrationInfo>;
  "migrate-set-capabilities": With<{ capabilities: readonly MigrationCapabilityStatus[] }>;
  "query-migrate-capabilities": Plain<MigrationCapabilityStatus[]>;
  "migrate-set-parameters": With<MigrationParameters>;
  "query-migrate-parameters": Plain<MigrationParameters>;
  "x-colo-lost-heartbeat": Plain<unknown>;
  "announce-self": With<{ initial: number; max: number; rounds: number; step: number }>;
  // Devices
  "query-block": Plain<BlockInfo[]>;
  "query-balloon": Plain<{ actual: number }>;
  balloon: With<{ value: number }>;
  "query-yank": Plain<YankInstance[]>;
  yank: With<{ instances: readonly YankInstance[] }>;
  set_link: With<{ name: string; up: boolean }>;
  "object-add": With<{ "qom-type": string; id: string } & Readonly<Record<string, unknown>>>;
  "object-del": With<{ id: string }>;
  getfd: With<{ fdname: string }>;
}

export type CommandName = keyof QmpCommands;
export type CommandArguments<C extends CommandName> = QmpCommands[C]["arguments"];
export type CommandReturn<C extends CommandName> = QmpCommands[C]["return"];

/** Event name → its data. Events that are not here arrive too, with data of unknown shape. */
export interface QmpEvents {
  /** Needs the migration capability "events". */
  MIGRATION: { status: MigrationStatus };
  /** A pre-copy pass ended; `pass` counts from 1. Needs the migration capability "events". */
  MIGRATION_PASS: { pass: number };
  STOP: Nothing;
  RESUME: Nothing;
  SHUTDOWN: { guest: boolean; reason: string };
  RESET: { guest: boolean; reason: string };
  POWERDOWN: Nothing;
  SUSPEND: Nothing;
  WAKEUP: Nothing;
  WATCHDOG: { action: string };
  GUEST_PANICKED: { action: string };
  GUEST_CRASHLOADED: { action: string };
  BLOCK_IO_ERROR: {
    device: string;
    "node-name"?: string;
    operation: string;
    action: string;
    reason: string;
  };
  BALLOON_CHANGE: { actual: number };
  COLO_EXIT: { mode: string; reason: string };
  NETDEV_STREAM_CONNECTED: { "netdev-id": string };
  NETDEV_STREAM_DISCONNECTED: { "netdev-id": string };
  NIC_RX_FILTER_CHANGED: { name?: string; path: string };
  RTC_CHANGE: { offset: number };
  /** The guest opened or closed a virtio-serial port; `id` is the virtserialport's. */
  VSERPORT_CHANGE: { id: string; open: boolean };
  DEVICE_DELETED: { device?: string; path: string };
  UNPLUG_PRIMARY: { "device-id": string };
}

export type EventName = keyof QmpEvents;

/** An event; `timestampUs` is QEMU's wall clock in microseconds since 1970, or -1 when QEMU could not tell. */
export interface QmpEvent<Name extends string = string, Data = unknown> {
  readonly name: Name;
  readonly data: Data;
  readonly timestampUs: number;
}

export type KnownEvent<E extends EventName> = QmpEvent<E, QmpEvents[E]>;

/** One line from QEMU. `id` is ours, given back; QEMU leaves it out when it could not read the command. */
export type QmpMessage =
  | {
      readonly type: "greeting";
      readonly version: QemuVersion;
      readonly capabilities: readonly unknown[];
    }
  | { readonly type: "return"; readonly id: number | undefined; readonly value: unknown }
  | {
      readonly type: "error";
      readonly id: number | undefined;
      readonly class: string;
      readonly desc: string;
    }
  | { readonly type: "event"; readonly event: QmpEvent };

/** A message in few words, for logs; values that may be long are left out. */
export function describe(message: QmpMessage): string {
  switch (message.type) {
    case "greeting":
      return `greeting from ${describeVersion(message.version)}`;
    case "return":
      return `return #${message.id ?? "?"}`;
    case "error":
      return `error #${message.id ?? "?"} ${message.class}: ${message.desc}`;
    case "event":
      return `event ${message.event.name}`;
    default:
      return unreachable(message);
  }
}

/** "10.0.13". */
export function describeVersion(version: QemuVersion): string {
  const { major, minor, micro } = version.qemu;
  return `${major}.${minor}.${micro}`;
}
