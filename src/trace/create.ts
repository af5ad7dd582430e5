/**
 * Writes trace files. A file has its name only when it is whole: before, it is NAME.PID-START.part (unfinished.ts). It is
 * guest memory: readable for its owner only.
 */
import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { access, link, rm } from "node:fs/promises";
import { finished, pipeline } from "node:stream/promises";
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import { GodwitError } from "../base/index.ts";
import type { PageBatch } from "../codec/index.ts";
import { encodeBatch, encodeEnd, encodeEpoch, encodeTraceHeader } from "./encode.ts";
import { type TraceHeader, windowLogMax } from "./format.ts";
import { removeUnfinished, unfinishedPath } from "./unfinished.ts";

export interface TraceFileOptions {
  /** Of zstd. 1 keeps up with a guest; 12 is for files that are kept. */
  readonly level?: number;
  readonly windowLog?: number;
}

/** Bytes that may wait to be compressed; a stream's option, which zlib's type does not name. */
const waiting = { writableHighWaterMark: 4 << 20 };

export class TraceFile {
  readonly path: string;
  readonly #part: string;
  readonly #zstd: ZstdCompress;
  readonly #out: WriteStream;
  readonly #piped: Promise<void>;
  #failure: unknown;
  #epoch = 0;
  #atMs = 0;
  #pageCount = 0;
  #zeroCount = 0;
  rawBytes = 0;

  private constructor(path: string, header: TraceHeader, options: TraceFileOptions) {
    const { level = 1, windowLog = windowLogMax } = options;
    this.path = path;
    this.#part = unfinishedPath(path, "part");
    this.#zstd = createZstdCompress({
      chunkSize: 64 << 10,
      ...waiting,
      params: {
        [constants.ZSTD_c_compressionLevel]: level,
        [constants.ZSTD_c_windowLog]: windowLog,
        [constants.ZSTD_c_enableLongDistanceMatching]: 1,
        [constants.ZSTD_c_checksumFlag]: 1,
      },
    });
    this.#out = createWriteStream(this.#part, { flags: "wx", mode: 0o600 });
    this.#out.write(encodeTraceHeader(header, windowLog));
    this.#piped = pipeline(this.#zstd, this.#out);
    this.#piped.catch((error: unknown) => {
      this.#failure ??= error;
    });
  }

  /** Fails with CONFLICT when there is such a file already, or one is being written, or IO. */
  static async create(
    path: string,
    header: TraceHeader,
    options: TraceFileOptions = {},
  ): Promise<TraceFile> {
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) throw new GodwitError("CONFLICT", `${path} is there already`);
    // A whole recording that is made smaller has another name than what is made of it.
    const other = (await removeUnfinished(path)).find(({ kind }) => kind === "part");
    if (other !== undefined) throw new GodwitError("CONFLICT", `${other.path} is being written`);
    const file = new TraceFile(path, header, options);
    try {
      await once(file.#out, "open");
    } catch (error) {
      throw file.#error(error);
    }
    return file;
  }

  /** Epochs that have ended, the base included. */
  get epochCount(): number {
    return this.#epoch;
  }

  /** Of what has reached the file. */
  get fileBytes(): number {
    return this.#out.bytesWritten;
  }

  /** True while so much waits to be compressed that no more should be written until `drained`. */
  get isFull(): boolean {
    return this.#zstd.writableNeedDrain;
  }

  /** Resolves when `isFull` has ended; fails with IO. */
  async drained(): Promise<void> {
    if (this.#failure !== undefined) throw this.#error(this.#failure);
    if (!this.isFull) return;
    await Promise.race([once(this.#zstd, "drain"), this.#piped]);
    if (this.#failure !== undefined) throw this.#error(this.#failure);
  }

  /** Adds records to the epoch; they are copied at once. */
  batch(atMs: number, batch: PageBatch): void {
    this.#pageCount += batch.pageCount;
    this.#zeroCount += batch.zeroCount;
    this.rawBytes += batch.bytes;
    this.#write(encodeBatch(this.#epoch, this.#at(atMs), batch));
  }

  /** `dirtyCount`: pages that the epoch had before any were left out. */
  endEpoch(atMs: number, dirtyCount = this.#pageCount + this.#zeroCount): void {
    const [pageCount, zeroCount] = [this.#pageCount, this.#zeroCount];
    const at = this.#at(atMs);
    this.#write(encodeEpoch({ epoch: this.#epoch, atMs: at, pageCount, zeroCount, dirtyCount }));
    this.#epoch++;
    this.#pageCount = 0;
    this.#zeroCount = 0;
  }

  /** Completes the file, between epochs, and gives it its name. Fails with CONFLICT or IO. */
  async close(): Promise<void> {
    try {
      const end = encodeEnd({ epochCount: this.#epoch, atMs: this.#atMs });
      // Told of the end while data waits, Node's zlib would end the zstd frame twice, the second time with an empty one.
      await Promise.race([new Promise((resolve) => this.#zstd.write(end, resolve)), this.#piped]);
      this.#zstd.end();
      await this.#piped;
      // Unlike a rename, this replaces nothing that came meanwhile.
      await link(this.#part, this.path);
    } catch (error) {
      throw this.#error(error);
    } finally {
      await this.abandon();
    }
  }

  /** Removes what was written. Safe at any time; after `close` it does nothing more. */
  async abandon(): Promise<void> {
    this.#zstd.destroy();
    await this.#piped.catch(() => {});
    await finished(this.#out).catch(() => {});
    await rm(this.#part, { force: true });
  }

  #write(bytes: Buffer): void {
    if (this.#failure === undefined) this.#zstd.write(bytes);
  }

  /** Whole and never going back, as readers insist. */
  #at(atMs: number): number {
    this.#atMs = Math.max(this.#atMs, Math.round(atMs));
    return this.#atMs;
  }

  #error(error: unknown): GodwitError {
    if (error instanceof GodwitError) return error;
    const why = error instanceof Error ? error.message : String(error);
    const code = (error as NodeJS.ErrnoException).code === "EEXIST" ? "CONFLICT" : "IO";
    return new GodwitError(code, `the trace ${this.path} cannot be written: ${why}`, {
      cause: error,
    });
  }
}
