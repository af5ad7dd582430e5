/** Counts and times of a migration, for progress and for the report at its end. */
import type { Clock } from "../../io/index.ts";
import type { FrameChannel } from "../channel.ts";
import type { AssistReport } from "../../assist/index.ts";
import type {
  CompressionReport,
  MigrateOptions,
  MigrationProgress,
  MigrationReport,
  RoundReport,
  SentCounts,
} from "../job.ts";
import type { RateMeter } from "../rate.ts";
import type { Round, RoundStatus } from "../rounds.ts";
import type { SkipMap } from "../skip-map.ts";
import type { Assistance } from "./assistance.ts";
import type { SourcePhase } from "./machine.ts";
import type { SourcePump } from "./pump.ts";

export interface StatisticsSources {
  readonly clock: Clock;
  readonly channel: FrameChannel;
  readonly pump: SourcePump;
  readonly skip: SkipMap;
  readonly meter: RateMeter;
  readonly assistance: Assistance;
  readonly options: MigrateOptions;
  /** The guest may say which memory it does not use. */
  readonly hintsFreePages: () => boolean;
}

const nothingSent: SentCounts = {
  pageCount: 0,
  zeroCount: 0,
  droppedCount: 0,
  droppedAreaCount: 0,
  staleFetchedCount: 0,
  compressedAwayBytes: 0,
  wireBytes: 0,
};
/** A migration that goes on for ever must not fill memory with what it reports. */
const roundsKeptMax = 200;
const pageBytes = 4096;

export class SourceStatistics {
  readonly #clock: Clock;
  readonly #channel: FrameChannel;
  readonly #pump: SourcePump;
  readonly #skip: SkipMap;
  readonly #meter: RateMeter;
  readonly #assistance: Assistance;
  readonly #options: MigrateOptions;
  readonly #hintsFreePages: () => boolean;
  readonly #rounds: RoundReport[] = [];
  #roundCounts: SentCounts = nothingSent;
  #thawMs = 0;
  #deviceStateMs = 0;
  readonly #startMs: number;
  phase: SourcePhase = "idle";
  memoryBytes = 0;
  verified: boolean | undefined;
  verifyMs: number | undefined;
  #round: Round | undefined;
  #status: RoundStatus | undefined;
  #stoppedMs: number | undefined;
  #loadedMs: number | undefined;
  #handedOverMs: number | undefined;
  #runningMs: number | undefined;
  #endMs: number | undefined;
  /** In the first round, of all memory. */
  #unsentBytes: number | undefined;

  constructor(sources: StatisticsSources) {
    const { clock, channel, pump, skip, meter, assistance, options } = sources;
    this.#hintsFreePages = sources.hintsFreePages;
    this.#clock = clock;
    this.#channel = channel;
    this.#pump = pump;
    this.#skip = skip;
    this.#meter = meter;
    this.#assistance = assistance;
    this.#options = options;
    this.#startMs = clock.nowMs();
  }

  /** What has been sent so far. */
  sentCounts(): SentCounts {
    const { pageCount, zeroCount, staleFetchedCount, sender } = this.#pump;
    const { droppedCount, droppedAreaCount } = this.#skip;
    const { wireBytes } = this.#channel;
    return {
      pageCount,
      zeroCount,
      droppedCount,
      droppedAreaCount,
      staleFetchedCount,
      compressedAwayBytes: sender.compressedAwayBytes,
      wireBytes,
    };
  }

  roundBegan(round: Round, status: RoundStatus): void {
    // QEMU may tell of its first round before the stream has begun here.
    if (this.#round === undefined && round.index > 1) {
      this.#round = { index: 1, dirtyBytes: this.memoryBytes, startMs: this.#startMs };
    }
    this.#closeRound();
    this.#round = round;
    this.#status = status;
  }

  /** `timestampUs` is QEMU's own wall clock, -1 when unknown: our notice of it may come late. */
  stopped(timestampUs: number): void {
    const lateMs = timestampUs < 0 ? 0 : this.#clock.wallMs() - timestampUs / 1000;
    this.#stoppedMs ??= this.#clock.nowMs() - Math.min(Math.max(0, lateMs), 5_000);
  }

  /** `deviceStateMs`: part of the time since the stop, in which all memory was there already. */
  loaded(deviceStateMs: number): void {
    this.#loadedMs = this.#clock.nowMs();
    this.#deviceStateMs = deviceStateMs;
  }

  handedOver(): void {
    this.#handedOverMs = this.#clock.nowMs();
  }

  /** `thawMs`: part of the time since the hand-over, in which the VM ran but its applications did not yet. */
  running(thawMs = 0): void {
    this.#runningMs = this.#clock.nowMs();
    this.#thawMs = Math.min(thawMs, this.#runningMs - (this.#handedOverMs ?? this.#runningMs));
    this.#endMs = this.#runningMs;
    this.#closeRound();
  }

