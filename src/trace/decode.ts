/**
 * Pure: bytes of a trace file to its header and frames. Nothing in the file is trusted: every claim is checked before
 * memory is taken for it. Errors (TRACE_INVALID) tell the offset: in the file for the header, behind the compression for frames.
 */
import { crc32c } from "@node-rs/crc32";
import { z } from "zod";
import { GodwitError } from "../base/index.ts";
import { checkRecords, pageBytes, pageOfWord, zeroRecordBytes } from "../qemu/stream/index.ts";
import {
  compressionZstd,
  headerBytesMax,
  pageCountOf,
  traceBatchBytesMax,
  type TraceFrame,
  traceFrameBytes,
  TraceFrameType,
  type TraceHeader,
  traceMagic,
  tracePreambleBytes,
  traceVersion,
  windowLogMax,
  windowLogMin,
} from "./format.ts";

export interface TracePreamble {
  readonly windowLog: number;
  readonly headerBytes: number;
}

const memoryBytesMax = 2 ** 44;

const headerSchema = z
  .object({
    vmName: z.string().max(255),
    workload: z.string().max(255),
    qemuVersion: z.string().max(255),
    accelerator: z.string().max(32),
    blocks: z
      .array(
        z.object({
          name: z.string().min(1).max(255),
          lengthBytes: z.int().min(pageBytes).max(memoryBytesMax).multipleOf(pageBytes),
        }),
      )
      .min(1)
      .max(1024),
    memoryBytes: z.int().max(memoryBytesMax),
    intervalMs: z.number().positive().max(3_600_000),
    base: z.enum(["full", "touched", "none"]),
    sampled: z
      .object({ pages: z.int().min(1).max(65_536), base: z.int().min(0).max(65_536) })
      .optional(),
    changedOnly: z.boolean().optional(),
    note: z.string().max(4_000),
  })
  .refine(
    ({ blocks, memoryBytes }) =>
      memoryBytes === blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    "memoryBytes is not the sum of the blocks",
  );

/** `bytes`: the first `tracePreambleBytes` of the file, or fewer when it ends there. */
export function decodePreamble(bytes: Buffer): TracePreamble {
  const magic = bytes.toString("latin1", 0, 8);
  if (magic !== traceMagic) throw invalid("this is no trace file", 0);
  if (bytes.length < tracePreambleBytes) throw invalid("the file ends in its preamble", 8);
  const version = bytes.readUInt16BE(8);
  if (version !== traceVersion) {
    throw invalid(`version ${version}; this godwit reads version ${traceVersion}`, 8);
  }
  if (bytes[10] !== compressionZstd) throw invalid(`compression ${bytes[10]} is not known`, 10);
  const windowLog = bytes[11] as number;
  if (windowLog < windowLogMin || windowLog > windowLogMax) {
    throw invalid(`a window of 2^${windowLog} bytes`, 11);
  }
  const headerBytes = bytes.readUInt32BE(12);
  if (headerBytes > headerBytesMax) throw invalid(`a header of ${headerBytes} bytes`, 12);
  return { windowLog, headerBytes };
}

/** `bytes`: preamble and header, or fewer when the file ends there. */
export function decodeHeader(bytes: Buffer): TraceHeader {
  const { headerBytes } = decodePreamble(bytes);
  const end = tracePreambleBytes + headerBytes;
  if (bytes.length < end) throw invalid("the file ends in its header", bytes.length);
  const json = bytes.subarray(tracePreambleBytes, end);
  if (crc32c(json, crc32c(bytes.subarray(0, 16))) !== bytes.readUInt32BE(16)) {
    throw invalid("the header's checksum is wrong", 16);
  }
  let value: unknown;
  try {
    value = JSON.parse(json.toString("utf8"));
  } catch (cause) {
    throw invalid("the header is not JSON", tracePreambleBytes, cause);
  }
  const parsed = headerSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  const what = where === "" ? issue?.message : `${where}: ${issue?.message}`;
  throw invalid(`the header is wrong (${what})`, tracePreambleBytes);
}

/** Fields of a frame's header. */
interface Head {
  type: number;
  block: number;
  epoch: number;
  atMs: number;
  pageCount: number;
  zeroCount: number;
  bodyBytes: number;
  dirtyCount: number;
}

/** Takes the decompressed bytes in any pieces, and gives frames. One that has thrown is dead. */
export class TraceDecoder {
  readonly #pageCounts: readonly number[];
  /** Header, or header and body, of the frame that is being collected. */
  readonly #headBytes = Buffer.alloc(traceFrameBytes);
  #headFilled = 0;
  #head: Head | undefined;
  #body = Buffer.alloc(0);
  #bodyFilled = 0;
  /** Offset of the current frame. */
  #offset = 0;
  #ended = false;

  #epoch = 0;
  #atMs = 0;
  #epochPages = 0;
  #epochZeros = 0;
  /** Block and page of the epoch's last record. */
  #lastBlock = -1;
  #lastPage = -1;
  #sweeps = 1;

  constructor(header: TraceHeader) {
    this.#pageCounts = header.blocks.map(pageCountOf);
  }

