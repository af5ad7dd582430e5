/**
 * Which method the next batch is encoded with. Pure: time and figures come as arguments, so whole migrations are simulated
 * in its tests.
 *
 *   the first ──the link has shown itself──▶ using one ──after 1 s, if something is better──▶ using another
 *                                               │   ▲
 *                                               └───┘ now and then some batches as a trial of another
 *
 * At the beginning, when little is known, a decision stands less long.
 *
 * What a method encodes is really sent that way, trials too: a method with a history must see what its decoder sees.
 *
 * A trial may cost time (a slow method on a fast link) or bytes (a weak one on a slow link); both are time in the end. Trials
 * are paid from a budget of 1 % of the time that has passed, and a method that lost by far waits longer each time.
 * *Rejected:* deciding by what memory looks like (entropy of a sample). It says nothing about what a history would save, and
 * a trial costs hardly more.
 */
import { assert } from "../../base/index.ts";
import { Estimate } from "./estimate.ts";
import {
  type Behaviour,
  isBetter,
  predict,
  type Prediction,
  speedGainMin,
  type Surroundings,
} from "./model.ts";
import { Link, Source } from "./surroundings.ts";

export interface Method {
  readonly name: string;
  /** It saves more once it has seen what is sent: it is preferred where it costs nothing. */
  readonly hasHistory: boolean;
  /** Sends records as they are: known without a trial. */
  readonly isFree: boolean;
}

/** A trial ends when it has seen this much in so many batches; batches of little but zero pages say little. */
const trialBytes = 512 << 10;
const trialBatchesMin = 4;
const trialBatchesMax = 12;
/** The first batches of a method take longer: code is compiled, memory is touched for the first time. */
const warmUpBatches = 2;
const trialShare = 0.01;
/** However long nothing was tried. */
const trialBudgetMsMax = 30;
const trialEveryMsMin = 2_000;
const trialEveryMsMax = 60_000;
/** A method that has not been seen for that long may have become twice as good. */
const doubtMs = 20_000;
const doubtMax = 3;
/** When what the method in use saves has changed so much, the others are looked at anew. */
const changeMin = 1.5;

/** A decision stands for half of the time that has passed since the beginning, within these limits. */
const patienceMsMin = 10;
const patienceMsMax = 1_000;
/** What a history may cost: more until it is known well, as two trials see different pages. */
const historyPriceMax = 0.04;
const youngHistoryPriceMax = 0.15;
const youngBytes = 32 << 20;
/** A gain by chance is no reason to give a history up: another compressor without one has to be so much faster. */
const historyWorth = 1.1;

/** Weighing whether a trial is due is not for every batch. */
const lookEveryMs = 10;

/** As good as a method may turn out to be that was not seen yet: what is not worth a look then is not looked at. */
const unseenRatio = 10;
const unseenGain = 2;
const unseenMsPerByte = 1 / 1_300_000;

interface Candidate extends Method {
  readonly estimate: Estimate;
  batchCount: number;
  rawBytes: number;
  seenMs: number;
  /** What the method that is in use now saved at that time, as far as known. */
  seenRatio: number;
  trialDueMs: number;
  trialEveryMs: number;
}

export class Chooser {
  readonly #candidates: readonly Candidate[];
  #current: number;
  #decidedMs: number;
  #wasDecided = false;
  #trial: { readonly index: number; bytes: number; batchCount: number } | undefined;
  #budgetMs = 0;
  #budgetAtMs: number;
  #lookAtMs = 0;
  readonly #link = new Link();
  readonly #source = new Source();
  readonly #startMs: number;
  #linkAtMs: number;
  /** Since then. */
  #encodeMs = 0;
  #isSettled = false;
  switchCount = 0;

