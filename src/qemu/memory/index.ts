export { findListener } from "./find-process.ts";
export { GuestMemory, type HumanMonitor } from "./guest-memory.ts";
export { parseRamBlocks, type RamBlockPlace } from "./ram-blocks.ts";
