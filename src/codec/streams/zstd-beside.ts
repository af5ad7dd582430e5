/**
 * zstd beside this thread: streams of node:zlib work on node's own threads, so that the next batch is looked at while the one
 * before is compressed. Two at a time: with one, a thread would have nothing to do until this one has time to hand it the next.
 * Contexts last, and frames are the same as those of zstd-context.ts.
 */
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import { GodwitError } from "../../base/index.ts";
import { batchBytesMax } from "../page-batch.ts";

export const besideCount = 2;

/** Frames are cut from buffers of this size as they come. */
const outputBytes = 1 << 20;

/** One context. `write` is called again when it is done. */
class Worker {
  readonly #stream: ZstdCompress;
  #failed: ((error: Error) => void) | undefined;

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

  get isBroken(): boolean {
    return this.#stream.destroyed;
  }

  /** `bytes` must stay as they are until then. */
  async write(bytes: Uint8Array): Promise<Uint8Array> {
    return await new Promise((resolve, reject) => {
      this.#failed = reject;
      this.#stream.write(bytes, (error) => {
        if (error instanceof Error) reject(error);
        else resolve(this.#read());
      });
    });
  }

  #read(): Uint8Array {
    const frame = this.#stream.read() as Buffer | null;
    if (frame === null) throw new Error("zstd wrote nothing");
    return frame;
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
    const worker = this.#free.pop() ?? new Worker(this.#level);
    try {
      return await worker.write(bytes);
    } catch (error) {
      throw new GodwitError("IO", `zstd failed: ${String(error)}`, { cause: error });
    } finally {
      if (!worker.isBroken) this.#free.push(worker);
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
