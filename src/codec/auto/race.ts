/**
 * Whether memory gets through faster as it is than with the method in use: tried and measured, not calculated. Pure: time comes
 * as an argument.
 *
 * What a method costs this thread says little where source, destination and guest share the processors with it: each takes time
 * from the others, and all of them seem to have some left. So for some 20 ms batches go as they are, and what arrives of them in a
 * time is compared with what arrived before.
 *
 * A slow link is not to be filled with it: no more may be in flight meanwhile than what 10 ms have shown it to carry, and it ends as
 * soon as that is little.
 */
/** Arrived with the method in use before anything is compared with it; acknowledgements come in bunches. */
const ownBatchesMin = 12;
const ownMsMin = 50;
/** What is longer ago counts for less than a third. */
const ownRememberedMs = 150;
/** The same of what it carries in the long run: where processors stand still now and then, what arrived lately may say nothing of it. */
const longRememberedMs = 1000;
/** What methods are taken to carry until one was measured: about as much as a link of 1 Gbit/s. */
export const ownBytesPerMsFirst = 120_000;

/** More on their way: the link has enough to do. */
const aheadBatchesMax = 10;
/** From the first arrival on. */
const runMs = 20;
/** By then something has to have arrived, half of what the method in use carries. */
const lookMs = 10;
const lookShare = 0.5;
const runMsMax = 100;
const inFlightBytesMin = 512 << 10;
/** In flight at most what arrives in this time, for those who want to see how fast that is. */
export const inFlightMs = 10;

/** Worth a change: runs are short, and what is saved on the link is worth a little. */
const winShare = 1.06;
/** Of a link whose limit is known, to be worth a trial. */
const linkShareMin = 1.25;
const stayMsFirst = 1000;
const stayMsGrowth = 4;
/** Full for so long, a link's limit is believed. */
const familiarMsMin = 100;
const patienceMsFirst = 150;
const patienceMsMax = 5000;
const patienceGrowth = 4;
/** What a zero page is worth: it is a few bytes of records, but somebody looked at all of it. */
export const zeroPageWorth = 256;
/** More batches are never on their way; nobody tells which have arrived. */
const onTheirWayMax = 4096;

interface Sent {
  readonly worth: number;
  readonly isRaced: boolean;
}

interface Run {
  readonly startMs: number;
  /** Of the first arrival of what was sent as it is. */
  firstMs: number | undefined;
  /** Arrived of that, and arrived since then. */
  worth: number;
  laterWorth: number;
}

/** What arrived per ms, the longer ago the less it counts. */
class Carried {
  readonly #rememberedMs: number;
  #worth = 0;
  ms = 0;

  constructor(rememberedMs: number) {
    this.#rememberedMs = rememberedMs;
  }

  get bytesPerMs(): number {
    return this.ms === 0 ? 0 : this.#worth / this.ms;
  }

  add(worth: number, ms: number): void {
    const keep = Math.exp(-ms / this.#rememberedMs);
    this.#worth = this.#worth * keep + worth;
    this.ms = this.ms * keep + ms;
  }

  clear(): void {
    this.#worth = 0;
    this.ms = 0;
  }
}

export class Race {
  readonly #sent: Sent[] = [];
  #arrivedCount = 0;
  #arrivedAtMs: number | undefined;
  /** Of all that arrived. */
  arrivedWorth = 0;
  /** Arrived with the method in use. */
  readonly #own = { lately: new Carried(ownRememberedMs), long: new Carried(longRememberedMs) };
  #ownBatches = 0;
  #run: Run | undefined;
  #dueMs = 0;
  #patienceMs = patienceMsFirst;
  /** What the method carried that was beaten last. */
  beatenBytesPerMs = ownBytesPerMsFirst;

  get isOn(): boolean {
    return this.#run !== undefined;
  }

  /** What arrives in the long run with the method in use; 0 until it is known. */
  get carriedBytesPerMs(): number {
    return this.#isKnown ? this.#own.long.bytesPerMs : 0;
  }

  /** How much may be in flight at the most; undefined: no race is on. */
  inFlightBytesMax(nowMs: number): number | undefined {
    const run = this.#run;
    if (run === undefined) return undefined;
    return Math.max(inFlightBytesMin, rateOf(run, nowMs) * inFlightMs);
  }

  /** Nothing is known of the method in use: it is another one now. */
  restart(): void {
    this.#own.lately.clear();
    this.#own.long.clear();
    this.#ownBatches = 0;
  }

  /** The link is full: there is nothing to find out for some time. */
  rest(nowMs: number): void {
    this.#dueMs = Math.max(this.#dueMs, nowMs + patienceMsFirst);
  }

  stop(): void {
    this.#run = undefined;
    this.#dueMs = Number.POSITIVE_INFINITY;
  }

