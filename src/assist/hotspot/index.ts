export type { Collector } from "./flags.ts";
export type { HeapFigures, HeapSnapshot, MemoryWrite } from "./heap.ts";
export type { ProcessMemory } from "./memory.ts";
export { HotspotVm, type PeriodicCollection } from "./vm.ts";
