/**
 * What goes into the estimate of what help brings: what the heaps, the guest's processor, the link and the latest rounds say,
 * as src/assist/predict.ts wants it.
 */
import {
  type AssistSession,
  type GoingOn,
  type JvmParticipant,
  naturalMsMax,
  predict,
  type Prediction,
  reserveMs,
  scrubsEarly,
  scrubsPatiently,
  sendRunningMs,
} from "../../assist/index.ts";
import type { MigrateOptions, SentCounts } from "../job.ts";
import type { Round } from "../rounds.ts";

interface Dirtied {
  readonly bytes: number;
  readonly overMs: number;
}

/** Assumed until the link has been measured. */
const linkBytesPerMsAssumed = 117_000;
/**
 * What a guest's processor does, at least: zeroing a process's pages, which QEMU then has to look at; what it takes to freeze
 * and thaw a process; and a collection, which takes as long as it takes to copy what survives.
 */
const processors = {
  kvm: {
    scrubBytesPerMs: 3_000_000,
    lookMsPerZeroPage: 0.001,
    freezeAndThawMs: 10,
    collectionMs: 5,
    survivorBytesPerMs: 500_000,
  },
  emulated: {
    scrubBytesPerMs: 1_200_000,
    lookMsPerZeroPage: 0.0025,
    freezeAndThawMs: 60,
    collectionMs: 10,
    survivorBytesPerMs: 50_000,
  },
} as const;
const phantomWaitMs = 60;
const periodicWaitMs = 700;
/** A link that was not measured yet may be so many times slower than what is assumed. */
const slowerLinkMax = 4;
/** Kernel, threads, and whatever else a guest with a busy application writes; measured after the first round. */
const otherDirtyAssumed: Dirtied = { bytes: 20 << 20, overMs: 5_000 };
const pageBytes = 4096;
const zeroRecordBytes = 9;

type EstimateOptions = Pick<MigrateOptions, "bandwidthBytesPerSecond" | "downtimeLimitMs" | "gc">;

export class HelpEstimate {
  readonly #options: EstimateOptions;
  /** The last round's start, and how long the one before it took. */
  #last:
    | { readonly counts: SentCounts; readonly startMs: number; readonly lastMs: number }
    | undefined;
  #otherDirty = otherDirtyAssumed;
  #processor: (typeof processors)["kvm" | "emulated"] = processors.emulated;

  constructor(options: EstimateOptions) {
    this.#options = options;
  }

  /** The guest's processor is a real one. */
  isKvm(): void {
    this.#processor = processors.kvm;
  }

  /** Of the link: as measured, or assumed until then, within what was asked for. */
  linkBytesPerMs(measured: number | undefined): number {
    const limit = this.#options.bandwidthBytesPerSecond / 1000;
    const rate = measured ?? linkBytesPerMsAssumed;
    return limit > 0 ? Math.min(limit, rate) : rate;
  }

  /** `measuredBytesPerMs`: of the link, once there was a first round. */
  predict(session: AssistSession, measuredBytesPerMs: number | undefined): Prediction {
    const linkBytesPerMs = this.linkBytesPerMs(measuredBytesPerMs);
    const { memoryTotalBytes, memoryFreeBytes } = session.agent.hello;
    const { disposableBytes, jvms } = session;
    const usedBytes = Math.max(disposableBytes, memoryTotalBytes - memoryFreeBytes);
    // Until the first round is over; the link may carry less than what is assumed.
    const firstRoundMs =
      measuredBytesPerMs === undefined ? (usedBytes - disposableBytes) / linkBytesPerMs : 0;
    const goesOn = session.goingOn(linkBytesPerMs);
    const collectionMs = jvms.reduce((sum, jvm) => sum + this.#collectionMs(jvm, goesOn), 0);
    const survivorBytes = jvms.reduce((sum, jvm) => {
      const { survivorUsedBytes, edenUsedBytes } = jvm.heap;
      if (this.#sendsEden(jvm)) {
        const [fromMs, toMs] = [firstRoundMs, firstRoundMs * slowerLinkMax];
        return sum + survivorUsedBytes + jvm.allocation.usedLaterBytes(jvm.heap, fromMs, toMs);
      }
      // Collected or sent, as it happens to be filled then.
      const most = Math.min(edenUsedBytes, linkBytesPerMs * sendRunningMs.periodic);
      return sum + survivorUsedBytes + (isCollectedEarly(jvm, goesOn) ? most / 2 : 0);
    }, 0);
    return predict({
      usedBytes,
      disposableBytes,
      disposableBytesMax: Math.max(
        disposableBytes,
        jvms.reduce((sum, { heap }) => sum + heap.youngBytes, 0),
      ),
      allocationBytesPerMs: allocationBytesPerMs(session),
      otherDirtyBytes: this.#otherDirty.bytes,
      otherDirtyMs: this.#otherDirty.overMs,
      linkBytesPerMs,
      downtimeLimitMs: this.#options.downtimeLimitMs,
      holdMs: collectionMs + this.#freezeAndScrubMs(session.lateScrubBytes),
      waitMs: Math.max(0, ...jvms.map(waitMsOf)) + session.hastyScrubMs,
      survivorBytes,
    });
  }

  /** One that allocates slowly, and whose collection would take too long, is not collected. */
  #sendsEden(jvm: JvmParticipant): boolean {
    const isAuto = this.#options.gc === "auto";
    return isAuto && !jvm.isIdle && scrubsPatiently(jvm) && jvm.provokedMs > this.pauseMsMax;
  }

