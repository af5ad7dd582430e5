/**
 * Which method the next batch is encoded with. Pure: time and figures come as arguments, so whole migrations are simulated
 * in its tests.
 *
 * The methods stand on a ladder, from records as they are to what saves most and takes longest. Each carries as much as
 * the scarcest of three allows, link x ratio, this thread and the source; up the ladder that first rises and then falls, so it
 * is enough to look at the neighbours of the method in use.
 *
 *   records as they are ◀──▶ hybrid + zstd 1 ◀──▶ hybrid + zstd 3 ◀──▶ …
 *   starts here              and here, as soon as the link is seen to be slow
 *
 * Neighbours are compared on the same batches: what was just encoded is compressed again as the neighbours would have, which
 * costs only time. Two or three batches tell a difference of a few percent. *Rejected:* sending some batches each way. Memory
 * changes from batch to batch by far more than methods differ, so that chance decided, and wrong decisions stood for seconds.
 *
 * One thing cannot be calculated from that: what compressing takes from others on the same processors. Where the link has room,
 * that is measured (race.ts), and records go as they are if that is faster.
 */
import { assert } from "../../base/index.ts";
import { type Outcome, Pairs, Recent, type Step } from "./estimate.ts";
import { type Carrying, stepFrom, verdict } from "./model.ts";
import { Race, Stay } from "./race.ts";
import { Start } from "./start.ts";
import { isFull, type Seen, Surroundings } from "./surroundings.ts";

/** Trials take so much of all time, and so much of the time in which the thread has nothing to do otherwise. */
const trialShare = 0.005;
const trialShareOfIdle = 0.03;
const trialCreditMsMax = 10;
/** A step up is tried only by a thread that has time for it. */
const idleShareMin = 0.1;
/** Between trials passes this share of the time since the beginning, at most so much. */
const trialEveryShare = 0.05;
const trialEveryMsMax = 100;
/** The same until a step in the opposite direction. */
const patienceShare = 0.25;
const patienceMsMin = 10;
const patienceMsMax = 100;
/** Both sides have nothing to do for so much of their time, for so many looks in a row: there is time to compress. */
const roomyShareMin = 0.5;
const roomyLooksMin = 2;
/** The same, or a link that is full, before a step up from records as they are is tried: else neither is to gain by it. */
const worthLooksMin = 2;
/** Where processors are busy neither may ever be seen: now and then it is tried all the same. */
const stepEveryMs = 2_000;
/** A level of zstd may gain nothing where the next one does. */
const risesMax = 2;
/** The first batches take longer: code is compiled, memory is touched for the first time. */
const warmUpBatches = 2;

/** What to do with a batch. */
export interface Turn {
  readonly method: number;
  /** Methods to compare on it; these stand next to each other on the ladder. */
  readonly trials: readonly number[];
  /** The method is not the one in use. */
  readonly isTrial: boolean;
  /** Neither is it: the batch takes part in a race. */
  readonly isRaced: boolean;
}

export class Chooser {
  /** Between method i and i + 1. */
  readonly #pairs: readonly Pairs[];
  readonly #surroundings = new Surroundings();
  readonly #race = new Race();
  #recent = new Recent();
  readonly #startMs: number;
  #current = 0;
  /** The method to go on with if the link turns out to be slow. */
  readonly #slowMethod: number;
  /** Undefined: the beginning is over. */
  #start: Start | undefined = new Start();
  #batchCount = 0;
  #linkAtMs: number;
  #trialDueMs: number;
  /** To begin with, what it takes to know the neighbours. */
  #trialCreditMs = trialCreditMsMax;
  #turn = 0;
  /** A batch is under way on which the step up from records as they are is tried. */
  #isStepTried = false;
  #lastMove: { readonly by: number; readonly atMs: number } | undefined;
  #isClear = false;
  #isSettled = false;
  /** The latest look at the link. */
  #isLinkFull = false;
  #isLinkClear = false;
  /** Looks in a row at a full link and idle sides, and at either of them. */
  #roomyLooks = 0;
  #worthLooks = 0;
  /** Of the latest such step, or the beginning. */
  #stepAtMs: number;
  /** Of the latest one that was not tried first. */
  #risenAtMs = Number.NEGATIVE_INFINITY;
  /** A race was on since the latest look. */
  #isRaceSeen = false;
  readonly #stay = new Stay();

