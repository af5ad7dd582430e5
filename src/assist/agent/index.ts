/** The guest's agent, as the host sees it. */
export { AgentClient, type AgentClientOptions } from "./client.ts";
export {
  type AgentApplication,
  type AgentErrorName,
  type AgentEventName,
  type AgentHello,
  type AgentProcess,
  type AgentProcessIdentity,
  type ApplicationReadiness,
  type DropCachesResult,
  type FrameRuns,
  type FreeMemoryResult,
  type HoldOptions,
  type HoldResult,
  type ScrubResult,
  type ThawResult,
  type WriteOptions,
} from "./format.ts";
