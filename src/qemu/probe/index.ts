/** What this host and its QEMU can do, found by trying. */
export { type Accelerator, acceleratorFor, probeAccelerator } from "./accelerator.ts";
export { type QemuFacts, queryQemu } from "./capabilities.ts";
export type { Check, Finding } from "./check.ts";
export {
  assertKeepsDirtyPages,
  losesDirtyPages,
  type ProbeOptions,
  probeHost,
} from "./doctor.ts";
export {
  cacheDirectory,
  type FindOptions,
  findQemu,
  parseVersion,
  type QemuBinary,
} from "./find.ts";
export { hostCpuFingerprint } from "./host.ts";
