/** From a VM definition to a running QEMU, and back to it after a restart. */
export { type ArgumentOptions, cpuModel, qemuArguments } from "./arguments.ts";
export {
  checkDefinition,
  diskFormat,
  loadDefinition,
  networkMac,
  parseDefinition,
  vmUuid,
} from "./definition.ts";
export { findVm, killVm, type LaunchOptions, launchVm, pinnedDefinition } from "./launcher.ts";
export { checkSocketPath, type RuntimePaths, runtimePaths } from "./paths.ts";
export { type LaunchedVm, readVmRecord, writeVmRecord } from "./record.ts";
export {
  type DiskDefinition,
  definitionJsonSchema,
  definitionSchema,
  type NetworkDefinition,
  parseSize,
  type VmDefinition,
} from "./schema.ts";
