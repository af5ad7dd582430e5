/** Pure: what a trace file is made of, to bytes. */
import { crc32c } from "@node-rs/crc32";
import { assert } from "../base/index.ts";
import type { PageBatch } from "../codec/index.ts";
import {
  compressionZstd,
  headerBytesMax,
  type TraceEnd,
  type TraceEpoch,
  traceBatchBytesMax,
  traceFrameBytes,
  TraceFrameType,
  type TraceHeader,
  traceMagic,
  tracePreambleBytes,
  traceVersion,
} from "./format.ts";

/** Preamble and header: the part of the file that is not compressed. */
export function encodeTraceHeader(header: TraceHeader, windowLog: number): Buffer {
  const json = Buffer.from(JSON.stringify(header), "utf8");
  assert(json.length <= headerBytesMax, "a trace's header is short");
  const out = Buffer.alloc(tracePreambleBytes + json.length);
  out.write(traceMagic, 0, "latin1");
  out.writeUInt16BE(traceVersion, 8);
  out[10] = compressionZstd;
  out[11] = windowLog;
  out.writeUInt32BE(json.length, 12);
  json.copy(out, tracePreambleBytes);
  out.writeUInt32BE(crc32c(json, crc32c(out.subarray(0, 16))), 16);
  return out;
}

/** Frame and body in one new piece of memory: the batch's pieces may change afterwards. */
export function encodeBatch(epoch: number, atMs: number, batch: PageBatch): Buffer {
  assert(batch.bytes > 0 && batch.bytes <= traceBatchBytesMax, "a batch fits a frame");
  const { block, bytes, pageCount, zeroCount } = batch;
  const out = Buffer.allocUnsafeSlow(traceFrameBytes + bytes);
  let at = traceFrameBytes;
  for (const piece of batch.pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  assert(at === out.length, "the pieces are the batch");
  return seal(out, TraceFrameType.batch, [block, epoch, atMs, pageCount, zeroCount, bytes, 0]);
}

export function encodeEpoch({ epoch, atMs, pageCount, zeroCount, dirtyCount }: TraceEpoch): Buffer {
  const out = Buffer.allocUnsafe(traceFrameBytes);
  const fields = [0, epoch, atMs, pageCount, zeroCount, 0, dirtyCount] as const;
  return seal(out, TraceFrameType.epoch, fields);
}

export function encodeEnd({ epochCount, atMs }: TraceEnd): Buffer {
  const out = Buffer.allocUnsafe(traceFrameBytes);
  return seal(out, TraceFrameType.end, [0, epochCount, atMs, 0, 0, 0, 0]);
}

/** Block, epoch, at, pages, zero pages, body, dirty: the header's fields in their order. */
type Fields = readonly [number, number, number, number, number, number, number];

function seal(out: Buffer, type: number, [block, epoch, atMs, ...rest]: Fields): Buffer {
  out[0] = type;
  out[1] = 0;
  out.writeUInt16BE(block, 2);
  out.writeUInt32BE(epoch, 4);
  out.writeUInt32BE(Math.round(atMs), 8);
  for (const [i, value] of rest.entries()) out.writeUInt32BE(value, 12 + 4 * i);
  const head = crc32c(out.subarray(0, 28));
  out.writeUInt32BE(crc32c(out.subarray(traceFrameBytes), head), 28);
  return out;
}
