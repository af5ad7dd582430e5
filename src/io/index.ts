export { type Clock, sleep, systemClock, threadIdleMs } from "./clock.ts";
export { withDeadline } from "./deadline.ts";
export {
  defaultSlabOptions,
  Slab,
  type SlabConsumer,
  type SlabOptions,
  SlabReceiver,
} from "./slab-receiver.ts";
export {
  type DetachedProcess,
  type DetachedSpec,
  isRunning,
  type KillOptions,
  killProcess,
  type ProcessIdentity,
  type Processes,
  type RunOptions,
  type RunResult,
  systemProcesses,
} from "./process.ts";
export { adoptSocket } from "./adopt-socket.ts";
export { acceptTls, loadTlsCredentials, type TlsCredentials } from "./tls.ts";
export { type CertificateNames, createPrivateCa, issueHostCertificates } from "./tls-issue.ts";
