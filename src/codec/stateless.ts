/**
 * What codecs share that compress every batch by itself: a frame can be decoded whatever came before it, and neither side
 * keeps a history.
 *
 * Compression runs in the caller's thread: that takes the least of all processors, and does for most links. Codec streams with a
 * history are compressed by other threads (streams/packer.ts).
 *
 * Memory that does not compress (media, encrypted or compressed caches) comes in long stretches. Once a batch did not
 * shrink, the next ones are judged by a sample of a few KiB, at a sixth of the cost, until one looks compressible again.
 */
import { assert, GodwitError } from "../base/index.ts";
import { BufferPool } from "./buffer-pool.ts";
import type { HeldBytes } from "./held-bytes.ts";
import { codecIds } from "./ids.ts";
import {
  type BatchDecoder,
  type BatchEncoder,
  batchBytesMax,
  type Encoded,
  type PageBatch,
  type RecordRange,
} from "./page-batch.ts";
import type { ZstdDecompressContext } from "./zstd-context.ts";

/** Less is not worth a call, which costs 20 µs and some bytes of frame. */
const batchBytesMin = 256;
/** A batch goes as it is unless it shrinks to this share: it would cost the other side time for nothing. */
const shareMax = 0.95;

/** Shorter bodies would waste most of a buffer of the pool. */
const pooledBytesMin = 8 << 10;

const sampleCount = 8;
const sampleBytes = 1 << 10;
/** So many batches in a row are judged by their sample only; samples can err on mixed memory. */
const samplesInRowMax = 16;

export interface Compressor {
  readonly id: number;
  readonly name: string;
  /** What is answered stays as it is until the next call; it may lie in a larger buffer. */
  compress(bytes: Uint8Array): Uint8Array;
}

export interface Decompressor {
  readonly id: number;
  readonly name: string;
  /**
   * Exactly `rawBytes` (at most `batchBytesMax`) from all of `bytes`; anything else throws. Whatever `bytes` says, it
   * allocates no more than about that.
   */
  decompress(bytes: Uint8Array, rawBytes: number): Uint8Array;
}

/** Makes contexts that write to where they are told to; each lasts. */
export interface ContextDecompressor {
  readonly id: number;
  readonly name: string;
  context(): ZstdDecompressContext;
}

/** Takes 512 KiB for batches in several pieces. */
export class StatelessEncoder implements BatchEncoder {
  readonly name: string;
  id: number = codecIds.none;
  readonly #compressor: Compressor;
  readonly #scratch = Buffer.allocUnsafeSlow(batchBytesMax);
  readonly #sample = Buffer.allocUnsafeSlow(sampleCount * sampleBytes);
  readonly #pool = new BufferPool();
  /** Batches since the last one that was tried as a whole and did not shrink; undefined when it did. */
  #samplesInRow: number | undefined;

  constructor(compressor: Compressor) {
    this.name = compressor.name;
    this.#compressor = compressor;
  }

  get memoryBytes(): number {
    return this.#scratch.length + this.#sample.length;
  }

  reset(): void {
    this.#samplesInRow = undefined;
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    const body = this.#tryToShrink(batch);
    return body === undefined ? batch.pieces : [new Uint8Array(body)];
  }

  /** The same in buffers that are used again; nothing is left to other threads. */
  later(batch: PageBatch): Encoded {
    const body = this.#tryToShrink(batch);
    const { id } = this;
    if (body === undefined) return { id, body: batch.pieces };
    if (body.length < pooledBytesMin) return { id, body: [new Uint8Array(body)] };
    const buffer = this.#pool.take(body.length);
    buffer.set(body);
    const done = (): void => this.#pool.give(buffer);
    return { id, body: [buffer.subarray(0, body.length)], done };
  }

  /** What the batch would come to, in bytes. Changes nothing. */
  bytesOf(batch: PageBatch): number {
    const { length } = this.#compressor.compress(inOnePiece(batch, this.#scratch));
    return Math.min(length, batch.bytes);
  }

