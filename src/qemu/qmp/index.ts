/** QMP, QEMU's machine protocol: the table of commands and events, and a client. */
export { type ExecuteOptions, QmpClient, type QmpClientOptions } from "./client.ts";
export { decodeLine, lineBytesMaxDefault, QmpDecoder } from "./decode.ts";
export {
  type CommandArguments,
  type CommandName,
  type CommandReturn,
  describe,
  describeVersion,
  type EventName,
  type KnownEvent,
  type QmpCommands,
  type QmpEvent,
  type QmpEvents,
  type QmpMessage,
} from "./messages.ts";
export {
  applyMigrationSettings,
  foreignCapabilities,
  isMigrationOver,
  iteratingLimits,
  iteratingSettings,
  type MigrationSettings,
  readMigrationSettings,
  setMigrationCapabilities,
  setMigrationParameters,
} from "./migration-settings.ts";
export type {
  BlockInfo,
  CpuInfo,
  MachineInfo,
  MigrationCapability,
  MigrationCapabilityStatus,
  MigrationInfo,
  MigrationParameters,
  MigrationRamStats,
  MigrationStatus,
  ObjectProperty,
  QemuVersion,
  RunState,
  StatusInfo,
  YankInstance,
} from "./types.ts";