  /** `methodCount`: of the ladder; 0 sends records as they are. `slowMethod`: to begin with on a slow link. */
  constructor(methodCount: number, slowMethod: number, nowMs: number) {
    assert(slowMethod < methodCount, "a method for slow links");
    this.#pairs = Array.from({ length: methodCount - 1 }, () => new Pairs());
    this.#slowMethod = slowMethod;
    this.#startMs = nowMs;
    this.#linkAtMs = nowMs;
    this.#trialDueMs = nowMs;
    this.#stepAtMs = nowMs;
  }

  /** The method in use, whatever is on trial. */
  get current(): number {
    return this.#current;
  }

  /** What the link is assumed to carry. */
  get linkBytesPerMs(): number {
    return this.#surroundings.link.bytesPerMs;
  }

  /** It carries about what it is known to carry. */
  isLinkUsed(bytesPerMs: number): boolean {
    return this.#surroundings.link.isUsed(bytesPerMs);
  }

  /** What to do with the next batch. */
  next(nowMs: number): Turn {
    const method = this.#current;
    if (method > 0 && this.#isRaceDue(nowMs)) {
      return { method: 0, trials: [], isTrial: false, isRaced: true };
    }
    if (!this.#isTrialDue(nowMs)) return { method, trials: [], isTrial: false, isRaced: false };
    // A step up from records as they are is tried by making it.
    if (method === 0) {
      const mayPay = this.#worthLooks >= worthLooksMin || nowMs - this.#stepAtMs >= stepEveryMs;
      const mayRise = mayPay && this.#mayRise && !this.#isRawFor(nowMs);
      this.#isStepTried = mayRise;
      if (mayRise) this.#stepAtMs = nowMs;
      return { method: mayRise ? 1 : 0, trials: [], isTrial: mayRise, isRaced: false };
    }
    const index = this.#pairToTry();
    const trials = index === undefined ? [] : [index, index + 1];
    return { method, trials, isTrial: false, isRaced: false };
  }

  #isRaceDue(nowMs: number): boolean {
    const { link } = this.#surroundings;
    const mayBegin = !this.#isSettled && this.#isLinkClear && !this.#isLinkFull;
    const bytesPerMs = link.wasFull ? link.bytesPerMs : Number.POSITIVE_INFINITY;
    const isDue = this.#race.next(nowMs, mayBegin, bytesPerMs);
    this.#isRaceSeen ||= isDue;
    return isDue;
  }

