/** Reads trace files: one frame at a time, in bounded memory. */
import { createReadStream } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { constants, createZstdDecompress } from "node:zlib";
import { GodwitError } from "../base/index.ts";
import { decodeHeader, decodePreamble, invalid, TraceDecoder } from "./decode.ts";
import { EpochPages } from "./epoch-pages.ts";
import {
  type TraceBatch,
  type TraceFrame,
  type TraceHeader,
  tracePreambleBytes,
} from "./format.ts";

/** Of the pages of one merged epoch. */
const mergedBytesMax = 2 ** 30;
const chunkBytes = 256 << 10;

interface Opened {
  readonly header: TraceHeader;
  readonly windowLog: number;
  /** Where the frames begin, in the file. */
  readonly offset: number;
}

/** Fails with TRACE_INVALID, or IO when the file cannot be read. */
export async function readTraceHeader(path: string): Promise<TraceHeader> {
  return (await openTrace(path)).header;
}

async function openTrace(path: string): Promise<Opened> {
  await using file = await openFile(path);
  const preamble = await readAtMost(file, tracePreambleBytes);
  const { windowLog, headerBytes } = decodePreamble(preamble);
  const offset = tracePreambleBytes + headerBytes;
  return { header: decodeHeader(await readAtMost(file, offset)), windowLog, offset };
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    throw ioError(path, cause);
  }
}

async function readAtMost(file: FileHandle, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, 0);
  return buffer.subarray(0, bytesRead);
}

/**
 * All frames in the order of the file; the last is the end. Fails with TRACE_INVALID (then what came before was sound), or IO.
 */
export async function* readTraceFrames(path: string): AsyncGenerator<TraceFrame> {
  const { header, windowLog, offset } = await openTrace(path);
  const decoder = new TraceDecoder(header);
  const file = createReadStream(path, { start: offset, highWaterMark: chunkBytes });
  const zstd = createZstdDecompress({
    chunkSize: chunkBytes,
    params: { [constants.ZSTD_d_windowLogMax]: windowLog },
  });
  let failure: unknown;
  pipeline(file, zstd, (error) => {
    failure ??= error;
  });
  try {
    for await (const chunk of zstd) yield* decoder.push(chunk as Buffer);
  } catch (error) {
    throw readError(path, decoder.offset, failure ?? error);
  } finally {
    file.destroy();
    zstd.destroy();
  }
  decoder.assertEnded();
  // zlib says nothing of what it did not take.
  const { size } = await stat(path);
  const end = offset + zstd.bytesWritten;
  if (size !== end) throw invalid(`${size - end} bytes after the end`, end);
}

/** Whatever is not ours: the file system's errors have a path, zlib's a code that begins with Z. */
function readError(path: string, offset: number, error: unknown): Error {
  if (error instanceof GodwitError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code === "string" && (code.startsWith("Z") || code.startsWith("ERR_ZSTD"))) {
    const what = code === "Z_BUF_ERROR" ? "it was cut off" : (error as Error).message;
    return invalid(`it cannot be decompressed (${what})`, offset, error);
  }
  if ((error as NodeJS.ErrnoException).syscall !== undefined) return ioError(path, error);
  return error instanceof Error ? error : new Error(String(error));
}

function ioError(path: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError("IO", `the trace ${path} cannot be read: ${why}`, { cause });
}

/**
 * The pages of a trace, epoch by epoch, in ascending order of block and page. Epoch 0 is the base image, which may hold a
 * page twice: the last version counts (docs/formats/trace.md).
 *
 * `intervalMs`, a multiple of the recorded interval, merges as many epochs into one as make it up, the last version of each
 * page winning; batches then carry the merged epoch's number and the time of its last part. The base stays as it is.
 * Fails with TRACE_INVALID, IO, or CONFIG_INVALID for an interval that cannot be made.
 */
export async function* readTrace(
  path: string,
  options: { readonly intervalMs?: number } = {},
): AsyncGenerator<TraceBatch> {
  const { intervalMs: recordedMs } = await readTraceHeader(path);
  const count = epochsPerInterval(recordedMs, options.intervalMs ?? recordedMs);
  const pages = new EpochPages();
  let atMs = 0;
  let epoch = 0;
  function* merged(): Generator<TraceBatch> {
    for (const batch of pages.batches()) yield { epoch: Math.ceil(epoch / count), atMs, batch };
    pages.clear();
  }
  for await (const frame of readTraceFrames(path)) {
    if (frame.type === "batch" && (count === 1 || frame.epoch === 0)) {
      yield { epoch: frame.epoch, atMs: frame.atMs, batch: frame.batch };
    } else if (frame.type === "batch") {
      for (const piece of frame.batch.pieces) pages.put(frame.batch.block, piece, 0, piece.length);
      if (pages.bytes > mergedBytesMax) {
        throw new GodwitError("CONFIG_INVALID", "so long an interval has too many pages to merge");
      }
    } else if (frame.type === "epoch") {
      ({ epoch, atMs } = frame);
      if (epoch % count === 0) yield* merged();
    }
  }
  yield* merged();
}

function epochsPerInterval(recordedMs: number, intervalMs: number): number {
  const count = Math.round(intervalMs / recordedMs);
  if (count >= 1 && Math.abs(count * recordedMs - intervalMs) < 1e-6) return count;
  throw new GodwitError(
    "CONFIG_INVALID",
    `this trace was recorded every ${recordedMs} ms: an interval of ${intervalMs} ms is no multiple of that`,
  );
}