  /** Answers undefined when the batch should go as it is. */
  #tryToShrink(batch: PageBatch): Uint8Array | undefined {
    assert(batch.bytes <= batchBytesMax, "a batch fits a frame");
    const body = batch.bytes < batchBytesMin ? undefined : this.#compress(batch);
    this.id = body === undefined ? codecIds.none : this.#compressor.id;
    return body;
  }

  #compress(batch: PageBatch): Uint8Array | undefined {
    const records = inOnePiece(batch, this.#scratch);
    if (this.#samplesInRow !== undefined && this.#samplesInRow < samplesInRowMax) {
      this.#samplesInRow++;
      if (!this.#sampleShrinks(records)) return undefined;
    }
    const body = this.#compressor.compress(records);
    const shrank = body.length <= records.length * shareMax;
    this.#samplesInRow = shrank ? undefined : 0;
    return shrank ? body : undefined;
  }

  /** From equal distances, as memory changes its kind from page to page. */
  #sampleShrinks(records: Uint8Array): boolean {
    if (records.length <= this.#sample.length) return true;
    const stride = Math.floor((records.length - sampleBytes) / (sampleCount - 1));
    for (let i = 0; i < sampleCount; i++) {
      this.#sample.set(records.subarray(i * stride, i * stride + sampleBytes), i * sampleBytes);
    }
    const { length } = this.#compressor.compress(this.#sample);
    return length <= this.#sample.length * shareMax;
  }
}

/**
 * What is decoded and held is bounded by `HeldBytes`. A decompressor with a context writes to buffers that are used again; what others
 * allocate V8 collects, about 30 MiB of it at most, measured.
 */
export class StatelessDecoder implements BatchDecoder {
  readonly id: number;
  readonly #decompressor: Decompressor | ContextDecompressor;
  readonly #held: HeldBytes;
  readonly #pool = new BufferPool();
  #context: ZstdDecompressContext | undefined;

  constructor(decompressor: Decompressor | ContextDecompressor, held: HeldBytes) {
    this.id = decompressor.id;
    this.#decompressor = decompressor;
    this.#held = held;
  }

  decode(body: RecordRange, rawBytes: number): RecordRange {
    assert(rawBytes <= batchBytesMax, "checked by the caller");
    const input = body.bytes.subarray(body.from, body.to);
    // A batch that does not shrink is sent as it is.
    if (input.length >= rawBytes) throw this.#invalid(input, rawBytes, "and is not shorter");
    const decompressor = this.#decompressor;
    if ("context" in decompressor) {
      return this.#decodeTo(this.#bufferFor(rawBytes), input, rawBytes, decompressor);
    }
    const bytes = this.#tried(input, rawBytes, () => decompressor.decompress(input, rawBytes));
    return { bytes, from: 0, to: rawBytes, hold: () => this.#held.hold(rawBytes) };
  }

  #bufferFor(rawBytes: number): Buffer {
    return rawBytes < pooledBytesMin ? Buffer.allocUnsafeSlow(rawBytes) : this.#pool.take(rawBytes);
  }

  #decodeTo(
    buffer: Buffer,
    input: Uint8Array,
    rawBytes: number,
    decompressor: ContextDecompressor,
  ): RecordRange {
    const context = (this.#context ??= decompressor.context());
    this.#tried(input, rawBytes, () => context.decompress(input, buffer.subarray(0, rawBytes)));
    let holderCount = 0;
    const hold = (): (() => void) => {
      assert(holderCount >= 0, "records held that were released");
      holderCount++;
      // What is taken, not what is used of it: the pool's buffers are up to twice as long.
      const release = this.#held.hold(buffer.length);
      return () => {
        release();
        if (--holderCount > 0) return;
        holderCount = -1;
        if (buffer.length >= pooledBytesMin) this.#pool.give(buffer);
      };
    };
    return { bytes: buffer, from: 0, to: rawBytes, hold };
  }

  #tried<T>(input: Uint8Array, rawBytes: number, run: () => T): T {
    try {
      return run();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.#invalid(input, rawBytes, `and cannot be decoded (${why})`, cause);
    }
  }

  #invalid(input: Uint8Array, rawBytes: number, why: string, cause?: unknown): GodwitError {
    return new GodwitError(
      "FRAME_INVALID",
      `a ${this.#decompressor.name} batch of ${input.length} bytes that claims ${rawBytes} ${why}`,
      cause === undefined ? {} : { cause },
    );
  }
}

/** The batch's records without a gap: where they lie, or copied to `scratch`. */
function inOnePiece({ pieces, bytes }: PageBatch, scratch: Uint8Array): Uint8Array {
  const [first] = pieces;
  if (first !== undefined && pieces.length === 1) return first;
  let at = 0;
  for (const piece of pieces) {
    scratch.set(piece, at);
    at += piece.length;
  }
  assert(at === bytes, "the pieces are the batch");
  return scratch.subarray(0, at);
}
