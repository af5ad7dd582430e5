/** What a method has shown lately, by itself and beside its neighbour. Pure: figures come as arguments. */

/** What is longer ago counts for less than a third. */
const rememberedMs = 300;
const pairsCount = 8;
const pairsMin = 3;

interface Sample {
  readonly rawBytes: number;
  readonly bodyBytes: number;
  readonly ms: number;
}

/**
 * The method in use, over a time longer than what is in flight: memory that hardly changed and shrinks to nothing in passing
 * is no reason to do anything else, as the link has enough to do meanwhile.
 */
export class Recent {
  #rawBytes = 0;
  #bodyBytes = 0;
  #ms = 0;
  #atMs = 0;

  /** Records per byte sent. */
  get ratio(): number {
    return this.#rawBytes === 0 ? 1 : this.#rawBytes / Math.max(1, this.#bodyBytes);
  }

  /** Time to encode, per byte of records. */
  get msPerByte(): number {
    return this.#rawBytes === 0 ? 0 : this.#ms / this.#rawBytes;
  }

  add({ rawBytes, bodyBytes, ms }: Sample, nowMs: number): void {
    const keep = Math.exp((this.#atMs - nowMs) / rememberedMs);
    this.#atMs = nowMs;
    this.#rawBytes = this.#rawBytes * keep + rawBytes;
    this.#bodyBytes = this.#bodyBytes * keep + bodyBytes;
    this.#ms = this.#ms * keep + ms;
  }

  /** As if the method above (1) or below (-1) had been used. */
  move({ bodyShare, msPerByte }: Step, by: 1 | -1): void {
    this.#bodyBytes *= bodyShare ** by;
    this.#ms = Math.max(0, this.#ms + msPerByte * by * this.#rawBytes);
  }
}

/** What changes from one method to another. */
export interface Step {
  /** Bytes sent with the other, for each byte sent with the one. */
  readonly bodyShare: number;
  /** Additional time, per byte of records. */
  readonly msPerByte: number;
}

export interface Outcome {
  readonly bodyBytes: number;
  readonly ms: number;
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
    const extraMs = this.#above.map(
      ({ ms, rawBytes }, index) => (ms - (this.#below[index] as Sample).ms) / rawBytes,
    );
    return {
      bodyShare: sumOf(this.#above, "bodyBytes") / Math.max(1, sumOf(this.#below, "bodyBytes")),
      msPerByte: Math.max(0, median(extraMs)),
    };
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
