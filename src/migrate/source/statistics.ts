/** Counts and times of a migration, for progress and for the report at its end. */
import type { Clock } from "../../io/index.ts";
import type { FrameChannel } from "../channel.ts";
import type { MigrationProgress, MigrationReport } from "../job.ts";
import type { RateMeter } from "../rate.ts";
import type { Round, RoundStatus } from "../rounds.ts";
import type { SkipMap } from "../skip-map.ts";
import type { SourcePhase } from "./machine.ts";
import type { SourcePump } from "./pump.ts";

export class SourceStatistics {
  readonly #clock: Clock;
  readonly #channel: FrameChannel;
  readonly #pump: SourcePump;
  readonly #skip: SkipMap | undefined;
  readonly #meter: RateMeter;
  readonly #startMs: number;
  phase: SourcePhase = "idle";
  memoryBytes = 0;
  verified: boolean | undefined;
  verifyMs: number | undefined;
  #round: Round | undefined;
  #status: RoundStatus | undefined;
  /** Bytes sent at the start of the round. */
  #roundSentBytes = 0;
  #stoppedMs: number | undefined;
  #loadedMs: number | undefined;
  #handedOverMs: number | undefined;
  #runningMs: number | undefined;
  #endMs: number | undefined;

  constructor(
    clock: Clock,
    channel: FrameChannel,
    pump: SourcePump,
    skip: SkipMap | undefined,
    meter: RateMeter,
  ) {
    this.#clock = clock;
    this.#channel = channel;
    this.#pump = pump;
    this.#skip = skip;
    this.#meter = meter;
    this.#startMs = clock.nowMs();
  }

  roundBegan(round: Round, status: RoundStatus): void {
    this.#round = round;
    this.#status = status;
    this.#roundSentBytes = this.#pump.sentBytes;
  }

  /** `timestampUs` is QEMU's own wall clock, -1 when unknown: our notice of it may come late. */
  stopped(timestampUs: number): void {
    const lateMs = timestampUs < 0 ? 0 : this.#clock.wallMs() - timestampUs / 1000;
    this.#stoppedMs ??= this.#clock.nowMs() - Math.min(Math.max(0, lateMs), 5_000);
  }

  loaded(): void {
    this.#loadedMs = this.#clock.nowMs();
  }

  handedOver(): void {
    this.#handedOverMs = this.#clock.nowMs();
  }

  running(): void {
    this.#runningMs = this.#clock.nowMs();
    this.#endMs = this.#runningMs;
  }

  progress(): MigrationProgress {
    const nowMs = this.#clock.nowMs();
    const dirtyBytes = this.#round?.dirtyBytes ?? 0;
    const sentBytes = this.#pump.sentBytes - this.#roundSentBytes;
    const bytesPerMs = this.#meter.recentBytesPerMs(10);
    const remainingBytes = Math.max(0, dirtyBytes - sentBytes);
    return {
      role: "source",
      phase: this.phase,
      elapsedMs: nowMs - this.#startMs,
      round: this.#round?.index ?? 0,
      memoryBytes: this.memoryBytes,
      pageCount: this.#pump.pageCount,
      zeroCount: this.#pump.zeroCount,
      droppedCount: this.#skip?.droppedCount ?? 0,
      staleCount: this.#skip?.staleCount ?? 0,
      streamBytes: this.#pump.streamBytes,
      wireBytes: this.#channel.wireBytes,
      bytesPerSecond: bytesPerMs * 1000,
      dirtyBytes,
      remainingBytes,
      dirtyBytesPerSecond: this.#status?.dirtyBytesPerSecond,
      // In the first copy everything is left: a number then would only frighten.
      expectedDowntimeMs: this.#isFirstCopy()
        ? undefined
        : finite(this.#status?.expectedDowntimeMs),
      etaMs: this.#etaMs(remainingBytes, bytesPerMs),
      stalled: this.#status?.stalled ?? false,
    };
  }

  #isFirstCopy(): boolean {
    return (this.#round?.index ?? 0) < 2;
  }

  /** Geometric series of rounds that shrink as the dirty rate is below the link's; unknown otherwise. */
  #etaMs(remainingBytes: number, bytesPerMs: number): number | undefined {
    if (bytesPerMs <= 0) return undefined;
    const dirtyPerMs = (this.#status?.dirtyBytesPerSecond ?? 0) / 1000;
    const share = dirtyPerMs / bytesPerMs;
    return share >= 0.95 ? undefined : remainingBytes / bytesPerMs / (1 - share);
  }

  report(): MigrationReport {
    return {
      totalMs: (this.#endMs ?? this.#clock.nowMs()) - this.#startMs,
      downtimeMs: this.#downtimeMs(),
      rounds: this.#round?.index ?? 0,
      memoryBytes: this.memoryBytes,
      streamBytes: this.#pump.streamBytes,
      wireBytes: this.#channel.wireBytes,
      pageCount: this.#pump.pageCount,
      zeroCount: this.#pump.zeroCount,
      droppedCount: this.#skip?.droppedCount ?? 0,
      staleFetchedCount: this.#pump.staleFetchedCount,
      verified: this.verified,
      verifyMs: this.verifyMs,
    };
  }

  /** On one clock, this one: from QEMU's stop until the destination's word arrives, without the comparison of memory. */
  #downtimeMs(): number | undefined {
    if (this.#stoppedMs === undefined || this.#loadedMs === undefined) return undefined;
    if (this.#handedOverMs === undefined || this.#runningMs === undefined) return undefined;
    return this.#loadedMs - this.#stoppedMs + (this.#runningMs - this.#handedOverMs);
  }
}

function finite(value: number | undefined): number | undefined {
  return value === undefined || !Number.isFinite(value) ? undefined : value;
}
