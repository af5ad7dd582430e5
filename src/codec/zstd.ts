/**
 * Codec zstd: a batch is one zstd frame (RFC 8878) of its records, zero records included. Every batch stands alone, so a
 * frame can be decoded whatever came before it, and neither side keeps a history.
 *
 * Compression runs in the caller's thread: level 1 takes 400 to 850 MB/s of a guest's records, which leave as 130 to 150,
 * more than a link of 1 Gbit/s carries. *Rejected:* libuv's threads. Batches would have to be put back in order, and slabs
 * held longer, for a gain on links on which compression does not pay anyway.
 *
 * Memory that does not compress (media, encrypted or compressed caches) comes in long stretches. Once a batch did not
 * shrink, the next ones are judged by a sample of a few KiB, at a sixth of the cost, until one looks compressible again.
 */
import { constants, type ZstdOptions, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { assert, GodwitError } from "../base/index.ts";
import type { HeldBytes } from "./held-bytes.ts";
import { codecIds } from "./ids.ts";
import {
  type BatchDecoder,
  type BatchEncoder,
  batchBytesMax,
  type PageBatch,
  type RecordRange,
} from "./page-batch.ts";

/** On memory, 3 saves 4 % more bytes for 30 % more time; -3 is 1.4 times as fast and sends 20 % more. */
export const zstdLevelDefault = 1;
/** -1 is missing: zlib silently takes it for its default, 3. */
export const zstdLevels: readonly number[] = [-7, -6, -5, -4, -3, -2, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Less is not worth a call, which costs 20 µs and some bytes of frame. */
const batchBytesMin = 256;
/** A batch goes as it is unless it shrinks to this share: it would cost the other side time for nothing. */
const shareMax = 0.95;

const sampleCount = 8;
const sampleBytes = 1 << 10;
/** So many batches in a row are judged by their sample only; samples can err on mixed memory. */
const samplesInRowMax = 16;

/** Compressed batches come in pieces of at most this. */
const chunkBytes = 64 << 10;

/**
 * Takes 512 KiB for batches in several pieces. Each call allocates zlib's context (1 MiB, freed at once) and its output, which
 * V8 collects: about 45 MiB of it at most, measured.
 */
export class ZstdEncoder implements BatchEncoder {
  readonly name = "zstd";
  id: number = codecIds.none;
  readonly #options: ZstdOptions;
  readonly #scratch = Buffer.allocUnsafeSlow(batchBytesMax);
  readonly #sample = Buffer.allocUnsafeSlow(sampleCount * sampleBytes);
  /** Batches since the last one that was tried as a whole and did not shrink; undefined when it did. */
  #samplesInRow: number | undefined;

  constructor(level: number = zstdLevelDefault) {
    assert(zstdLevels.includes(level), `a zstd level: ${level}`);
    this.#options = {
      chunkSize: chunkBytes,
      params: { [constants.ZSTD_c_compressionLevel]: level },
    };
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    assert(batch.bytes <= batchBytesMax, "a batch fits a frame");
    const body = batch.bytes < batchBytesMin ? undefined : this.#compress(batch);
    this.id = body === undefined ? codecIds.none : codecIds.zstd;
    return body === undefined ? batch.pieces : [body];
  }

  /** Answers undefined when the batch should go as it is. */
  #compress(batch: PageBatch): Uint8Array | undefined {
    const records = this.#inOnePiece(batch);
    if (this.#samplesInRow !== undefined && this.#samplesInRow < samplesInRowMax) {
      this.#samplesInRow++;
      if (!this.#sampleShrinks(records)) return undefined;
    }
    const body = zstdCompressSync(records, this.#options);
    const shrank = body.length <= records.length * shareMax;
    this.#samplesInRow = shrank ? undefined : 0;
    return shrank ? tight(body) : undefined;
  }

  #inOnePiece({ pieces, bytes }: PageBatch): Uint8Array {
    const [first] = pieces;
    if (first !== undefined && pieces.length === 1) return first;
    let at = 0;
    for (const piece of pieces) {
      this.#scratch.set(piece, at);
      at += piece.length;
    }
    assert(at === bytes, "the pieces are the batch");
    return this.#scratch.subarray(0, at);
  }

  /** From equal distances, as memory changes its kind from page to page. */
  #sampleShrinks(records: Uint8Array): boolean {
    if (records.length <= this.#sample.length) return true;
    const stride = Math.floor((records.length - sampleBytes) / (sampleCount - 1));
    for (let i = 0; i < sampleCount; i++) {
      this.#sample.set(records.subarray(i * stride, i * stride + sampleBytes), i * sampleBytes);
    }
    const { length } = zstdCompressSync(this.#sample, this.#options);
    return length <= this.#sample.length * shareMax;
  }
}

/** A body waits for the link: it must not keep a mostly empty buffer of zlib's alive. */
function tight(bytes: Uint8Array): Uint8Array {
  return bytes.buffer.byteLength > 2 * bytes.length ? new Uint8Array(bytes) : bytes;
}

/** What zlib answers with the option `info`. */
interface DecompressedWithInfo {
  readonly buffer: Buffer;
  /** `bytesWritten`: bytes of input that were used. */
  readonly engine: { readonly bytesWritten: number };
}

/** Larger windows would make zlib allocate up to 128 MiB on a frame's word. */
const windowLogMax = Math.log2(batchBytesMax);

/** What is decoded and held is bounded by `HeldBytes`; what was released V8 collects, about 30 MiB of it at most, measured. */
export class ZstdDecoder implements BatchDecoder {
  readonly id = codecIds.zstd;
  readonly #held: HeldBytes;

  constructor(held: HeldBytes) {
    this.#held = held;
  }

  decode(body: RecordRange, rawBytes: number): RecordRange {
    assert(rawBytes <= batchBytesMax, "checked by the caller");
    const input = body.bytes.subarray(body.from, body.to);
    // A batch that does not shrink is sent as it is.
    if (input.length >= rawBytes) throw invalid(input, rawBytes, "and is not shorter");
    const bytes = decompress(input, rawBytes);
    return { bytes, from: 0, to: rawBytes, hold: () => this.#held.hold(rawBytes) };
  }
}

function decompress(input: Uint8Array, rawBytes: number): Uint8Array {
  let result: DecompressedWithInfo;
  try {
    result = zstdDecompressSync(input, {
      // One more than there may be: an exact buffer would be full, and zlib would allocate another for what might follow.
      chunkSize: Math.max(64, rawBytes + 1),
      maxOutputLength: rawBytes,
      params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
      info: true,
    }) as unknown as DecompressedWithInfo;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw invalid(input, rawBytes, `and cannot be decoded (${why})`, cause);
  }
  const { buffer, engine } = result;
  if (buffer.length !== rawBytes) throw invalid(input, rawBytes, `and holds ${buffer.length}`);
  if (engine.bytesWritten !== input.length) {
    throw invalid(input, rawBytes, `and goes on after ${engine.bytesWritten}`);
  }
  return buffer;
}

function invalid(input: Uint8Array, rawBytes: number, why: string, cause?: unknown): GodwitError {
  return new GodwitError(
    "FRAME_INVALID",
    `a zstd batch of ${input.length} bytes that claims ${rawBytes} ${why}`,
    cause === undefined ? {} : { cause },
  );
}
