/** How fast a Java VM fills its eden, from snapshots of its heap. Pure: time comes as an argument. */

/** What is needed of a heap snapshot. */
export interface EdenUse {
  readonly collections: number;
  /** A collection is under way: the program stands still, and what it reads may be of before or after it. */
  readonly active: boolean;
  readonly edenUsedBytes: number;
  readonly edenFreeBytes: number;
}

/** Shorter spans say little: a thread takes its allocation buffer in one piece. */
const spanMsMin = 50;
/** A span counts by its length, one of this length as much as all before it. */
const evenSpanMs = 1_000;
/** In a shorter one a collection hides what was allocated: eden need not have been full, nor have the same size after it. */
export const collectedSpanMsMin = 1_000;
/** How many times between the two are looked at for an average. */
const laterSamples = 16;

interface Look {
  readonly use: EdenUse;
  readonly atMs: number;
}

export class AllocationMeter {
  #last: Look | undefined;
  /** Where the first of the short spans began in which a collection hid everything. */
  #hiddenSince: Look | undefined;
  #pauses = 0;
  /** How long it was watched, in ms: the rate says little before threads have fetched some buffers. */
  watchedMs = 0;
  /** Undefined until two snapshots are far enough apart. */
  bytesPerMs: number | undefined;

  update(use: EdenUse, nowMs: number): void {
    if (this.#pauses > 0 || use.active) return;
    const last = this.#last;
    const now = { use, atMs: nowMs };
    if (last === undefined) {
      this.#last = now;
      return;
    }
    if (nowMs - last.atMs < spanMsMin) return;
    this.#last = now;
    const hiddenSince = this.#hiddenSince ?? last;
    const from = tells(last, now) ? last : hiddenSince;
    if (!tells(from, now)) {
      this.#hiddenSince = hiddenSince;
      return;
    }
    this.#hiddenSince = undefined;
    const spanMs = nowMs - from.atMs;
    const watchedBeforeMs = this.watchedMs;
    this.watchedMs += spanMs;
    const rate = filledBytes(from, now) / spanMs;
    const newest = spanMs / (spanMs + Math.min(evenSpanMs, watchedBeforeMs));
    this.bytesPerMs =
      this.bytesPerMs === undefined ? rate : this.bytesPerMs * (1 - newest) + rate * newest;
  }

  /**
   * While `work` lasts nothing is learned: it brings a collection about before eden is full, which says nothing about how fast
   * it fills.
   */
  async pausedFor<T>(work: () => Promise<T>): Promise<T> {
    this.#pauses++;
    try {
      return await work();
    } finally {
      this.#pauses--;
      this.forget();
    }
  }

  /** The next look is not to be compared with those before it. */
  forget(): void {
    this.#last = undefined;
    this.#hiddenSince = undefined;
  }

  /** When eden is full if allocation goes on like this; undefined when it is not known or will not be. */
  fullInMs(use: EdenUse): number | undefined {
    if (this.bytesPerMs === undefined || this.bytesPerMs <= 0) return undefined;
    return use.edenFreeBytes / this.bytesPerMs;
  }

  /** What will be in eden at a time between these two, on the average: it is filled, collected, and filled again. */
  usedLaterBytes({ edenUsedBytes, edenFreeBytes }: EdenUse, fromMs: number, toMs: number): number {
    const edenBytes = edenUsedBytes + edenFreeBytes;
    const rate = this.bytesPerMs ?? 0;
    if (edenBytes === 0 || rate <= 0) return edenUsedBytes;
    const stepMs = (toMs - fromMs) / laterSamples;
    let sumBytes = 0;
    for (let i = 0; i < laterSamples; i++) {
      sumBytes += (edenUsedBytes + rate * (fromMs + stepMs * (i + 0.5))) % edenBytes;
    }
    return sumBytes / laterSamples;
  }
}

function collectionsBetween(from: Look, to: Look): number {
  return Math.max(0, to.use.collections - from.use.collections);
}

function tells(from: Look, to: Look): boolean {
  return collectionsBetween(from, to) !== 1 || to.atMs - from.atMs >= collectedSpanMsMin;
}

function filledBytes(from: Look, to: Look): number {
  const edenBytes = to.use.edenUsedBytes + to.use.edenFreeBytes;
  const collectedBytes = collectionsBetween(from, to) * edenBytes;
  return Math.max(0, collectedBytes + to.use.edenUsedBytes - from.use.edenUsedBytes);
}