  /** Judged by the collections that it had; if they are not known, by what it has to copy. */
  #collectionMs(jvm: JvmParticipant, goesOn: GoingOn): number {
    if (jvm.isIdle || this.#sendsEden(jvm)) return 0;
    if (isCollectedEarly(jvm, goesOn)) return 0;
    const { collectionMs, survivorBytesPerMs } = this.#processor;
    return jvm.collectionMs ?? collectionMs + jvm.heap.survivorUsedBytes / survivorBytesPerMs;
  }

  /** As long as a VM that is migrated without help would stand still. */
  get pauseMsMax(): number {
    return Math.max(reserveMs, this.#options.downtimeLimitMs - reserveMs);
  }

  #freezeAndScrubMs(bytes: number): number {
    const { freezeAndThawMs, scrubBytesPerMs, lookMsPerZeroPage } = this.#processor;
    return freezeAndThawMs + bytes / scrubBytesPerMs + (bytes / pageBytes) * lookMsPerZeroPage;
  }

  /**
   * What a round has to send, hinted pages apart: QEMU counts those as dirty as any. From the third round on it is taken from
   * what the round before really kept, which was dirtied during the one before that. Dirtied memory grows more slowly than
   * time, as the same pages are written again: hence the square root.
   */
  adjust(round: Round, counts: SentCounts): Round {
    const last = this.#last;
    const lastMs = last === undefined ? 0 : Math.max(1, round.startMs - last.startMs);
    this.#last = { counts, startMs: round.startMs, lastMs };
    if (last === undefined || last.lastMs === 0) return round;
    const keptBytes =
      (counts.pageCount - last.counts.pageCount) * pageBytes +
      (counts.zeroCount - last.counts.zeroCount) * zeroRecordBytes;
    this.#otherDirty = { bytes: keptBytes, overMs: last.lastMs };
    const restBytes = keptBytes * Math.min(1, Math.sqrt(lastMs / last.lastMs));
    return { ...round, dirtyBytes: Math.min(round.dirtyBytes, Math.round(restBytes)) };
  }

  /** The first round is over: what it found dirty counts, less what applications may have written of their own. */
  firstRoundFound(round: Round, session: AssistSession): void {
    const overMs = this.#last?.lastMs || otherDirtyAssumed.overMs;
    const young = Math.min(session.disposableBytes, allocationBytesPerMs(session) * overMs);
    this.#otherDirty = { bytes: Math.max(1 << 20, round.dirtyBytes - young), overMs };
  }
}

/** Of all JVMs together. */
function allocationBytesPerMs({ jvms }: AssistSession): number {
  return jvms.reduce((sum, { allocation }) => sum + (allocation.bytesPerMs ?? 0), 0);
}

/** G1, zeroed early, is not asked for another collection when it is held. */
function isCollectedEarly(jvm: JvmParticipant, goesOn: GoingOn): boolean {
  return goesOn === "rounds" && jvm.vm.collector === "g1" && scrubsEarly(jvm);
}

/** How long its next collection is waited for, if that was not done while the first round ended. */
function waitMsOf(jvm: JvmParticipant): number {
  const { vm, heap, allocation, isIdle } = jvm;
  if (isIdle) return 0;
  if (scrubsEarly(jvm)) return phantomWaitMs;
  const fullInMs = allocation.fullInMs(heap) ?? Number.POSITIVE_INFINITY;
  if (vm.collector !== "g1") return Math.min(phantomWaitMs, fullInMs);
  return fullInMs <= naturalMsMax.periodic ? fullInMs : periodicWaitMs;
}