  /** A batch's records lie in memory of their own. */
  *push(bytes: Uint8Array): Generator<TraceFrame> {
    let at = 0;
    while (at < bytes.length) {
      if (this.#ended) throw this.#invalid("bytes after the end");
      if (this.#head === undefined) {
        const count = Math.min(traceFrameBytes - this.#headFilled, bytes.length - at);
        this.#headBytes.set(bytes.subarray(at, at + count), this.#headFilled);
        this.#headFilled += count;
        at += count;
        if (this.#headFilled < traceFrameBytes) return;
        this.#head = this.#readHead();
        this.#body = Buffer.allocUnsafeSlow(this.#head.bodyBytes);
        this.#bodyFilled = 0;
      }
      const count = Math.min(this.#body.length - this.#bodyFilled, bytes.length - at);
      this.#body.set(bytes.subarray(at, at + count), this.#bodyFilled);
      this.#bodyFilled += count;
      at += count;
      if (this.#bodyFilled < this.#body.length) return;
      yield this.#frame(this.#head);
      this.#offset += traceFrameBytes + this.#body.length;
      this.#head = undefined;
      this.#headFilled = 0;
    }
  }

  /** For the end of the file: it must be the end of the trace. */
  assertEnded(): void {
    if (!this.#ended) throw this.#invalid("the file was cut off before its end");
  }

  /** Bytes behind the compression up to the current frame. */
  get offset(): number {
    return this.#offset;
  }

  #readHead(): Head {
    const bytes = this.#headBytes;
    const type = bytes[0] as number;
    const bodyBytes = bytes.readUInt32BE(20);
    const isBatch = type === TraceFrameType.batch;
    if (!isBatch && type !== TraceFrameType.epoch && type !== TraceFrameType.end) {
      throw this.#invalid(`frame type ${type} does not exist`);
    }
    if (isBatch ? bodyBytes < zeroRecordBytes || bodyBytes > traceBatchBytesMax : bodyBytes > 0) {
      throw this.#invalid(`a frame of type ${type} with a body of ${bodyBytes} bytes`);
    }
    return {
      type,
      block: bytes.readUInt16BE(2),
      epoch: bytes.readUInt32BE(4),
      atMs: bytes.readUInt32BE(8),
      pageCount: bytes.readUInt32BE(12),
      zeroCount: bytes.readUInt32BE(16),
      bodyBytes,
      dirtyCount: bytes.readUInt32BE(24),
    };
  }

  #frame(head: Head): TraceFrame {
    const checksum = crc32c(this.#body, crc32c(this.#headBytes.subarray(0, 28)));
    if (checksum !== this.#headBytes.readUInt32BE(28)) throw this.#invalid("a wrong checksum");
    if (head.epoch !== this.#epoch) {
      throw this.#invalid(`epoch ${head.epoch} where ${this.#epoch} belongs`);
    }
    if (head.atMs < this.#atMs) throw this.#invalid("time goes backwards");
    this.#atMs = head.atMs;
    if (head.type === TraceFrameType.batch) return this.#batch(head);
    const { epoch, atMs, pageCount, zeroCount, dirtyCount } = head;
    if (head.type === TraceFrameType.end && this.#epochPages + this.#epochZeros > 0) {
      throw this.#invalid(`an end in the middle of epoch ${epoch}`);
    }
    if (pageCount !== this.#epochPages || zeroCount !== this.#epochZeros) {
      throw this.#invalid(`epoch ${epoch} has not the pages that it claims`);
    }
    if (head.type === TraceFrameType.end) {
      this.#ended = true;
      return { type: "end", epochCount: epoch, atMs };
    }
    this.#nextEpoch();
    return { type: "epoch", epoch, atMs, pageCount, zeroCount, dirtyCount };
  }

  #nextEpoch(): void {
    this.#epoch++;
    this.#epochPages = 0;
    this.#epochZeros = 0;
    this.#lastBlock = -1;
    this.#lastPage = -1;
    // Only the base may begin again.
    this.#sweeps = 2;
  }

  #batch({ block, epoch, atMs, bodyBytes, ...head }: Head): TraceFrame {
    const blockPages = this.#pageCounts[block];
    if (blockPages === undefined) throw this.#invalid(`block ${block} does not exist`);
    const body = this.#body;
    const view = new DataView(body.buffer, body.byteOffset, body.length);
    const counts = checkRecords(view, 0, bodyBytes, blockPages);
    if (typeof counts === "string") throw this.#invalid(counts);
    const { pageCount, zeroCount } = counts;
    if (pageCount !== head.pageCount || zeroCount !== head.zeroCount) {
      throw this.#invalid("a batch that has not the pages that it claims");
    }
    this.#checkOrder(view, block, bodyBytes);
    this.#epochPages += pageCount;
    this.#epochZeros += zeroCount;
    const batch = { block, pieces: [body], bytes: bodyBytes, pageCount, zeroCount };
    return { type: "batch", epoch, atMs, batch };
  }

  /** Ascending within an epoch; the base may begin once more, with a batch. */
  #checkOrder(view: DataView, block: number, bodyBytes: number): void {
    const first = pageOfWord(view, 0);
    const ascends =
      block > this.#lastBlock || (block === this.#lastBlock && first > this.#lastPage);
    if (!ascends) {
      this.#sweeps++;
      if (this.#sweeps > 2) throw this.#invalid(`page ${first} of block ${block} out of order`);
    }
    this.#lastBlock = block;
    let last = -1;
    for (let at = 0; at < bodyBytes; at += recordBytesAt(view, at)) {
      const page = pageOfWord(view, at);
      if (page <= last) throw this.#invalid(`page ${page} of block ${block} out of order`);
      last = page;
    }
    this.#lastPage = last;
  }

  #invalid(what: string): GodwitError {
    return invalid(what, this.#offset);
  }
}

/** Length of the sound record at `at`. */
export function recordBytesAt(view: DataView, at: number): number {
  return (view.getUint32(at + 4) & 0x08) === 0 ? zeroRecordBytes : 8 + pageBytes;
}

export function invalid(what: string, offset: number, cause?: unknown): GodwitError {
  const text = `trace file: ${what} (byte ${offset})`;
  return new GodwitError("TRACE_INVALID", text, cause === undefined ? {} : { cause });
}
