/**
 * What link and source are able to carry, guessed from what they did. Pure: time comes as an argument.
 *
 * A link shows what it carries only while it is full. While there is room on it and time is spent on encoding, it may have
 * become faster: that is hoped the more the longer it lasts, until a faster method is tried for that hope. A hope that was
 * wrong (the link is full at once) makes the next one grow three times as slowly.
 */

/** From here on the link counts as full. */
const waitingShareMin = 0.05;
/** Weight of what was seen before. */
const rememberedMsMax = 500;
const hopeDoublesMs = 300;
const hopePatience = 3;
const hopePatienceMax = 30;
/** The longer it was seen at its limit, the better that is known: at most so much. */
const familiarMsMax = 1_000;
/** A link that carries less than this share of what was assumed is a disappointment. */
const disappointmentShare = 0.8;

/** Encoding for a larger share of the time, this thread and not the source is the bottleneck. */
const busyShareMax = 0.8;
/** A shorter look at the source says little. */
/** With less there was nothing to deliver: that says nothing of how fast it is. */
const verdictBytesMin = 1 << 20;
const spanMsMin = 400;
/** A source that has less to send just now is not taken to be slow at once: a second takes this share. */
const sourceDecay = 0.7;

export class Link {
  #fullBytesPerMs: number | undefined;
  #rememberedMs = 0;
  /** Encoding, since it was full. */
  #roomMs = 0;
  #patience = 1;
  #familiarMs = 0;
  #isSettled = false;

  /** What it is assumed to carry; Infinity as long as it was never full. */
  get bytesPerMs(): number {
    if (this.#fullBytesPerMs === undefined) return Number.POSITIVE_INFINITY;
    const doublesMs = (hopeDoublesMs + this.#familiarMs) * this.#patience;
    return this.#fullBytesPerMs * 2 ** (this.#roomMs / doublesMs);
  }

  /** No hope from here on: it is what it was seen to be. */
  settle(): void {
    this.#isSettled = true;
    this.#roomMs = 0;
  }

  static isFull(waitingShare: number): boolean {
    return waitingShare >= waitingShareMin;
  }

  /** What went in the last `elapsedMs`. Answers true when it carries much less than was assumed. */
  seen(bytesPerMs: number, waitingShare: number, elapsedMs: number, encodeMs: number): boolean {
    if (Link.isFull(waitingShare)) return bytesPerMs > 0 && this.#full(bytesPerMs, elapsedMs);
    this.#rememberedMs = Math.max(0, this.#rememberedMs - elapsedMs);
    if (!this.#isSettled) this.#roomMs += encodeMs;
    if (this.#fullBytesPerMs !== undefined && bytesPerMs > this.#fullBytesPerMs) {
      this.#fullBytesPerMs = bytesPerMs;
      this.#roomMs = 0;
      this.#familiarMs = 0;
    }
    return false;
  }

  #full(bytesPerMs: number, elapsedMs: number): boolean {
    const assumed = this.bytesPerMs;
    const share = elapsedMs / (elapsedMs + this.#rememberedMs);
    const before = this.#fullBytesPerMs ?? bytesPerMs;
    const now = before + (bytesPerMs - before) * share;
    const hoped = this.#roomMs > 0;
    this.#fullBytesPerMs = now;
    this.#rememberedMs = Math.min(rememberedMsMax, this.#rememberedMs + elapsedMs);
    this.#familiarMs = Math.min(familiarMsMax, this.#familiarMs + elapsedMs);
    this.#roomMs = 0;
    if (now >= assumed * disappointmentShare) {
      if (hoped && Number.isFinite(assumed)) this.#patience = 1;
      return false;
    }
    if (hoped && Number.isFinite(assumed)) {
      this.#patience = Math.min(hopePatienceMax, this.#patience * hopePatience);
    }
    return true;
  }
}

export class Source {
  #ms = 0;
  #freeMs = 0;
  #rawBytes = 0;
  #encodeMs = 0;
  #bytesPerMs = Number.POSITIVE_INFINITY;

  /** What it delivers at most, as records; Infinity: more than was asked of it. */
  get bytesPerMs(): number {
    return this.#bytesPerMs;
  }

  /** A batch was taken. */
  delivered(rawBytes: number, encodeMs: number): void {
    this.#rawBytes += rawBytes;
    this.#encodeMs += encodeMs;
  }

  /** `elapsedMs` have passed since the last call. */
  seen(waitingShare: number, elapsedMs: number): void {
    this.#ms += elapsedMs;
    this.#freeMs += elapsedMs * (1 - waitingShare);
    if (this.#ms < spanMsMin) return;
    const wasFull = Link.isFull(1 - this.#freeMs / this.#ms);
    if (wasFull || this.#encodeMs > busyShareMax * this.#freeMs) {
      this.#bytesPerMs = Number.POSITIVE_INFINITY;
    } else if (this.#rawBytes >= verdictBytesMin) {
      const seen = this.#rawBytes / this.#freeMs;
      const before = this.#bytesPerMs * sourceDecay ** (this.#ms / 1000);
      this.#bytesPerMs = Number.isFinite(before) ? Math.max(seen, before) : seen;
    }
    this.#ms = 0;
    this.#freeMs = 0;
    this.#rawBytes = 0;
    this.#encodeMs = 0;
  }
}