  /** Whether the next batch is to go as it is. `linkBytesPerMs`: what the link is assumed to carry. */
  next(nowMs: number, mayBegin: boolean, linkBytesPerMs: number): boolean {
    if (this.#run !== undefined) {
      if (!this.#isSlow(this.#run, nowMs)) return true;
      this.#lost(nowMs);
      return false;
    }
    if (!this.#isDue(nowMs, mayBegin, linkBytesPerMs)) return false;
    this.#run = { startMs: nowMs, firstMs: undefined, worth: 0, laterWorth: 0 };
    return true;
  }

  #isDue(nowMs: number, mayBegin: boolean, linkBytesPerMs: number): boolean {
    if (this.#arrivedCount === 0 || this.#sent.length > aheadBatchesMax) return false;
    // A link that carries less as it is cannot be faster, whatever arrived lately.
    const carriedBytesPerMs = Math.max(this.#ownBytesPerMs, this.carriedBytesPerMs);
    const mayPay = linkBytesPerMs >= carriedBytesPerMs * linkShareMin;
    return mayBegin && nowMs >= this.#dueMs && this.#isKnown && mayPay;
  }

  get #isKnown(): boolean {
    return this.#ownBatches >= ownBatchesMin && this.#own.lately.ms >= ownMsMin;
  }

  /** Of the method in use. */
  get #ownBytesPerMs(): number {
    return this.#isKnown ? this.#own.lately.bytesPerMs : ownBytesPerMsFirst;
  }

  #isSlow(run: Run, nowMs: number): boolean {
    const elapsedMs = nowMs - run.startMs;
    if (elapsedMs < lookMs) return false;
    return elapsedMs > runMsMax || run.worth < this.#ownBytesPerMs * elapsedMs * lookShare;
  }

  /** In the order in which batches go out. `worth`: bytes of records, and what else is to be done for them. */
  sent(worth: number, isRaced: boolean): void {
    this.#sent.push({ worth, isRaced });
    if (this.#sent.length > onTheirWayMax) {
      this.#sent.shift();
      this.#arrivedCount++;
    }
  }

  /** So many batches of all have arrived. Answers true when memory goes faster as it is. */
  arrived(count: number, nowMs: number): boolean {
    let [own, raced] = [0, 0];
    const before = this.#arrivedCount;
    for (; this.#arrivedCount < count && this.#sent.length > 0; this.#arrivedCount++) {
      const { worth, isRaced } = this.#sent.shift() as Sent;
      if (isRaced) raced += worth;
      else own += worth;
    }
    this.arrivedWorth += own + raced;
    const sinceMs = this.#arrivedAtMs;
    this.#arrivedAtMs = nowMs;
    if (this.#run !== undefined) return this.#racedArrived(this.#run, raced, nowMs);
    if (raced > 0 || sinceMs === undefined) return false;
    for (const carried of Object.values(this.#own)) carried.add(own, nowMs - sinceMs);
    this.#ownBatches += this.#arrivedCount - before;
    return false;
  }

  #racedArrived(run: Run, worth: number, nowMs: number): boolean {
    if (worth === 0) return false;
    run.worth += worth;
    if (run.firstMs === undefined) {
      run.firstMs = nowMs;
      return false;
    }
    run.laterWorth += worth;
    const ms = nowMs - run.firstMs;
    if (ms < runMs) return false;
    const own = this.#ownBytesPerMs;
    if (run.laterWorth / ms < own * winShare) {
      this.#lost(nowMs);
      return false;
    }
    this.#run = undefined;
    this.beatenBytesPerMs = own;
    this.#patienceMs = patienceMsFirst;
    this.#dueMs = nowMs + patienceMsFirst;
    return true;
  }

  #lost(nowMs: number): void {
    this.#run = undefined;
    this.#dueMs = nowMs + this.#patienceMs;
    this.#patienceMs = Math.min(patienceMsMax, this.#patienceMs * patienceGrowth);
  }
}

/** With records as they are, once that was found to be the fastest: no more calculating for a time, which grows with each race won. */
export class Stay {
  #untilMs = 0;
  #ms = stayMsFirst;

  begin(nowMs: number, wasRace: boolean): void {
    this.#untilMs = nowMs + this.#ms;
    if (wasRace) this.#ms *= stayMsGrowth;
  }

  end(nowMs: number): void {
    this.#untilMs = Math.min(this.#untilMs, nowMs);
  }

  /** Ends when the link turns out to carry less than the method that was beaten. */
  isOn(
    nowMs: number,
    link: { readonly bytesPerMs: number; readonly familiarMs: number },
    beatenBytesPerMs: number,
  ): boolean {
    const isSlow = link.bytesPerMs < beatenBytesPerMs * winShare;
    if (isSlow && link.familiarMs >= familiarMsMin) this.#untilMs = nowMs;
    return nowMs < this.#untilMs;
  }
}

function rateOf({ worth, startMs }: Run, nowMs: number): number {
  return worth / Math.max(1, nowMs - startMs);
}
