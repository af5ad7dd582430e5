/**
 * The beginning, when nothing is known of the link: records go as they are, which is the best there is on a fast one, and no more
 * of them are in flight than a slow one gets rid of soon. The same idea as the slow start of TCP, and the start of BBR. Pure.
 *
 * Of the link itself nothing is seen but what arrives, and everything is cold: code, memory, caches. So it counts as slow only
 * when it is the link that both sides wait for, twice in a row, and when what arrives does not grow with what is in flight. A busy
 * processor stands still for as long as two looks are apart, and then much less arrives than the link carries, but still some: only
 * of a link that is very slow two looks are enough, others are looked at once more, with more in flight. What has carried very little for
 * a longer time while records waited is slow even if the destination seems to be what they waited for.
 */
import { inFlightMs, ownBytesPerMsFirst } from "./race.ts";
import type { Seen } from "./surroundings.ts";

const bytesFirst = 256 << 10;
/** A link that carries so much may carry anything: more may be in flight. */
const freeBytesPerMs = 60_000;
const freeInFlightMs = 20;
const waitingShareMin = 0.3;
const destinationIdleShareMin = 0.3;
const growthMin = 1.25;
/** What carries less is slow for sure: about 250 Mbit/s. */
const verySlowBytesPerMsMax = 30_000;
/** What carries more is not slow: about 1 Gbit/s. */
const slowBytesPerMsMax = ownBytesPerMsFirst * 1.05;

/** In so long a time it has carried what it can, if records waited for so much of it: who else did says little on busy processors. */
const meanMsMin = 120;
const meanWaitingShareMin = 0.2;

/** The beginning is over when the link is known to be slow, or after so long. */
const startMsMax = 250;

export class Start {
  #firstMs: number | undefined;
  #bytesMax = bytesFirst;
  /** Arrived per ms at the latest look, if the link was what all waited for. */
  #fullBytesPerMs: number | undefined;
  #mayBeSlow = false;
  /** Had arrived then. */
  worth = 0;
  /** And at the first look. */
  #firstWorth: number | undefined;
  #lastMs: number | undefined;
  #waitedMs = 0;

  /** `bytesPerMs`: what arrived since the latest look. */
  inFlightBytesMax(bytesPerMs: number): number {
    const bytes = bytesPerMs * (bytesPerMs >= freeBytesPerMs ? freeInFlightMs : inFlightMs);
    return Math.max(this.#bytesMax, bytes);
  }

  /** After the first look it takes some time. */
  isOver(nowMs: number): boolean {
    this.#firstMs ??= nowMs;
    return nowMs - this.#firstMs >= startMsMax;
  }

  /**
   * `worth`: arrived in all; `waitingShare`: since the last call. Answers true when so little has arrived since the first look, and
   * records have waited for so long, that the link is slow for sure.
   */
  wasSlow(nowMs: number, worth: number, waitingShare: number): boolean {
    this.#firstMs ??= nowMs;
    this.#firstWorth ??= worth;
    this.#waitedMs += (nowMs - (this.#lastMs ?? nowMs)) * waitingShare;
    this.#lastMs = nowMs;
    const ms = nowMs - this.#firstMs;
    if (ms < meanMsMin || this.#waitedMs < ms * meanWaitingShareMin) return false;
    return worth - this.#firstWorth < ms * verySlowBytesPerMsMax;
  }

  /** Looks at the link. Answers true when it is slow for sure. */
  isSlow({ bytesPerMs, waitingShare, destinationIdleShare }: Seen): boolean {
    const before = this.#fullBytesPerMs;
    const isFull =
      waitingShare >= waitingShareMin && destinationIdleShare >= destinationIdleShareMin;
    this.#fullBytesPerMs = isFull ? bytesPerMs : undefined;
    this.#bytesMax = Math.max(this.#bytesMax * 2, this.inFlightBytesMax(bytesPerMs));
    const wasSlow = this.#mayBeSlow;
    const bytesPerMsMax = Math.min((before ?? 0) * growthMin, slowBytesPerMsMax);
    this.#mayBeSlow = isFull && bytesPerMs < bytesPerMsMax;
    return this.#mayBeSlow && (wasSlow || bytesPerMs < verySlowBytesPerMsMax);
  }
}
