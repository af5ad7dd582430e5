/**
 * What the daemon and a migration's worker process say to each other, over Node's IPC channel (plain JSON).
 *
 * One worker carries one side of one migration: it holds the connection to the other godwit, the stream's socket, and
 * QEMU's second monitor. A hostile stream, or a crash, stays in it. The daemon starts QEMUs, keeps the list of VMs, and
 * passes on progress. When the channel closes (the daemon died) a worker gives up what is not handed over yet and
 * completes what is.
 */
import type { ErrorRecord } from "../base/index.ts";
import type { AssistReport } from "../assist/index.ts";
import { type CodecChoice, codecMemoryBytesDefault, type MethodUsage } from "../codec/index.ts";
import type { FaultPoint } from "./fault-point.ts";
import type { StallAction } from "./rounds.ts";

/**
 * For `node`, before the worker's path. What a worker allocates lives for microseconds; with V8's usual room for young
 * objects (3 x 16 MiB) garbage would be half of its memory. `gc` is called once, while a worker waits; what its warm-up
 * compiled is not to be thrown away for that.
 */
export const workerArguments: readonly string[] = [
  "--max-semi-space-size=1",
  "--expose-gc",
  "--no-flush-bytecode",
];

export type AssistChoice = "auto" | "off" | "require";
export type GcChoice = "auto" | "wait" | "provoke" | "none";

export interface MigrateOptions {
  readonly downtimeLimitMs: number;
  /** Limit on what goes to the other godwit; 0 = none. */
  readonly bandwidthBytesPerSecond: number;
  /** Limit on the whole migration; 0 = none. */
  readonly timeoutMs: number;
  readonly timeoutAction: "cancel" | "switch-over";
  readonly whenStalled: StallAction;
  /** Compare all guest memory while both VMs are stopped. */
  readonly verify: boolean;
  /** Whether applications in the guest take part: when it pays, never, or the migration is not to begin without. */
  readonly assist: AssistChoice;
  /** How a Java VM comes to a garbage collection before the switch-over: whichever is sooner, by itself, made to, not at all. */
  readonly gc: GcChoice;
  /** How long applications may take to get ready for the switch-over; then it goes on without them. */
  readonly assistTimeoutMs: number;
  /** Before the first round the guest gives up its clean page cache, and zeroes what is free. */
  readonly dropCaches: boolean;
  readonly compress: CodecChoice;
  /** The codec's own default when absent. */
  readonly compressLevel?: number;
  /** What codecs that remember earlier pages (delta, similarity, hybrid, auto) may keep, at either end. */
  readonly compressMemoryBytes: number;
  /** For tests of the stale-page bookkeeping: leave this share of pages out of every round, chosen from `dropSeed`. */
  readonly dropShare: number;
  readonly dropSeed: number;
}

export const defaultMigrateOptions: MigrateOptions = {
  downtimeLimitMs: 300,
  bandwidthBytesPerSecond: 0,
  timeoutMs: 0,
  timeoutAction: "cancel",
  whenStalled: "switch-over",
  verify: false,
  assist: "auto",
  gc: "auto",
  assistTimeoutMs: 5_000,
  dropCaches: false,
  compress: "none",
  compressMemoryBytes: codecMemoryBytesDefault,
  dropShare: 0,
  dropSeed: 1,
};

/** Directory with QEMU's file names (ca-cert.pem, …), or plain TCP. */
export interface TransportOptions {
  readonly tlsDirectory: string | undefined;
  /** Allows plain TCP to and from other machines. */
  readonly insecure: boolean;
}

/** Every wait of a session, in ms. The defaults stand in the sessions; tests that break things cannot wait as long. */
export interface Deadlines {
  readonly setupMs: number;
  readonly prepareMs: number;
  readonly switchoverMs: number;
  readonly handoverMs: number;
  readonly abortMs: number;
  readonly decideMs: number;
  readonly startMs: number;
  readonly discardMs: number;
  /** Silence after which the other godwit counts as lost. */
  readonly peerSilenceMs: number;
}

export interface SendJob {
  readonly kind: "send";
  readonly migrationId: string;
  readonly vmName: string;
  /** The definition for the destination to start; absent when a QEMU waits there under `vmName`. */
  readonly definition?: Record<string, unknown>;
  /** A monitor of the source QEMU that nobody else uses meanwhile. */
  readonly qmpPath: string;
  /** QEMU's process; found through the monitor's socket when absent. */
  readonly pid?: number;
  /** The socket of the guest agent's port, where QEMU's own monitor does not tell the one to use. */
  readonly agentPath?: string;
  readonly host: string;
  readonly port: number;
  readonly transport: TransportOptions;
  /** For sockets and journals; exists. */
  readonly runtimeDirectory: string;
  readonly options: MigrateOptions;
  readonly deadlines?: Partial<Deadlines>;
  readonly stopAt?: FaultPoint;
}

/** The accepted connection follows the message `start` as its handle. */
export interface ReceiveJob {
  readonly kind: "receive";
  readonly peerAddress: string;
  readonly transport: TransportOptions;
  readonly runtimeDirectory: string;
  readonly deadlines?: Partial<Deadlines>;
  readonly stopAt?: FaultPoint;
}

export type Job = SendJob | ReceiveJob;

/** A QEMU at the destination that waits for a stream. */
export interface PreparedVm {
  readonly qmpPath: string;
  readonly pid?: number;
  /** From /proc/PID/stat: with the pid it names the process for good. */
  readonly startTimeTicks?: number;
  /** True: godwit started it for this migration, and ends it when the migration fails. */
  readonly launched: boolean;
}

