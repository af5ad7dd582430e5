/** What a method has shown lately. Pure: figures come as arguments. */

/** Later batches push earlier ones out: about so many bytes of records count for the ratio, */
const weightBytes = 8 << 20;
/** and so many batches for the time. */
const timesMax = 32;
/** One of so many, the slowest, does not count: this thread was not running all the time, or garbage was collected. */
const slowestOf = 4;

export class Estimate {
  #rawBytes = 0;
  #bodyBytes = 0;
  /** ms per byte of the last batches, in a ring. */
  readonly #times: number[] = [];
  #at = 0;
  #msPerByte: number | undefined = 0;

  get isKnown(): boolean {
    return this.#rawBytes > 0;
  }

  /** Records per byte sent. */
  get ratio(): number {
    return this.isKnown ? this.#rawBytes / Math.max(1, this.#bodyBytes) : 1;
  }

  /** Time to encode, per byte of records. */
  get msPerByte(): number {
    return (this.#msPerByte ??= usual(this.#times));
  }

  add(rawBytes: number, bodyBytes: number, ms: number): void {
    const most = Math.max(0, weightBytes - rawBytes);
    if (this.#rawBytes > most) this.#shrink(most / this.#rawBytes);
    this.#rawBytes += rawBytes;
    this.#bodyBytes += bodyBytes;
    this.#times[this.#at % timesMax] = ms / rawBytes;
    this.#at++;
    this.#msPerByte = undefined;
  }

  /** Before a trial: what it shows is to count more than what is remembered. */
  fade(trialBytes: number): void {
    if (this.#rawBytes > trialBytes) this.#shrink(trialBytes / this.#rawBytes);
    this.#times.length = Math.min(this.#times.length, 2);
    this.#at = this.#times.length;
  }

  #shrink(share: number): void {
    this.#rawBytes *= share;
    this.#bodyBytes *= share;
  }
}

/** Mean of all but the slowest. */
function usual(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  const count = sorted.length - Math.floor(sorted.length / slowestOf);
  return sorted.slice(0, count).reduce((sum, one) => sum + one, 0) / Math.max(1, count);
}
