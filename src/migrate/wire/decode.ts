/**
 * Pure: bytes to frames. Works in place on the caller's buffer like the stream reader: `push` answers how far it came and
 * wants the rest again. A frame is handed on only when its checksum held; a decoder that has thrown is dead.
 */
import { crc32c } from "@node-rs/crc32";
import { GodwitError } from "../../base/index.ts";
import {
  ackBodyBytes,
  type Acknowledgement,
  bodyBytesMax,
  type FrameHeader,
  FrameType,
  frameHeaderBytes,
  frameMagic,
  frameTypeNames,
  preambleBytes,
  preambleText,
  protocolVersion,
  protocolVersionOldest,
} from "./format.ts";

/** Of the body `bytes[from, to)`. What it says has to be compared with what was sent. */
export function decodeAckBody(bytes: Buffer, from: number, to: number): Acknowledgement {
  if (to - from !== ackBodyBytes) {
    throw new GodwitError("FRAME_INVALID", `an acknowledgement of ${to - from} bytes`);
  }
  return { takenBytes: readUInt64(bytes, from), idleMs: readUInt64(bytes, from + 8) / 1000 };
}

function readUInt64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

export interface FrameSink {
  /** Once, first: the version both sides speak. */
  version(version: number): void;
  /** The body is `bytes[from, to)`; `header` is reused, copy what must last. */
  frame(header: FrameHeader, bytes: Buffer, from: number, to: number): void;
  /** True: no further frame for now; `push` answers how far it came. */
  readonly isHeldBack?: boolean;
}

export class FrameDecoder {
  readonly #sink: FrameSink;
  readonly #header: FrameHeader = {
    type: FrameType.alive,
    codec: 0,
    block: 0,
    bodyBytes: 0,
    sequence: 0,
    pageCount: 0,
    zeroCount: 0,
    rawBytes: 0,
  };
  #sequence = 0;
  #hasPreamble = false;
  /** Bytes consumed so far, for error messages. */
  #offset = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  push(bytes: Buffer, from: number, to: number): number {
    let at = from;
    if (!this.#hasPreamble) {
      if (to - at < preambleBytes) return at;
      this.#preamble(bytes, at);
      at += preambleBytes;
      this.#offset += preambleBytes;
    }
    while (to - at >= frameHeaderBytes && this.#sink.isHeldBack !== true) {
      const header = this.#readHeader(bytes, at);
      const end = at + frameHeaderBytes + header.bodyBytes;
      if (end > to) break;
      this.#check(bytes, at, end);
      this.#sequence = (this.#sequence + 1) >>> 0;
      this.#offset += end - at;
      const body = at + frameHeaderBytes;
      at = end;
      this.#sink.frame(header, bytes, body, end);
    }
    return at;
  }

  #preamble(bytes: Buffer, at: number): void {
    if (bytes.toString("latin1", at, at + 8) !== preambleText) {
      this.#invalid(
        "the peer does not speak godwit's protocol (is the port right, and TLS on at both ends?)",
      );
    }
    const newest = bytes.readUInt16BE(at + 8);
    const oldest = bytes.readUInt16BE(at + 10);
    if (oldest > newest || newest < protocolVersionOldest || oldest > protocolVersion) {
      throw new GodwitError(
        "PROTOCOL_VERSION",
        `the peer speaks protocol versions ${oldest} to ${newest}, this godwit ` +
          `${protocolVersionOldest} to ${protocolVersion}: upgrade the older one`,
      );
    }
    this.#hasPreamble = true;
    this.#sink.version(Math.min(newest, protocolVersion));
  }

  #readHeader(bytes: Buffer, at: number): FrameHeader {
    const header = this.#header;
    if (bytes.readUInt32BE(at) !== frameMagic) this.#invalid("no frame begins here");
    const type = bytes[at + 4] as number;
    const bodyBytes = bytes.readUInt32BE(at + 8);
    const limit = bodyBytesMax[type];
    if (limit === undefined) this.#invalid(`frame type ${type} does not exist`);
    if (bodyBytes > limit) {
      this.#invalid(`a ${frameTypeNames[type]} frame of ${bodyBytes} bytes, at most ${limit}`);
    }
    header.type = type as FrameType;
    header.codec = bytes[at + 5] as number;
    header.block = bytes.readUInt16BE(at + 6);
    header.bodyBytes = bodyBytes;
    header.sequence = bytes.readUInt32BE(at + 12);
    header.pageCount = bytes.readUInt32BE(at + 16);
    header.zeroCount = bytes.readUInt32BE(at + 20);
    header.rawBytes = bytes.readUInt32BE(at + 24);
    return header;
  }

  #check(bytes: Buffer, at: number, end: number): void {
    const header = this.#header;
    const found = crc32c(
      bytes.subarray(at + frameHeaderBytes, end),
      crc32c(bytes.subarray(at, at + 28)),
    );
    const name = frameTypeNames[header.type];
    if (found !== bytes.readUInt32BE(at + 28)) {
      throw new GodwitError(
        "FRAME_CHECKSUM",
        `${name} frame ${header.sequence} arrived damaged (byte ${this.#offset} of the connection)`,
      );
    }
    if (header.sequence !== this.#sequence) {
      this.#invalid(`${name} frame ${header.sequence} where ${this.#sequence} was due`);
    }
  }

  #invalid(what: string): never {
    throw new GodwitError("FRAME_INVALID", `godwit frame: ${what} (byte ${this.#offset})`);
  }
}