  /** Memory goes as it is, as that was seen to be faster. */
  #isRawFor(nowMs: number): boolean {
    if (this.#current !== 0) return false;
    if (this.#roomyLooks >= roomyLooksMin) this.#stay.end(nowMs);
    return this.#stay.isOn(nowMs, this.#surroundings.link, this.#race.beatenBytesPerMs);
  }

  /** A batch is about to be encoded, in the order in which they go out. `worth`: its bytes, and what else is to be done for it. */
  sends({ isRaced }: Turn, worth: number): void {
    this.#race.sent(worth, isRaced);
  }

  /** Bounds what is in flight, at the beginning and for the time of a race. */
  inFlightBytesMax(nowMs: number): number | undefined {
    if (this.#start === undefined) return this.#race.inFlightBytesMax(nowMs);
    const arrivedWorth = this.#race.arrivedWorth - this.#start.worth;
    return this.#start.inFlightBytesMax(arrivedWorth / Math.max(1, nowMs - this.#linkAtMs));
  }

  /** So many of all batches have arrived. */
  arrived(batchCount: number, nowMs: number): void {
    if (!this.#race.arrived(batchCount, nowMs) || this.#current === 0) return;
    this.#current = 0;
    this.#lastMove = { by: -1, atMs: nowMs };
    this.#recent = new Recent();
    this.#pairs[0]?.clear();
    this.#race.restart();
    this.#stay.begin(nowMs, true);
  }

  /** Two methods at a time, as this thread does nothing else meanwhile: what is not known yet, then by turns. */
  #pairToTry(): number | undefined {
    const here = this.#current;
    const indices = [here - 1];
    if (this.#mayRise) for (let rises = 0; rises < risesMax; rises++) indices.push(here + rises);
    const possible = indices.filter((index) => index > 0 && index < this.#pairs.length);
    const unknown = possible.find((index) => this.#pairs[index]?.step === undefined);
    return unknown ?? possible[this.#turn++ % possible.length];
  }

  #isTrialDue(nowMs: number): boolean {
    if (this.#isSettled || !this.#isClear || this.#trialCreditMs <= 0) return false;
    if (this.#isStepTried) return false;
    const isUnknown = this.#mayRise && this.#step(this.#current) === undefined;
    return isUnknown || nowMs >= this.#trialDueMs;
  }

  get #mayRise(): boolean {
    return this.#surroundings.idleShare >= idleShareMin && this.#current < this.#pairs.length;
  }

  /** The steps are other ones from here on: nothing is known of them. */
  ladderChanged(): void {
    for (const pair of this.#pairs) pair.clear();
    this.#recent = new Recent();
    this.#race.restart();
    this.#isStepTried = false;
  }

  /** From here on every millisecond counts: nothing is tried any more, neither a method nor the link. */
  settle(): void {
    this.#isSettled = true;
    this.#start = undefined;
    this.#race.stop();
    this.#surroundings.link.settle();
  }

  /** What became of a batch. Others may have had their turn since. */
  encoded(
    { method, isTrial, isRaced }: Turn,
    rawBytes: number,
    done: Outcome,
    nowMs: number,
  ): void {
    if (isRaced || this.#start !== undefined) return;
    this.#surroundings.encoded(rawBytes, done.bodyBytes, done.ms);
    this.#batchCount++;
    if (this.#batchCount <= warmUpBatches) return;
    if (isTrial) this.#pairs[0]?.add(rawBytes, { bodyBytes: rawBytes, ms: 0, besideMs: 0 }, done);
    else if (method === this.#current) this.#recent.add({ rawBytes, ...done }, nowMs);
    if (!isTrial) return;
    this.#isStepTried = false;
    this.#wasTried(done.ms + done.besideMs, nowMs);
  }

  /** What the methods on trial came to, in the order in which `next` named them. */
  tried({ trials }: Turn, rawBytes: number, outcomes: readonly Outcome[], nowMs: number): void {
    if (trials.length === 0) return;
    // All of it is done by this thread.
    const spentMs = outcomes.reduce((sum, { ms, besideMs }) => sum + ms + besideMs, 0);
    this.#surroundings.encoded(0, 0, spentMs);
    if (this.#batchCount < warmUpBatches) return;
    for (const [index, method] of trials.slice(1).entries()) {
      const [below, above] = outcomes.slice(index, index + 2) as [Outcome, Outcome];
      this.#pairs[method - 1]?.add(rawBytes, below, above);
    }
    this.#wasTried(spentMs, nowMs);
  }

  #wasTried(spentMs: number, nowMs: number): void {
    this.#trialCreditMs -= spentMs;
    const elapsedMs = nowMs - this.#startMs;
    this.#trialDueMs = nowMs + Math.min(trialEveryMsMax, elapsedMs * trialEveryShare);
    this.#decide(nowMs);
  }

  /** What link and thread did since the last call. Wants to be called every 50 ms, more often at the beginning. */
  link(seen: Seen, nowMs: number): void {
    const elapsedMs = nowMs - this.#linkAtMs;
    if (elapsedMs <= 0) return;
    this.#linkAtMs = nowMs;
    // What is in flight is bounded while a race is on: what the link did until now says nothing.
    const wasRace = this.#isRaceSeen;
    this.#isRaceSeen = this.#race.isOn;
    if (wasRace || this.#isRaceSeen) return;
    this.#trialCreditMs = Math.min(
      trialCreditMsMax,
      this.#trialCreditMs + elapsedMs * (trialShare + trialShareOfIdle * seen.idleShare),
    );
    if (this.#isStarting(seen, nowMs)) return;
    const news = this.#surroundings.seen(seen, elapsedMs);
    this.#isClear ||= news !== "unclear";
    if (news === "disappointing") this.#lastMove = undefined;
    this.#isLinkClear = news !== "unclear";
    this.#isLinkFull = isFull(seen);
    if (this.#isLinkFull) this.#race.rest(nowMs);
    const leastIdle = Math.min(seen.idleShare, seen.destinationIdleShare);
    const areIdle = leastIdle >= roomyShareMin;
    this.#roomyLooks = this.#isLinkFull && areIdle ? this.#roomyLooks + 1 : 0;
    this.#worthLooks = this.#isLinkFull || areIdle ? this.#worthLooks + 1 : 0;
    this.#riseFromRaw(nowMs);
    if (this.#isClear) this.#decide(nowMs);
  }

  /** At the beginning, when nothing is known of the link. */
  #isStarting(seen: Seen, nowMs: number): boolean {
    const start = this.#start;
    if (start === undefined) return false;
    const wasSlow = start.wasSlow(nowMs, this.#race.arrivedWorth, seen.waitingShare);
    const isSlow = start.isSlow(seen) || wasSlow;
    start.worth = this.#race.arrivedWorth;
    if (!isSlow && !start.isOver(nowMs)) return true;
    this.#start = undefined;
    if (isSlow) this.#current = this.#slowMethod;
    else this.#stay.begin(this.#startMs, false);
    return false;
  }

  /** Up or down, if there is a reason. */
  #decide(nowMs: number): void {
    if (this.#isRawFor(nowMs)) return;
    const here = this.#recent;
    const down = this.#step(this.#current - 1);
    if (
      down !== undefined &&
      !this.#isBeyondLink &&
      verdict(stepFrom(here, down, -1), here, this.#surroundings) === "below"
    ) {
      this.#move(-1, [down], nowMs);
      return;
    }
    const steps: Step[] = [];
    let there: Carrying = here;
    for (let rises = 0; rises < risesMax; rises++) {
      const up = this.#step(this.#current + rises);
      if (up === undefined) return;
      steps.push(up);
      there = stepFrom(there, up, 1);
      if (verdict(here, there, this.#surroundings) !== "above") continue;
      this.#move(1, steps, nowMs);
      return;
    }
  }

  /**
   * More gets through than the link would carry as it is, or that is not known yet: this thread may just have had to wait for a processor,
   * and the first batches with a history take several times as long as all others. (Redis over 200 Mbit/s went as it was for half a
   * second at a time.)
   */
  get #isBeyondLink(): boolean {
    const { link } = this.#surroundings;
    if (this.#current !== 1 || !link.wasFull) return false;
    const { carriedBytesPerMs } = this.#race;
    return carriedBytesPerMs === 0 || link.bytesPerMs < carriedBytesPerMs;
  }

  /**
   * A full link between sides that have nothing to do for half of their time carries more of whatever shrinks: no need to calculate, with
   * what may have been measured of a thread that waited for a processor, nor to try.
   */
  #riseFromRaw(nowMs: number): void {
    if (this.#current !== 0 || this.#isSettled || this.#roomyLooks < roomyLooksMin) return;
    if (nowMs - this.#risenAtMs < stepEveryMs) return;
    this.#risenAtMs = nowMs;
    this.#current = this.#slowMethod;
    this.#lastMove = { by: 1, atMs: nowMs };
    this.#recent = new Recent();
    this.#isStepTried = false;
    this.#race.restart();
    this.#stay.end(nowMs);
  }

  #step(index: number): Step | undefined {
    if (index > 0 || this.#current === 0) return this.#pairs[index]?.step;
    if (index !== 0 || this.#current !== 1) return undefined;
    const { ratio, msPerByte, besideMsPerByte } = this.#recent;
    return { bodyShare: 1 / ratio, msPerByte, besideMsPerByte };
  }

  #move(by: 1 | -1, steps: readonly Step[], nowMs: number): void {
    const last = this.#lastMove;
    if (last !== undefined && last.by !== by && nowMs - last.atMs < this.#patienceMs(nowMs)) return;
    this.#lastMove = { by, atMs: nowMs };
    this.#current += by * steps.length;
    for (const step of steps) this.#recent.move(step, by);
    this.#race.restart();
    // What it saves is a question of memory, not of methods: it has to be seen anew.
    if (this.#current === 0) this.#pairs[0]?.clear();
  }

  #patienceMs(nowMs: number): number {
    const ms = (nowMs - this.#startMs) * patienceShare;
    return Math.min(patienceMsMax, Math.max(patienceMsMin, ms));
  }
}
