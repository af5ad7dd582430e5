export { type AgentPort, findAgentPort } from "./agent-port.ts";
export { findListener } from "./find-process.ts";
export { GuestMemory, type HumanMonitor } from "./guest-memory.ts";
export { type PhysicalMap, type PieceUse, parsePhysicalMap } from "./physical-map.ts";
export { parseRamBlocks, type RamBlockPlace } from "./ram-blocks.ts";
export { type OnTouched, UntouchedMemory } from "./untouched-memory.ts";
