/** The daemon's contract for clients: types, paths and a client. Schemas are in contract/index.ts. */
export {
  defaultRuntimeDirectory,
  defaultSocketPath,
  formatHostPort,
  type HostPort,
  isLoopback,
  migrationPortDefault,
  parseHostPort,
} from "./address.ts";
export { compressChoices } from "./choices.ts";
export { type CallOptions, type ClientTarget, GodwitClient } from "./client.ts";
export { fillPath, paths, type RouteName } from "./paths.ts";
export { EventDecoder, encodeEvent, heartbeat } from "./sse.ts";
export type * from "./types.ts";