  /** `start`: the index of the method for the time until the link is known. */
  constructor(methods: readonly Method[], start: number, nowMs: number) {
    assert(start < methods.length, "a method to start with");
    this.#candidates = methods.map((method) => ({
      ...method,
      estimate: new Estimate(),
      batchCount: 0,
      rawBytes: 0,
      seenMs: nowMs,
      seenRatio: 1,
      trialDueMs: nowMs,
      trialEveryMs: trialEveryMsMin,
    }));
    this.#current = start;
    this.#startMs = nowMs;
    this.#decidedMs = nowMs;
    this.#budgetAtMs = nowMs;
    this.#linkAtMs = nowMs;
  }

  /** The method in use, whatever is on trial. */
  get current(): number {
    return this.#current;
  }

  /** The method for the next batch. */
  next(nowMs: number): number {
    if (this.#trial !== undefined) return this.#trial.index;
    const index = this.#dueTrial(nowMs);
    if (index === undefined || index === this.#current) return this.#current;
    this.#candidate(index).estimate.fade(trialBytes);
    this.#trial = { index, bytes: 0, batchCount: 0 };
    return index;
  }

  /** From here on every millisecond counts: nothing is tried any more, neither a method nor the link. */
  settle(): void {
    this.#isSettled = true;
    this.#trial = undefined;
    this.#link.settle();
  }

  /** What became of a batch; `ms`: the time it took to encode. */
  encoded(index: number, rawBytes: number, bodyBytes: number, ms: number, nowMs: number): void {
    const candidate = this.#candidate(index);
    this.#encodeMs += ms;
    this.#source.delivered(rawBytes, ms);
    candidate.batchCount++;
    candidate.rawBytes += rawBytes;
    if (candidate.isFree || candidate.batchCount <= warmUpBatches) return;
    candidate.estimate.add(rawBytes, bodyBytes, ms);
    candidate.seenMs = nowMs;
    candidate.seenRatio = this.#candidate(this.#current).estimate.ratio;
    const trial = this.#trial;
    if (trial?.index !== index) return;
    trial.bytes += rawBytes;
    trial.batchCount++;
    const isEnough = trial.bytes >= trialBytes && trial.batchCount >= trialBatchesMin;
    if (!isEnough && trial.batchCount < trialBatchesMax) return;
    this.#trial = undefined;
    this.#judge(candidate, nowMs);
  }

  /**
   * `bytesPerMs`: of bodies that arrived since the last call. `waitingShare`: of the time since then, in which there was
   * something to send and no room for it. Wants to be called every 100 ms, more often at the beginning.
   */
  link(bytesPerMs: number, waitingShare: number, nowMs: number): void {
    const elapsedMs = nowMs - this.#linkAtMs;
    if (elapsedMs <= 0) return;
    this.#linkAtMs = nowMs;
    const disappoints = this.#link.seen(bytesPerMs, waitingShare, elapsedMs, this.#encodeMs);
    this.#encodeMs = 0;
    this.#source.seen(waitingShare, elapsedMs);
    // The first look at the link may show only how it began.
    if (disappoints || nowMs - this.#decidedMs >= this.#patienceMs(nowMs)) this.#decide(nowMs);
  }

  #patienceMs(nowMs: number): number {
    const ms = (nowMs - this.#startMs) / 2;
    return Math.min(patienceMsMax, Math.max(patienceMsMin, ms));
  }

  /** Changes to what carries most; there must be a reason. */
  #decide(nowMs: number): void {
    this.#decidedMs = nowMs;
    this.#wasDecided = true;
    let best = this.#current;
    for (const [index, { isFree, estimate }] of this.#candidates.entries()) {
      if (!isFree && !estimate.isKnown) continue;
      if (this.#isBetter(index, best)) best = index;
    }
    if (best === this.#current) return;
    const share =
      this.#candidate(best).estimate.ratio / this.#candidate(this.#current).estimate.ratio;
    for (const candidate of this.#candidates) candidate.seenRatio *= share;
    this.#current = best;
    this.switchCount++;
  }

  #isBetter(index: number, than: number): boolean {
    const [other, current] = [this.#prediction(index), this.#prediction(than)];
    const [candidate, used] = [this.#candidate(index), this.#candidate(than)];
    const givesUp = used.hasHistory && !candidate.hasHistory && !candidate.isFree;
    if (givesUp) return other.bytesPerMs >= current.bytesPerMs * speedGainMin * historyWorth;
    if (isBetter(other, current)) return true;
    // A history that costs hardly anything will pay when pages come again.
    const { hasHistory, rawBytes } = candidate;
    if (!hasHistory || used.hasHistory) return false;
    const least = 1 - (rawBytes < youngBytes ? youngHistoryPriceMax : historyPriceMax);
    return other.bytesPerMs >= current.bytesPerMs * least && other.ratio >= current.ratio * least;
  }

  /** A method that might do better than the one in use, if the budget allows a look at it. */
  #dueTrial(nowMs: number): number | undefined {
    this.#budgetMs += (nowMs - this.#budgetAtMs) * trialShare;
    this.#budgetMs = Math.min(this.#budgetMs, trialBudgetMsMax);
    this.#budgetAtMs = nowMs;
    if (!this.#wasDecided || this.#isSettled || nowMs < this.#lookAtMs) return undefined;
    for (const [index, candidate] of this.#candidates.entries()) {
      if (candidate.isFree || index === this.#current) continue;
      const change = candidate.estimate.isKnown ? this.#change(candidate) : 1;
      const isDue = nowMs >= candidate.trialDueMs || Math.max(change, 1 / change) > changeMin;
      if (!isDue) continue;
      if (!this.#mightWin(index, nowMs)) continue;
      const costMs = this.#trialCostMs(index);
      if (!(costMs <= this.#budgetMs)) continue;
      this.#budgetMs -= costMs;
      return index;
    }
    this.#lookAtMs = nowMs + lookEveryMs;
    return undefined;
  }

  #trialCostMs(index: number): number {
    const { isKnown } = this.#candidate(index).estimate;
    const other = isKnown ? this.#prediction(index).bytesPerMs : this.#unseen().bytesPerMs;
    const current = this.#prediction(this.#current).bytesPerMs;
    return Math.max(0, trialBytes / other - trialBytes / current);
  }

  /** The longer ago it was seen, the better it may have become. */
  #mightWin(index: number, nowMs: number): boolean {
    const candidate = this.#candidate(index);
    const current = this.#prediction(this.#current);
    if (!candidate.estimate.isKnown) return isBetter(this.#unseen(), current);
    const doubt = Math.min(doubtMax, 1 + (nowMs - candidate.seenMs) / doubtMs);
    const { ratio, msPerByte } = candidate.estimate;
    const hoped = {
      ratio: ratio * Math.max(doubt, this.#change(candidate)),
      msPerByte: msPerByte / doubt,
    };
    return isBetter(predict(hoped, this.#around), current);
  }

  /** How many times as much the method in use saves as when the candidate was seen: memory, or what is known of it, changed. */
  #change({ seenRatio }: Candidate): number {
    return this.#candidate(this.#current).estimate.ratio / seenRatio;
  }

  #judge(candidate: Candidate, nowMs: number): void {
    const shown = predict(candidate.estimate, this.#around).bytesPerMs;
    const share = shown / this.#prediction(this.#current).bytesPerMs;
    if (share > 0.9) candidate.trialEveryMs = trialEveryMsMin;
    else candidate.trialEveryMs *= share < 0.5 ? 4 : 2;
    candidate.trialEveryMs = Math.min(candidate.trialEveryMs, trialEveryMsMax);
    candidate.trialDueMs = nowMs + candidate.trialEveryMs;
  }

  #unseen(): Prediction {
    const { ratio } = this.#candidate(this.#current).estimate;
    const hoped: Behaviour = {
      ratio: Math.max(unseenRatio, ratio * unseenGain),
      msPerByte: unseenMsPerByte,
    };
    return predict(hoped, this.#around);
  }

  #prediction(index: number): Prediction {
    const candidate = this.#candidate(index);
    const { ratio, msPerByte } = candidate.estimate;
    // What saves less now than it did would have with any method; that one saves more has to be seen.
    const change = index === this.#current ? 1 : Math.min(1, this.#change(candidate));
    return predict({ ratio: Math.max(1, ratio * change), msPerByte }, this.#around);
  }

  get #around(): Surroundings {
    return {
      linkBytesPerMs: this.#link.bytesPerMs,
      sourceBytesPerMs: this.#source.bytesPerMs,
    };
  }

  #candidate(index: number): Candidate {
    return this.#candidates[index] as Candidate;
  }
}
