/** What a method has shown lately, by itself and beside its neighbour. Pure: figures come as arguments. */

/** What is longer ago counts for less than a third. */
const rememberedMs = 300;
const pairsCount = 8;
const pairsMin = 3;

interface Sample {
  readonly rawBytes: number;
  readonly bodyBytes: number;
  readonly ms: number;
  readonly besideMs: number;
}

/**
 * The method in use, over a time longer than what is in flight: memory that hardly changed and shrinks to nothing in passing
 * is no reason to do anything else, as the link has enough to do meanwhile.
 */
export class Recent {
  #rawBytes = 0;
  #bodyBytes = 0;
  #ms = 0;
  #besideMs = 0;
  #atMs = 0;

  /** Records per byte sent. */
  get ratio(): number {
    return this.#rawBytes === 0 ? 1 : this.#rawBytes / Math.max(1, this.#bodyBytes);
  }

  /** This thread's time to encode, per byte of records. */
  get msPerByte(): number {
    return this.#rawBytes === 0 ? 0 : this.#ms / this.#rawBytes;
  }

  /** The same of other threads. */
  get besideMsPerByte(): number {
    return this.#rawBytes === 0 ? 0 : this.#besideMs / this.#rawBytes;
  }

  add({ rawBytes, bodyBytes, ms, besideMs }: Sample, nowMs: number): void {
    const keep = Math.exp((this.#atMs - nowMs) / rememberedMs);
    this.#atMs = nowMs;
    this.#rawBytes = this.#rawBytes * keep + rawBytes;
    this.#bodyBytes = this.#bodyBytes * keep + bodyBytes;
    this.#ms = this.#ms * keep + ms;
    this.#besideMs = this.#besideMs * keep + besideMs;
  }

  /** As if the method above (1) or below (-1) had been used. */
  move({ bodyShare, msPerByte, besideMsPerByte }: Step, by: 1 | -1): void {
    this.#bodyBytes *= bodyShare ** by;
    this.#ms = Math.max(0, this.#ms + msPerByte * by * this.#rawBytes);
    this.#besideMs = Math.max(0, this.#besideMs + besideMsPerByte * by * this.#rawBytes);
  }
}

/** What changes from one method to another. */
export interface Step {
  /** Bytes sent with the other, for each byte sent with the one. */
  readonly bodyShare: number;
  /** Additional time of this thread, per byte of records. Less than 0: other threads take over. */
  readonly msPerByte: number;
  /** Additional time of other threads. */
  readonly besideMsPerByte: number;
}

export interface Outcome {
  readonly bodyBytes: number;
  /** Of this thread. */
  readonly ms: number;
  /** Of other threads. */
  readonly besideMs: number;
}

/** Two methods on the same batches: what differs is the methods, however much memory changes from batch to batch. */
export class Pairs {
  #below: Sample[] = [];
  #above: Sample[] = [];

  add(rawBytes: number, below: Outcome, above: Outcome): void {
    push(this.#below, { rawBytes, ...below }, pairsCount);
    push(this.#above, { rawBytes, ...above }, pairsCount);
  }

  clear(): void {
    this.#below = [];
    this.#above = [];
  }

  /** From the method below to the one above; undefined: not known yet. */
  get step(): Step | undefined {
    if (this.#below.length < pairsMin) return undefined;
    const besideMsPerByte = Math.max(0, this.#extra("besideMs"));
    return {
      bodyShare: sumOf(this.#above, "bodyBytes") / Math.max(1, sumOf(this.#below, "bodyBytes")),
      // More for more: what seems cheaper in all was disturbed less.
      msPerByte: Math.max(-besideMsPerByte, this.#extra("ms")),
      besideMsPerByte,
    };
  }

  #extra(key: "ms" | "besideMs"): number {
    const extra = this.#above.map((above, index) => {
      return (above[key] - (this.#below[index] as Sample)[key]) / above.rawBytes;
    });
    return median(extra);
  }
}

function push(samples: Sample[], sample: Sample, most: number): void {
  samples.push(sample);
  if (samples.length > most) samples.shift();
}

function sumOf(samples: readonly Sample[], key: keyof Sample): number {
  return samples.reduce((sum, sample) => sum + sample[key], 0);
}

/** Whatever was slow because the thread was not running all the time, or garbage was collected, does not count. */
function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
