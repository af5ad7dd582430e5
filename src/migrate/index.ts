export type { FaultPoint } from "./fault-point.ts";
export {
  type CompressionReport,
  type Deadlines,
  defaultMigrateOptions,
  type FromWorker,
  type Job,
  type MigrateOptions,
  type MigrationOutcome,
  type MigrationProgress,
  type MigrationReport,
  type PreparedVm,
  type ReceiveJob,
  type Role,
  type SendJob,
  type ToWorker,
  type TransportOptions,
  workerArguments,
} from "./job.ts";
export { resolveAtDestination } from "./source/resolve.ts";
export { checkTransport, isLoopback } from "./transport.ts";
export { workerEnvironment } from "./worker-environment.ts";
