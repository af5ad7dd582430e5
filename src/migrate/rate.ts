/** How fast bytes went lately, and how fast they may go. Pure: time comes as an argument. */

const windowMs = 100;
const windowCount = 20;

/**
 * Remembers the last two seconds in windows of 100 ms. `bytesPerMs` answers the upper quartile of the windows: the rate that
 * the link has really sustained, not lowered by moments in which there was little to send.
 */
export class RateMeter {
  readonly #windows: number[] = [];
  #windowStartMs: number;
  #startBytes = 0;
  #lastBytes = 0;

  constructor(nowMs: number) {
    this.#windowStartMs = nowMs;
  }

  /** `totalBytes` never falls. */
  update(totalBytes: number, nowMs: number): void {
    this.#lastBytes = totalBytes;
    const ms = nowMs - this.#windowStartMs;
    if (ms < windowMs) return;
    this.#windows.push((totalBytes - this.#startBytes) / ms);
    if (this.#windows.length > windowCount) this.#windows.shift();
    this.#windowStartMs = nowMs;
    this.#startBytes = totalBytes;
  }

  /** 0 as long as nothing is known. Before the first whole window: what has gone so far. */
  bytesPerMs(nowMs: number): number {
    if (this.#windows.length === 0) {
      const ms = nowMs - this.#windowStartMs;
      return ms < 1 ? 0 : (this.#lastBytes - this.#startBytes) / ms;
    }
    const sorted = this.#windows.toSorted((a, b) => a - b);
    return sorted[Math.floor((sorted.length - 1) * 0.75)] as number;
  }

  /** Mean of the last `count` windows, for display. */
  recentBytesPerMs(count: number): number {
    const last = this.#windows.slice(-count);
    return last.length === 0 ? 0 : last.reduce((sum, value) => sum + value, 0) / last.length;
  }
}

/** A token bucket: `spend` answers how long to wait before more may be sent. */
export class Pacer {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  #tokens: number;
  #lastMs: number;

  /** A burst of 20 ms is allowed, at least one batch: fine enough for a link, coarse enough for timers. */
  constructor(bytesPerSecond: number, nowMs: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = Math.max(64 << 10, this.#bytesPerMs * 20);
    this.#tokens = this.#burstBytes;
    this.#lastMs = nowMs;
  }

  /** Milliseconds to wait, 0 when there is nothing to wait for. */
  spend(bytes: number, nowMs: number): number {
    this.#tokens += (nowMs - this.#lastMs) * this.#bytesPerMs;
    this.#tokens = Math.min(this.#burstBytes, this.#tokens);
    this.#lastMs = nowMs;
    this.#tokens -= bytes;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#bytesPerMs;
  }
}

/** So much of the first round counts as its end, */
const endShare = 0.8;
/** or so much time before it. */
const endMs = 500;

/** Whether the first round, of all pages, is about to end, as far as can be told from those that were sent so far. */
export function firstRoundEnds(elapsedMs: number, sentPages: number, allPages: number): boolean {
  if (sentPages === 0) return false;
  const leftMs = (elapsedMs * (allPages - sentPages)) / sentPages;
  return sentPages >= allPages * endShare || leftMs <= endMs;
}

/** Less than that says nothing about a codec, */
const recordBytesMin = 1 << 20;
const recordWindowCount = 20;
/** and less than that nothing about a pass. */
const passBytesMin = 4 << 20;
/** What the next pass holds may shrink less than the last one did: to so much of that. */
const passRatioShare = 0.8;

interface RecordWindow {
  readonly rawBytes: number;
  readonly bodyBytes: number;
  readonly encodeMs: number;
}

/**
 * What a link that carries so much carries of memory: a codec makes that more, as long as it is fast enough.
 *
 * What is dirty when a pass begins is much like what was dirty when the one before began: that pass's ratio is the best guess, the
 * first copy's not counted. Before one has ended, and when what has gone since shrinks much less, there are windows of at least
 * 1 MiB, the last twenty, and the ratio below which half of the *bodies* went: pages that hardly change can shrink to nothing in
 * passing, and say nothing of the fresh ones which keep the link busy.
 */
export class RecordRate {
  readonly #windows: RecordWindow[] = [];
  #last: RecordWindow = { rawBytes: 0, bodyBytes: 0, encodeMs: 0 };
  /** The sums when the pass began. */
  #passStart: RecordWindow | undefined;
  #passRatio: number | undefined;
  #middleRatio = 1;
  #encodedPerMs = Number.POSITIVE_INFINITY;

  /** Sums since the beginning: records, what they became, and the time that took. To be called some times a second. */
  update(rawBytes: number, bodyBytes: number, encodeMs: number): void {
    const window = since(this.#last, { rawBytes, bodyBytes, encodeMs });
    if (window.rawBytes < recordBytesMin) return;
    this.#last = { rawBytes, bodyBytes, encodeMs };
    this.#windows.push(window);
    if (this.#windows.length > recordWindowCount) this.#windows.shift();
    this.#middleRatio = middleRatio(this.#windows);
    const ms = this.#windows.reduce((sum, one) => sum + one.encodeMs, 0);
    const bytes = this.#windows.reduce((sum, one) => sum + one.rawBytes, 0);
    this.#encodedPerMs = ms > 0 ? bytes / ms : Number.POSITIVE_INFINITY;
  }

  /** Of memory that was dirtied, not of the first copy. The same sums; a pass too short to tell counts with the next one. */
  passBegan(rawBytes: number, bodyBytes: number): void {
    const now = { rawBytes, bodyBytes, encodeMs: 0 };
    const pass = since((this.#passStart ??= now), now);
    if (pass.rawBytes < passBytesMin) return;
    this.#passRatio = ratioOf(pass);
    this.#passStart = now;
  }

  /** `bytesPerMs`: of the link. */
  recordsPerMs(bytesPerMs: number): number {
    return Math.min(bytesPerMs * this.#ratio, this.#encodedPerMs);
  }

  get #ratio(): number {
    const pass = this.#passRatio;
    if (pass === undefined) return this.#middleRatio;
    const later = since(this.#passStart ?? this.#last, this.#last);
    const isOther = later.rawBytes >= recordBytesMin && ratioOf(later) < pass * passRatioShare;
    if (isOther) return Math.min(this.#middleRatio, pass);
    return Math.max(Math.min(this.#middleRatio, pass), pass * passRatioShare);
  }
}

function since(before: RecordWindow, now: RecordWindow): RecordWindow {
  return {
    rawBytes: now.rawBytes - before.rawBytes,
    bodyBytes: now.bodyBytes - before.bodyBytes,
    encodeMs: now.encodeMs - before.encodeMs,
  };
}

function ratioOf({ rawBytes, bodyBytes }: RecordWindow): number {
  return rawBytes / Math.max(1, bodyBytes);
}

/** Half of all body bytes were written at this ratio or a lower one. */
function middleRatio(windows: readonly RecordWindow[]): number {
  const sorted = windows.toSorted((a, b) => ratioOf(a) - ratioOf(b));
  const half = sorted.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0) / 2;
  let sum = 0;
  for (const window of sorted) {
    sum += window.bodyBytes;
    if (sum >= half) return ratioOf(window);
  }
  return 1;
}
