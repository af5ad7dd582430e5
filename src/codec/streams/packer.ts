/** How the streams of a batch become one payload: compressed as a frame where that gains something, as they are otherwise. */
import { BufferPool } from "../buffer-pool.ts";
import { lz4Compress, lz4CompressBeside } from "../lz4.ts";
import { Pack } from "./body.ts";
import { type PooledFrame, zstdCompressBeside } from "./zstd-beside.ts";
import { zstdCompressContext } from "../zstd-context.ts";

/** What streams shrink to at least, to be worth decoding. */
const shareMax = 0.95;
const streamsBytesMin = 64;
/** Smaller streams are compressed here sooner than they are handed to another thread. */
export const besideBytesMin = 16 << 10;
const sampleCount = 8;
const sampleBytes = 1 << 10;
/** So many batches in a row are judged by their sample only. */
const samplesInRowMax = 16;

export interface Streams {
  /** May change with the next batch. */
  readonly bytes: Uint8Array;
  /** Of whole pages among them. */
  readonly rawsBytes: number;
}

export interface Payload {
  readonly pack: Pack;
  readonly pieces: readonly Uint8Array[];
  readonly bytes: number;
  /** To be called once, when the pieces are needed no more. */
  readonly done?: () => void;
}

export class Packer {
  #pack: Pack;
  #level: number;
  readonly #sample = Buffer.allocUnsafeSlow(sampleCount * sampleBytes);
  readonly #pool = new BufferPool();
  /** Batches since the last one that was tried as a whole and did not shrink; undefined when it did. */
  #samplesInRow: number | undefined;

  constructor(pack: Pack, level: number) {
    this.#pack = pack;
    this.#level = level;
  }

  use(pack: Pack, level: number): void {
    this.#pack = pack;
    this.#level = level;
  }

  reset(): void {
    this.#samplesInRow = undefined;
  }

  /** The answer may change with the next call, or be the streams themselves. */
  pack(streams: Streams): Payload {
    const { bytes } = streams;
    if (!this.#isWorthTrying(streams)) return asItIs(bytes);
    const packed = this.compress(bytes);
    return this.#shrank(streams, packed.length)
      ? { pack: this.#pack, pieces: [packed], bytes: packed.length }
      : asItIs(bytes);
  }

  /** The same, and whatever is answered stays. Undefined: it is done sooner here, by `pack`. */
  packBeside(streams: Streams): Payload | Promise<Payload> | undefined {
    const { length } = streams.bytes;
    if (this.#pack === Pack.none || length < besideBytesMin) return undefined;
    const isWorthTrying = this.#isWorthTrying(streams);
    const buffer = this.#pool.take(length);
    const bytes = buffer.subarray(0, length);
    bytes.set(streams.bytes);
    const done = (): void => this.#pool.give(buffer);
    return isWorthTrying
      ? this.#packCopied({ ...streams, bytes }, done)
      : { ...asItIs(bytes), done };
  }

  /** `done` is called when the streams are needed no more. */
  async #packCopied(streams: Streams, done: () => void): Promise<Payload> {
    const pack = this.#pack;
    const frame: PooledFrame =
      pack === Pack.lz4
        ? { bytes: await lz4CompressBeside(streams.bytes), done: () => {} }
        : await zstdCompressBeside(streams.bytes, this.#level, this.#pool);
    const { length } = frame.bytes;
    if (!this.#shrank(streams, length)) {
      frame.done();
      return { ...asItIs(streams.bytes), done };
    }
    done();
    return { pack, pieces: [frame.bytes], bytes: length, done: frame.done };
  }

  /** The answer may change with the next call. */
  compress(bytes: Uint8Array, pack = this.#pack, level = this.#level): Uint8Array {
    return pack === Pack.lz4 ? lz4Compress(bytes) : zstdCompressContext(level).compress(bytes);
  }

  #isWorthTrying(streams: Streams): boolean {
    if (this.#pack === Pack.none || streams.bytes.length < streamsBytesMin) return false;
    if (!isMostlyRaw(streams)) return true;
    if (this.#samplesInRow === undefined || this.#samplesInRow >= samplesInRowMax) return true;
    this.#samplesInRow++;
    return this.#sampleShrinks(streams.bytes);
  }

  #shrank(streams: Streams, packedBytes: number): boolean {
    const shrank = packedBytes <= streams.bytes.length * shareMax;
    if (isMostlyRaw(streams)) this.#samplesInRow = shrank ? undefined : 0;
    return shrank;
  }

  #sampleShrinks(streams: Uint8Array): boolean {
    if (streams.length <= this.#sample.length) return true;
    const stride = Math.floor((streams.length - sampleBytes) / (sampleCount - 1));
    for (let i = 0; i < sampleCount; i++) {
      this.#sample.set(streams.subarray(i * stride, i * stride + sampleBytes), i * sampleBytes);
    }
    return this.compress(this.#sample).length <= this.#sample.length * shareMax;
  }
}

/** Only whole pages are judged by a sample: other streams always shrink. */
function isMostlyRaw({ bytes, rawsBytes }: Streams): boolean {
  return rawsBytes > bytes.length / 2;
}

function asItIs(bytes: Uint8Array): Payload {
  return { pack: Pack.none, pieces: [bytes], bytes: bytes.length };
}