  /** The last one is the one in which the VM was stopped. */
  #closeRound(): void {
    const counts = this.sentCounts();
    const nowMs = this.#clock.nowMs();
    const round = this.#round;
    if (round === undefined) return;
    if (round.index === 1) {
      this.#unsentBytes ??= Math.max(0, this.memoryBytes - seenPages(counts) * pageBytes);
    }
    if (this.#rounds.length < roundsKeptMax) {
      const before = this.#roundCounts;
      this.#rounds.push({
        index: round.index,
        startMs: round.startMs - this.#startMs,
        durationMs: nowMs - round.startMs,
        dirtyBytes: round.dirtyBytes,
        ...difference(counts, before),
      });
    }
    this.#roundCounts = counts;
  }

  progress(): MigrationProgress {
    const nowMs = this.#clock.nowMs();
    const dirtyBytes = this.#round?.dirtyBytes ?? 0;
    const bytesPerMs = this.#meter.recentBytesPerMs(10);
    // Zero pages and pages left out count as done, too.
    const donePages = seenPages(this.sentCounts()) - seenPages(this.#roundCounts);
    const remainingBytes = Math.max(0, dirtyBytes - donePages * pageBytes);
    return {
      role: "source",
      phase: this.phase,
      elapsedMs: nowMs - this.#startMs,
      round: this.#round?.index ?? 0,
      memoryBytes: this.memoryBytes,
      pageCount: this.#pump.pageCount,
      zeroCount: this.#pump.zeroCount,
      droppedCount: this.#skip.droppedCount,
      staleCount: this.#skip.staleCount,
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
      etaMs: this.#etaMs(remainingBytes, bytesPerMs * this.#ratio()),
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
      droppedCount: this.#skip.droppedCount,
      staleFetchedCount: this.#pump.staleFetchedCount,
      droppedAreaCount: this.#skip.droppedAreaCount,
      compressedAwayBytes: this.#pump.sender.compressedAwayBytes,
      ...this.#compressionReport(),
      // Else it is only what was still on its way when the second round began.
      ...(this.#hintsFreePages() && this.#unsentBytes !== undefined
        ? { hintedFreeBytes: this.#unsentBytes }
        : {}),
      roundDetails: this.#rounds,
      assist: this.#assistReport(),
      verified: this.verified,
      verifyMs: this.verifyMs,
    };
  }

  /** Records per byte of body, so far. */
  #ratio(): number {
    const { encodedRawBytes, encodedBodyBytes } = this.#pump.sender;
    return encodedBodyBytes > 0 ? encodedRawBytes / encodedBodyBytes : 1;
  }

  #compressionReport(): { compression?: CompressionReport } {
    const { compress, compressLevel } = this.#options;
    if (compress === "none") return {};
    const { encoder, encodedRawBytes, encodedBodyBytes, encodeMs, besideMs } = this.#pump.sender;
    const methods = encoder.usage?.();
    const { hits, misses } = encoder.counts ?? { hits: 0, misses: 0 };
    return {
      compression: {
        codec: compress,
        ...(compressLevel === undefined ? {} : { level: compressLevel }),
        rawBytes: encodedRawBytes,
        bodyBytes: encodedBodyBytes,
        ratio: this.#ratio(),
        encodeMs: encodeMs + besideMs,
        memoryBytes: encoder.memoryBytes,
        ...(hits + misses === 0 ? {} : { hitShare: hits / (hits + misses) }),
        ...(methods === undefined ? {} : { methods }),
      },
    };
  }

  #assistReport(): AssistReport {
    const report = this.#assistance.report();
    const { standstillAtMs, scrubbedAtMs } = this.#assistance;
    const [stopped, loaded, handedOver, running] = [
      this.#stoppedMs,
      this.#loadedMs,
      this.#handedOverMs,
      this.#runningMs,
    ];
    if (report.hold === undefined || standstillAtMs === undefined || scrubbedAtMs === undefined) {
      return report;
    }
    if (stopped === undefined || loaded === undefined) return report;
    if (handedOver === undefined || running === undefined) return report;
    const { gcMs, freezeMs, scrubMs, goesOn } = report.hold;
    const letGo = goesOn !== "arrived";
    const deviceStateMs = Math.min(this.#deviceStateMs, Math.max(0, loaded - stopped));
    const lastRoundMs = loaded - stopped - deviceStateMs;
    const startAndThawMs = running - handedOver;
    const startMs = startAndThawMs - this.#thawMs;
    const firstPartMs = scrubbedAtMs - standstillAtMs;
    const stopMs = letGo ? 0 : stopped - scrubbedAtMs;
    const thawMs = letGo ? 0 : this.#thawMs;
    return {
      ...report,
      applicationDowntime: {
        totalMs: firstPartMs + stopMs + lastRoundMs + deviceStateMs + startMs + thawMs,
        ...(letGo ? { firstPartMs } : {}),
        gcMs,
        freezeMs,
        scrubMs,
        stopMs,
        lastRoundMs,
        deviceStateMs,
        startMs,
        thawMs,
      },
    };
  }

  /** On one clock, this one: from QEMU's stop until the destination's word arrives, without the comparison of memory. */
  #downtimeMs(): number | undefined {
    if (this.#stoppedMs === undefined || this.#loadedMs === undefined) return undefined;
    if (this.#handedOverMs === undefined || this.#runningMs === undefined) return undefined;
    const startMs = this.#runningMs - this.#handedOverMs - this.#thawMs;
    return this.#loadedMs - this.#stoppedMs + startMs;
  }
}

function difference(now: SentCounts, before: SentCounts): SentCounts {
  return {
    pageCount: now.pageCount - before.pageCount,
    zeroCount: now.zeroCount - before.zeroCount,
    droppedCount: now.droppedCount - before.droppedCount,
    droppedAreaCount: now.droppedAreaCount - before.droppedAreaCount,
    staleFetchedCount: now.staleFetchedCount - before.staleFetchedCount,
    compressedAwayBytes: now.compressedAwayBytes - before.compressedAwayBytes,
    wireBytes: now.wireBytes - before.wireBytes,
  };
}

function finite(value: number | undefined): number | undefined {
  return value === undefined || !Number.isFinite(value) ? undefined : value;
}

function seenPages({ pageCount, zeroCount, droppedCount }: SentCounts): number {
  return pageCount + zeroCount + droppedCount;
}
