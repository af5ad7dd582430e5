/**
 * zstd beside this thread: streams of node:zlib work on node's own threads, so that the next batch is looked at while the one
 * before is compressed. Two at a time: with one, a thread would have nothing to do until this one has time to hand it the next.
 * Frames are the same as those of zstd-context.ts.
 */
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import { GodwitError } from "../../base/index.ts";
import type { BufferPool } from "../buffer-pool.ts";
import { batchBytesMax } from "../page-batch.ts";
import { zstdParams } from "../zstd-context.ts";

export const besideCount = 2;

/** A context writes to a buffer of this size, which takes memory as far as it is written. */
const outputBytes = 4 << 20;
/** The largest frame, with what zstd needs to say that streams do not shrink. */
const frameBytesMax = batchBytesMax + (batchBytesMax >> 6);

/** Where node:zlib writes next in its buffer; no documented field. */
interface OutputPlace {
  _outOffset?: unknown;
}

/**
 * One context. `write` is called again when it is done. Its buffer is filled from the beginning each time, where node:zlib lets
 * that be said; else it lasts as long as its buffer, a few dozen frames. A frame that ended exactly where the buffer
 * does would have another, empty one behind it, since node:zlib asks for the rest of what is at its end.
 */
class Worker {
  readonly #stream: ZstdCompress & OutputPlace;
  #failed: ((error: Error) => void) | undefined;
  #writtenBytes = 0;

  constructor(level: number) {
    this.#stream = createZstdCompress({
      flush: constants.ZSTD_e_end,
      chunkSize: outputBytes,
      // A frame is taken as a whole when it is there.
      highWaterMark: 2 * batchBytesMax,
      params: zstdParams(level),
    } as Parameters<typeof createZstdCompress>[0]);
    this.#stream.on("error", (error) => this.#failed?.(error));
  }

  get isOfUse(): boolean {
    return !this.#stream.destroyed && this.#writtenBytes + frameBytesMax < outputBytes;
  }

  close(): void {
    this.#stream.close();
  }

  /** `bytes` must stay as they are until then. Answers the frame in a buffer of the pool, and its length. */
  async write(bytes: Uint8Array, pool: BufferPool): Promise<PooledFrame> {
    return await new Promise((resolve, reject) => {
      this.#failed = reject;
      this.#stream.write(bytes, (error) => {
        const frame = this.#stream.read() as Buffer | null;
        this.#rewind(frame?.length ?? 0);
        if (error instanceof Error) reject(error);
        else if (frame === null) reject(new Error("zstd wrote nothing"));
        else resolve(pooled(frame, pool));
      });
    });
  }

  #rewind(frameBytes: number): void {
    this.#writtenBytes += frameBytes;
    if (this.#stream._outOffset !== this.#writtenBytes) return;
    this.#stream._outOffset = 0;
    this.#writtenBytes = 0;
  }
}

export interface PooledFrame {
  readonly bytes: Uint8Array;
  /** To be called once, when the frame is needed no more. */
  readonly done: () => void;
}

/** What one level's contexts do, for all encoders of this thread. */
class Workers {
  readonly #level: number;
  readonly #free: Worker[] = [];
  readonly #waiting: (() => void)[] = [];
  #busyCount = 0;

  constructor(level: number) {
    this.#level = level;
  }

  async compress(bytes: Uint8Array, pool: BufferPool): Promise<PooledFrame> {
    if (this.#busyCount === besideCount) await new Promise<void>((go) => this.#waiting.push(go));
    else this.#busyCount++;
    let worker: Worker | undefined;
    try {
      worker = this.#free.pop() ?? new Worker(this.#level);
      return await worker.write(bytes, pool);
    } catch (error) {
      throw new GodwitError("IO", `zstd failed: ${String(error)}`, { cause: error });
    } finally {
      if (worker?.isOfUse === true) this.#free.push(worker);
      else worker?.close();
      const next = this.#waiting.shift();
      if (next === undefined) this.#busyCount--;
      else next();
    }
  }
}

function pooled(frame: Buffer, pool: BufferPool): PooledFrame {
  const buffer = pool.take(frame.length);
  buffer.set(frame);
  return { bytes: buffer.subarray(0, frame.length), done: () => pool.give(buffer) };
}

const byLevel = new Map<number, Workers>();

/** One frame of `bytes`, which must stay as they are until it is there. Calls are answered in any order. */
export async function zstdCompressBeside(
  bytes: Uint8Array,
  level: number,
  pool: BufferPool,
): Promise<PooledFrame> {
  const workers = byLevel.get(level) ?? new Workers(level);
  byLevel.set(level, workers);
  return await workers.compress(bytes, pool);
}
