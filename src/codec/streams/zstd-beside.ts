/**
 * zstd beside this thread: streams of node:zlib work on node's own threads, so that the next batch is looked at while the one
 * before is compressed. Two at a time: with one, a thread would have nothing to do until this one has time to hand it the next.
 * Contexts last for a few dozen frames, which are the same as those of zstd-context.ts.
 */
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import { GodwitError } from "../../base/index.ts";
import { batchBytesMax } from "../page-batch.ts";

export const besideCount = 2;

/** Frames are cut from a buffer of this size as they come. It takes memory as far as it is written. */
const outputBytes = 4 << 20;
/** The largest frame, with what zstd needs to say that streams do not shrink. */
const frameBytesMax = batchBytesMax + (batchBytesMax >> 6);

/**
 * One context. `write` is called again when it is done. It lasts as long as its output: a frame that ended exactly where that
 * does would have another, empty one behind it, since node:zlib asks for the rest of what is at its end.
 */
class Worker {
  readonly #stream: ZstdCompress;
  #failed: ((error: Error) => void) | undefined;
  #writtenBytes = 0;

  constructor(level: number) {
    this.#stream = createZstdCompress({
      flush: constants.ZSTD_e_end,
      chunkSize: outputBytes,
      // A frame is taken as a whole when it is there.
      highWaterMark: 2 * batchBytesMax,
      params: { [constants.ZSTD_c_compressionLevel]: level },
    } as Parameters<typeof createZstdCompress>[0]);
    this.#stream.on("error", (error) => this.#failed?.(error));
  }

  get isOfUse(): boolean {
    return !this.#stream.destroyed && this.#writtenBytes + frameBytesMax < outputBytes;
  }

  close(): void {
    this.#stream.close();
  }

  /** `bytes` must stay as they are until then. */
  async write(bytes: Uint8Array): Promise<Uint8Array> {
    return await new Promise((resolve, reject) => {
      this.#failed = reject;
      this.#stream.write(bytes, (error) => {
        const frame = this.#stream.read() as Buffer | null;
        this.#writtenBytes += frame?.length ?? 0;
        if (error instanceof Error) reject(error);
        else if (frame === null) reject(new Error("zstd wrote nothing"));
        else resolve(frame);
      });
    });
  }
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

  async compress(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#busyCount === besideCount) await new Promise<void>((go) => this.#waiting.push(go));
    else this.#busyCount++;
    let worker: Worker | undefined;
    try {
      worker = this.#free.pop() ?? new Worker(this.#level);
      return await worker.write(bytes);
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

const byLevel = new Map<number, Workers>();

/** One frame of `bytes`, which must stay as they are until it is there. Calls are answered in any order. */
export async function zstdCompressBeside(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  const workers = byLevel.get(level) ?? new Workers(level);
  byLevel.set(level, workers);
  return await workers.compress(bytes);
}
