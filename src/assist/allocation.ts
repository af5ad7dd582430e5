/** How fast a Java VM fills its eden, from snapshots of its heap. Pure: time comes as an argument. */

/** What is needed of a heap snapshot. */
export interface EdenUse {
  readonly collections: number;
  readonly edenUsedBytes: number;
  readonly edenFreeBytes: number;
}

/** Shorter spans say little: a thread takes its allocation buffer in one piece. */
const spanMsMin = 50;
/** A span of this length counts as much as all before it. */
const evenSpanMs = 1_000;
/** In a shorter one a collection hides what was allocated: eden need not have been full, nor have the same size after it. */
const collectedSpanMsMin = 1_000;

export class AllocationMeter {
  #last: { readonly use: EdenUse; readonly atMs: number } | undefined;
  #pauses = 0;
  /** How long it was watched, in ms: the rate says little before threads have fetched some buffers. */
  watchedMs = 0;
  /** Undefined until two snapshots are far enough apart. */
  bytesPerMs: number | undefined;

  update(use: EdenUse, nowMs: number): void {
    if (this.#pauses > 0) return;
    const last = this.#last;
    if (last === undefined) {
      this.#last = { use, atMs: nowMs };
      return;
    }
    const spanMs = nowMs - last.atMs;
    if (spanMs < spanMsMin) return;
    this.#last = { use, atMs: nowMs };
    const edenBytes = use.edenUsedBytes + use.edenFreeBytes;
    const collections = Math.max(0, use.collections - last.use.collections);
    if (collections === 1 && spanMs < collectedSpanMsMin) return;
    this.watchedMs += spanMs;
    const filled = collections * edenBytes + use.edenUsedBytes - last.use.edenUsedBytes;
    const rate = Math.max(0, filled) / spanMs;
    const newest = spanMs / (spanMs + evenSpanMs);
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
      this.#last = undefined;
    }
  }

  /** When eden is full if allocation goes on like this; undefined when it is not known or will not be. */
  fullInMs(use: EdenUse): number | undefined {
    if (this.bytesPerMs === undefined || this.bytesPerMs <= 0) return undefined;
    return use.edenFreeBytes / this.bytesPerMs;
  }
}
