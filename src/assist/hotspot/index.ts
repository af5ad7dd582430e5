export type { Collector } from "./flags.ts";
export type { HeapFigures, HeapSnapshot, MemoryWrite } from "./heap.ts";
export type { ProcessMemory } from "./memory.ts";
export type { PauseTimes } from "./perf-data.ts";
export { HotspotVm, type PeriodicCollection } from "./vm.ts";