export type ToWorker =
  | { readonly type: "start"; readonly job: Job }
  | { readonly type: "cancel" }
  /** Answers to `prepare-vm`. */
  | { readonly type: "vm-prepared"; readonly vm: PreparedVm }
  | { readonly type: "vm-refused"; readonly error: ErrorRecord }
  /** Answer to `resolve`. */
  | { readonly type: "resolved"; readonly state: string };

export type FromWorker =
  /** Destination: the peer's offer, to be turned into a waiting QEMU. */
  | {
      readonly type: "prepare-vm";
      readonly migrationId: string;
      readonly vmName: string;
      readonly definition?: Record<string, unknown>;
      readonly sourceHost: string;
      readonly run: boolean;
    }
  /** Destination: a source reports how a migration ended whose connection was lost. */
  | {
      readonly type: "resolve";
      readonly migrationId: string;
      readonly outcome: "handed-over" | "aborted";
    }
  | { readonly type: "progress"; readonly progress: MigrationProgress }
  /** A sentence for people: decisions and what happened. */
  | { readonly type: "say"; readonly text: string }
  | { readonly type: "finished"; readonly outcome: MigrationOutcome };

export type Role = "source" | "destination";

/** Sent a few times a second and at every change of phase. */
export interface MigrationProgress {
  readonly role: Role;
  readonly phase: string;
  readonly elapsedMs: number;
  /** 1 = first copy of all memory. */
  readonly round: number;
  readonly memoryBytes: number;
  /** Pages that went whole, and pages that went as "zero": together all that went. */
  readonly pageCount: number;
  readonly zeroCount: number;
  /** Pages left out so far, and how many of them the destination still lacks. */
  readonly droppedCount: number;
  readonly staleCount: number;
  /** Bytes read from (or written to) QEMU. */
  readonly streamBytes: number;
  /** Bytes on the connection between the godwits, frame headers included. */
  readonly wireBytes: number;
  readonly bytesPerSecond: number;
  /** What the current round had to send at its start, and how much of it is left by now. */
  readonly dirtyBytes: number;
  readonly remainingBytes: number;
  readonly dirtyBytesPerSecond: number | undefined;
  readonly expectedDowntimeMs: number | undefined;
  /** Until switch-over, if rounds go on as now. */
  readonly etaMs: number | undefined;
  readonly stalled: boolean;
}

/** What went, and what did not, counted in pages unless named otherwise. */
export interface SentCounts {
  readonly pageCount: number;
  readonly zeroCount: number;
  /** Left out: of Java VMs' young generations, and of areas that programs declared. */
  readonly droppedCount: number;
  /** The latter of these. */
  readonly droppedAreaCount: number;
  readonly staleFetchedCount: number;
  readonly compressedAwayBytes: number;
  readonly wireBytes: number;
}

export interface RoundReport extends SentCounts {
  readonly index: number;
  /** Since the start of the migration. */
  readonly startMs: number;
  readonly durationMs: number;
  /** What it had to send, as far as known at its start. */
  readonly dirtyBytes: number;
}

/** What the codec did, from the source's end. */
export interface CompressionReport {
  readonly codec: CodecChoice;
  readonly level?: number;
  /** Records that went in, the bodies that came out, and how many times as long the former are. */
  readonly rawBytes: number;
  readonly bodyBytes: number;
  readonly ratio: number;
  /** Time of the data path's thread. */
  readonly encodeMs: number;
  /** Memory that the codec holds at this end, at the end. */
  readonly memoryBytes: number;
  /** Share of the pages of which an earlier version was at hand, for codecs that look for one. */
  readonly hitShare?: number;
  /** With `auto`: by method. */
  readonly methods?: readonly MethodUsage[];
}

export interface MigrationReport {
  readonly totalMs: number;
  /** VM stopped at the source until it runs at the destination, without the time that verification took. */
  readonly downtimeMs: number | undefined;
  readonly rounds: number;
  readonly memoryBytes: number;
  readonly streamBytes: number;
  readonly wireBytes: number;
  readonly pageCount: number;
  readonly zeroCount: number;
  readonly droppedCount: number;
  readonly staleFetchedCount: number;
  /** The source's: absent at the destination. */
  readonly droppedAreaCount?: number;
  readonly compressedAwayBytes?: number;
  /**
   * What QEMU left out of the first round because the guest had said that it does not use it (virtio-balloon's free-page-hint), as far as
   * the round can tell. Absent without such a device, and at the destination.
   */
  readonly hintedFreeBytes?: number;
  /** Absent without a codec. */
  readonly compression?: CompressionReport;
  readonly roundDetails?: readonly RoundReport[];
  readonly assist?: AssistReport;
  /** Undefined when not asked for. */
  readonly verified: boolean | undefined;
  readonly verifyMs: number | undefined;
}

export interface MigrationOutcome {
  readonly role: Role;
  /**
   * done: the VM is at the destination. failed, cancelled: it is at the source. unconfirmed (source): handed over, but the
   * destination did not answer. uncertain (destination): loaded and kept stopped, because the source fell silent.
   */
  readonly result: "done" | "failed" | "cancelled" | "unconfirmed" | "uncertain";
  readonly migrationId: string;
  readonly vmName: string;
  readonly error?: ErrorRecord;
  /** What a person should know, in a sentence or two. */
  readonly text: string;
  readonly report: MigrationReport;
}
