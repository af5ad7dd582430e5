/**
 * What a recording is told and tells, and what the daemon and its worker process say to each other, over Node's IPC channel
 * (plain JSON). When the channel closes (the daemon died) the worker ends the recording; what was recorded is kept.
 */
import type { ErrorRecord } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import type { MigrationSettings } from "../qemu/qmp/index.ts";
import type { TraceHeader } from "./format.ts";

export interface RecordOptions {
  readonly clock: Clock;
  /** A monitor of the QEMU that nobody else uses meanwhile. */
  readonly qmpPath: string;
  /** For the socket; exists. */
  readonly runtimeDirectory: string;
  /** Tells this recording's files from others'. */
  readonly id: string;
  readonly vmName: string;
  readonly workload?: string;
  readonly accelerator?: string;
  readonly note?: string;
  /** Must not be there yet. */
  readonly path: string;
  readonly intervalMs: number;
  /** Of the recording after the base image. */
  readonly durationMs: number;
  readonly base?: TraceHeader["base"];
  /** One of so many pages is kept; default 1: all. */
  readonly pages?: number;
  /** With base "touched": one of so many pages that nobody writes. */
  readonly basePages?: number;
  /** The recording ends when its file has grown to this. Default 4 GiB. */
  readonly fileBytesMax?: number;
  readonly onProgress?: (progress: TraceProgress) => void;
  /** Before anything is changed in QEMU: what to put back should this process not come to it. */
  readonly onSettings?: (settings: MigrationSettings) => void;
  /** Ends the recording; what was recorded is kept. */
  readonly signal?: AbortSignal;
  /** Gives up what follows it, making the recording smaller, which may take minutes: nothing is kept. */
  readonly discard?: AbortSignal;
}

export interface TraceProgress {
  readonly phase: "base" | "recording" | "finishing";
  readonly elapsedMs: number;
  readonly memoryBytes: number;
  /** Epochs after the base. */
  readonly epochCount: number;
  /** Read so far, and of the last epoch. */
  readonly pageCount: number;
  readonly dirtyPageCount: number;
  readonly rawBytes: number;
  readonly fileBytes: number;
  /** While the recording is made smaller: how much of that is done, 0 to 1. */
  readonly doneShare?: number | undefined;
}

export interface TraceSummary {
  readonly path: string;
  /** Why it ended. size: the file had grown to its limit. stopped: somebody stopped the VM; then it has everything. */
  readonly ended: "duration" | "size" | "cancelled" | "stopped";
  readonly memoryBytes: number;
  readonly epochCount: number;
  readonly intervalMs: number;
  /** What the epochs lasted. */
  readonly medianIntervalMs: number;
  readonly basePageCount: number;
  readonly medianDirtyPages: number;
  /** Records, in bytes. */
  readonly rawBytes: number;
  readonly fileBytes: number;
  /** Epochs that ended although QEMU had not sent everything in time. */
  readonly lateCount: number;
  readonly recordedMs: number;
}

/** Everything of a recording that is data. */
export type TraceJob = Omit<
  RecordOptions,
  "clock" | "onProgress" | "onSettings" | "signal" | "discard"
>;

export type ToTraceWorker =
  | { readonly type: "start"; readonly job: TraceJob }
  | { readonly type: "cancel" }
  /** After `cancel`: see `discard` of RecordOptions. */
  | { readonly type: "discard" };

export type FromTraceWorker =
  /** What the daemon puts back in QEMU should this worker die. */
  | { readonly type: "settings"; readonly settings: MigrationSettings }
  | { readonly type: "progress"; readonly progress: TraceProgress }
  | { readonly type: "finished"; readonly summary: TraceSummary }
  | { readonly type: "failed"; readonly error: ErrorRecord };
