/** Recordings of what a running VM's memory does: docs/formats/trace.md. */
export { TraceFile, type TraceFileOptions } from "./create.ts";
export type {
  TraceBatch,
  TraceBlock,
  TraceEnd,
  TraceEpoch,
  TraceFrame,
  TraceHeader,
} from "./format.ts";
export type {
  FromTraceWorker,
  RecordOptions,
  ToTraceWorker,
  TraceJob,
  TraceProgress,
  TraceSummary,
} from "./job.ts";
export { readTrace, readTraceFrames, readTraceHeader } from "./open.ts";
export { RecordedQemu } from "./qemu.ts";
export { recordTrace } from "./record.ts";
export { type ReduceOptions, reduceTrace } from "./reduce.ts";
export { removeUnfinished } from "./unfinished.ts";
