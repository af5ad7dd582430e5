/** Pure: messages to bytes. Bodies are not copied: a frame is its header followed by the given pieces. */
import { crc32c } from "@node-rs/crc32";
import {
  ackBodyBytes,
  type Acknowledgement,
  type FrameHeader,
  FrameType,
  frameHeaderBytes,
  frameMagic,
  preambleBytes,
  preambleText,
  protocolVersion,
  protocolVersionOldest,
} from "./format.ts";

export function encodePreamble(): Buffer {
  const out = Buffer.alloc(preambleBytes);
  out.write(preambleText, 0, "latin1");
  out.writeUInt16BE(protocolVersion, 8);
  out.writeUInt16BE(protocolVersionOldest, 10);
  return out;
}

/** The header for a body made of `pieces`; its `bodyBytes` is their length. */
export function encodeHeader(header: FrameHeader, pieces: readonly Uint8Array[]): Buffer {
  const out = Buffer.allocUnsafe(frameHeaderBytes);
  out.writeUInt32BE(frameMagic, 0);
  out[4] = header.type;
  out[5] = header.codec;
  out.writeUInt16BE(header.block, 6);
  out.writeUInt32BE(header.bodyBytes, 8);
  out.writeUInt32BE(header.sequence, 12);
  out.writeUInt32BE(header.pageCount, 16);
  out.writeUInt32BE(header.zeroCount, 20);
  out.writeUInt32BE(header.rawBytes, 24);
  let checksum = crc32c(out.subarray(0, 28));
  for (const piece of pieces) checksum = crc32c(piece, checksum);
  out.writeUInt32BE(checksum, 28);
  return out;
}

/** A header of a frame that carries no pages. */
export function plainHeader(type: FrameType, bodyBytes: number, sequence: number): FrameHeader {
  return {
    type,
    codec: 0,
    block: 0,
    bodyBytes,
    sequence,
    pageCount: 0,
    zeroCount: 0,
    rawBytes: 0,
  };
}

export function encodeControlBody(message: object): Buffer {
  return Buffer.from(JSON.stringify(message), "utf8");
}

export function encodeAckBody({ takenBytes, idleMs }: Acknowledgement): Buffer {
  const out = Buffer.allocUnsafe(ackBodyBytes);
  writeUInt64(out, takenBytes, 0);
  writeUInt64(out, Math.round(idleMs * 1000), 8);
  return out;
}

function writeUInt64(out: Buffer, value: number, at: number): void {
  out.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  out.writeUInt32BE(value % 2 ** 32, at + 4);
}
