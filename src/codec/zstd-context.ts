/**
 * zstd with a context that lasts. Node's calls for whole buffers make a context for every call and throw it away. Measured on
 * batches of 256 KiB, that is 30 to 40 µs of the 60 to 150 which compressing their streams takes, and 20 to 40 of the 30 to 90
 * of decompressing. A stream object of node:zlib keeps its context, but is written to only through the event loop. So its handle
 * is called as node:zlib calls it itself: from memory to memory, nothing is allocated or copied.
 *
 * The handle is no documented interface. Whether it is there and does what is wanted is tried out once; if not, the
 * documented calls do the same, slower. Both write the same bytes.
 */
import zlib, { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { assert } from "../base/index.ts";
import { batchBytesMax } from "./page-batch.ts";

export interface ZstdCompressContext {
  /** Answers the frame, which stays as it is until the next call. */
  compress(bytes: Uint8Array): Uint8Array;
}

export interface ZstdDecompressContext {
  /** Fills all of `to` from the one frame that `bytes` are; throws on anything else. */
  decompress(bytes: Uint8Array, to: Uint8Array): void;
}

/** Larger windows would make zlib allocate on a frame's word. */
const windowLogMax = Math.log2(batchBytesMax);
/** Streams, with what zstd may need to say that they do not shrink. With room for all it works from input to output at once. */
const outputBytes = batchBytesMax + (batchBytesMax >> 6);

/** From how many bytes on level 1 takes what was there before for a match. */
const minMatchOfLevel1 = 5;

/**
 * Of a context. Level 1 with matches from 5 bytes on instead of 6 takes the same time. It writes 3 % less of the 281 MB of a Java VM's guest
 * (level 3 does not do better there), 0.6 to 1.7 % less of the first copies of the traces, and 0.1 to 0.7 % more of their epochs.
 */
export function zstdParams(level: number): Record<number, number> {
  return {
    [constants.ZSTD_c_compressionLevel]: level,
    ...(level === 1 ? { [constants.ZSTD_c_minMatch]: minMatchOfLevel1 } : {}),
  };
}

interface Handle {
  writeSync(
    flush: number,
    from: Uint8Array,
    fromAt: number,
    fromBytes: number,
    to: Uint8Array,
    toAt: number,
    toBytes: number,
  ): void;
}

interface HandleOwner {
  readonly _handle: Handle;
  /** What the last write left: room in the output, then bytes of input. */
  readonly _writeState: Uint32Array;
}

/** One stream object of node:zlib, used through its handle. */
class Context {
  readonly #owner: HandleOwner;
  #error: string | undefined;

  constructor(owner: object) {
    this.#owner = owner as HandleOwner;
    // Node's own would destroy the stream, with an event that nobody awaits.
    Object.assign(this.#owner._handle, {
      onerror: (message: string) => {
        this.#error = message;
      },
    });
  }

  /** Answers how much was written. */
  run(from: Uint8Array, to: Uint8Array): number {
    assert(this.#error === undefined, "a context that failed is not used again");
    const { _handle: handle, _writeState: state } = this.#owner;
    handle.writeSync(constants.ZSTD_e_end, from, 0, from.length, to, 0, to.length);
    if (this.#error !== undefined) throw new Error(this.#error);
    const [room = 0, rest = 0] = state;
    if (rest !== 0) throw new Error("it goes on behind its end");
    return to.length - room;
  }
}

class LastingCompressor implements ZstdCompressContext {
  readonly #level: number;
  readonly #output = Buffer.allocUnsafeSlow(outputBytes);
  #context: Context | undefined;

  constructor(level: number) {
    this.#level = level;
  }

  compress(bytes: Uint8Array): Uint8Array {
    assert(bytes.length <= batchBytesMax, "the output has room");
    const context = this.#context ?? compressing(this.#level);
    // Until it is known to have worked, which it always does while there is memory.
    this.#context = undefined;
    const written = context.run(bytes, this.#output);
    this.#context = context;
    return this.#output.subarray(0, written);
  }
}

function compressing(level: number): Context {
  return new Context(zlib.createZstdCompress({ chunkSize: 64, params: zstdParams(level) }));
}

/** A context would wait for the rest of a frame whose end is missing, and take what comes next for it: such a frame is refused first. */
class LastingDecompressor implements ZstdDecompressContext {
  #context: Context | undefined;

  decompress(bytes: Uint8Array, to: Uint8Array): void {
    if (!isOneFrame(bytes)) throw new Error("it is not one whole frame");
    const context = this.#context ?? decompressing();
    // Until it is known to have worked: one that failed is not used again.
    this.#context = undefined;
    const written = context.run(bytes, to);
    if (written !== to.length) throw new Error(`it holds ${written}`);
    this.#context = context;
  }
}

function decompressing(): Context {
  const params = { [constants.ZSTD_d_windowLogMax]: windowLogMax };
  return new Context(zlib.createZstdDecompress({ chunkSize: 64, params }));
}

const frameMagic = 0xfd2fb528;
const blockRunLength = 1;
const blockReserved = 3;

/** By the lengths that it states itself (RFC 8878, 3.1.1): one frame whose last block, and checksum, end where `bytes` end. */
export function isOneFrame(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 5 || view.getUint32(0, true) !== frameMagic) return false;
  const descriptor = view.getUint8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  const checksumBytes = (descriptor & 4) === 0 ? 0 : 4;
  let at = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let isLast = false; !isLast; ) {
    if (at + 3 > bytes.length) return false;
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    const type = (header >> 1) & 3;
    if (type === blockReserved) return false;
    isLast = (header & 1) === 1;
    at += 3 + (type === blockRunLength ? 1 : header >> 3);
  }
  return at + checksumBytes === bytes.length;
}

const documented = {
  compress: (level: number): ZstdCompressContext => ({
    compress: (bytes) =>
      zstdCompressSync(bytes, {
        chunkSize: outputBytes,
        pledgedSrcSize: bytes.length,
        params: zstdParams(level),
      }),
  }),
  decompress: (): ZstdDecompressContext => ({
    decompress(bytes, to) {
      const { buffer, engine } = zstdDecompressSync(bytes, {
        chunkSize: Math.max(64, to.length + 1),
        maxOutputLength: Math.max(1, to.length),
        params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
        info: true,
      }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
      if (buffer.length !== to.length) throw new Error(`it holds ${buffer.length}`);
      if (engine.bytesWritten !== bytes.length) throw new Error("it goes on behind its end");
      to.set(buffer);
    },
  }),
};

const lasting = {
  compress: (level: number): ZstdCompressContext => new LastingCompressor(level),
  decompress: (): ZstdDecompressContext => new LastingDecompressor(),
};

export type ZstdContexts = typeof documented;

/** Both ways, for tests. */
export const zstdContextKinds: Readonly<Record<"documented" | "lasting", ZstdContexts>> = {
  documented,
  lasting,
};

let chosen: ZstdContexts | undefined;
const compressors = new Map<number, ZstdCompressContext>();

/** One for all encoders of this thread, since none is ever interrupted: 1 to 2 MiB a level. */
export function zstdCompressContext(level: number): ZstdCompressContext {
  chosen ??= works(lasting) ? lasting : documented;
  const made = compressors.get(level) ?? chosen.compress(level);
  compressors.set(level, made);
  return made;
}

/** One for each decoder: what a peer's broken frame leaves in it must not reach another peer's. */
export function zstdDecompressContext(): ZstdDecompressContext {
  chosen ??= works(lasting) ? lasting : documented;
  return chosen.decompress();
}

/** Twice each, since that a context can be used again is the point; and what is no frame is refused. */
export function works(contexts: ZstdContexts): boolean {
  try {
    const compressor = contexts.compress(1);
    const decompressor = contexts.decompress();
    for (const text of ["there and back ", "and once more "]) {
      const bytes = Buffer.alloc(3000, text);
      const frame = Buffer.from(compressor.compress(bytes));
      const back = Buffer.alloc(bytes.length);
      decompressor.decompress(frame, back);
      if (!back.equals(bytes) || !zstdDecompressSync(frame).equals(bytes)) return false;
    }
    return refuses(decompressor);
  } catch {
    return false;
  }
}

function refuses(decompressor: ZstdDecompressContext): boolean {
  try {
    decompressor.decompress(Buffer.from("no frame"), Buffer.alloc(8));
    return false;
  } catch (error) {
    // Anything else is a fault of ours or of the handle's.
    return error instanceof Error && error.constructor === Error;
  }
}
