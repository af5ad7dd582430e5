/** Pure: requests to bytes. Lists must fit one request; the client splits longer ones. */
import { crc32 } from "@node-rs/crc32";
import { assert } from "../../base/index.ts";
import type { MemoryRange } from "../ranges.ts";
import {
  AgentEvent,
  type AgentEventName,
  agentHeaderBytes,
  agentMagic,
  type AgentProcessIdentity,
  agentProtocolVersion,
  AgentType,
  type HoldOptions,
  putBackFlag,
  requestBodyBytesMax,
  type WriteOptions,
} from "./format.ts";

const processBytes = 16;
const rangeBytes = 16;
const readHeadBytes = processBytes + 8;
const framesHeadBytes = processBytes + 16;
const scrubHeadBytes = processBytes + 8;
const writeHeadBytes = processBytes + 16;
export const readRangeCountMax = Math.floor((requestBodyBytesMax - readHeadBytes) / rangeBytes);
export const framesRangeCountMax = Math.floor((requestBodyBytesMax - framesHeadBytes) / rangeBytes);
export const scrubRangeCountMax = Math.floor((requestBodyBytesMax - scrubHeadBytes) / rangeBytes);
export const writeBytesMax = requestBodyBytesMax - writeHeadBytes;

/** Any frame, also a reply: both directions have the same form. */
export function encodeFrame(type: number, flags: number, id: number, body: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(agentHeaderBytes + body.length);
  out.writeUInt32LE(agentMagic, 0);
  out[4] = type;
  out[5] = flags;
  out.writeUInt16LE(0, 6);
  out.writeUInt32LE(id, 8);
  out.writeUInt32LE(body.length, 12);
  out.writeUInt32LE(crc32(body), 16);
  out.writeUInt32LE(crc32(out.subarray(0, 20)), 20);
  out.set(body, agentHeaderBytes);
  return out;
}

export function encodeRequest(type: AgentType, id: number, body: Uint8Array): Buffer {
  assert(body.length <= requestBodyBytesMax, `a request of ${body.length} bytes`);
  return encodeFrame(type, 0, id, body);
}

export function encodeHello(nonce: bigint): Buffer {
  const out = Buffer.alloc(16);
  out.writeUInt32LE(agentProtocolVersion, 0);
  out.writeBigUInt64LE(nonce, 8);
  return out;
}

export function encodeText(text: string): Buffer {
  return Buffer.from(text, "utf8");
}

/** A process alone; `undefined` is all of them (thaw). */
export function encodeProcess(process: AgentProcessIdentity | undefined): Buffer {
  const out = Buffer.alloc(processBytes);
  if (process !== undefined) writeProcess(out, process);
  return out;
}

export function encodeRead(process: AgentProcessIdentity, ranges: readonly MemoryRange[]): Buffer {
  const out = Buffer.alloc(readHeadBytes + ranges.length * rangeBytes);
  writeProcess(out, process);
  out.writeUInt32LE(ranges.length, 16);
  ranges.forEach(({ address, bytes }, index) => {
    const at = readHeadBytes + index * rangeBytes;
    writeU64(out, address, at);
    out.writeUInt32LE(bytes, at + 8);
  });
  return out;
}

export function encodeFrames(
  process: AgentProcessIdentity,
  ranges: readonly MemoryRange[],
  knownDigest: bigint,
): Buffer {
  const out = Buffer.alloc(framesHeadBytes + ranges.length * rangeBytes);
  writeProcess(out, process);
  out.writeBigUInt64LE(knownDigest, 16);
  out.writeUInt32LE(ranges.length, 24);
  writeRanges(out, ranges, framesHeadBytes);
  return out;
}

export function encodeWrite(
  process: AgentProcessIdentity,
  address: number,
  bytes: Uint8Array,
  { restoreWhenAlone = false }: WriteOptions = {},
): Buffer {
  const out = Buffer.alloc(writeHeadBytes + bytes.length);
  writeProcess(out, process);
  writeU64(out, address, 16);
  out.writeUInt32LE(bytes.length, 24);
  out.writeUInt32LE(restoreWhenAlone ? putBackFlag : 0, 28);
  out.set(bytes, writeHeadBytes);
  return out;
}

export function encodeHold(process: AgentProcessIdentity, options: HoldOptions): Buffer {
  const out = Buffer.alloc(48);
  writeProcess(out, process);
  writeU64(out, options.activeAddress ?? 0, 16);
  writeU64(out, options.counterAddress ?? 0, 24);
  out.writeUInt32LE(options.counterValue ?? 0, 32);
  out.writeUInt32LE(options.timeoutMs, 36);
  out.writeUInt32LE(options.holdMs, 40);
  out.writeUInt32LE(options.pollUs ?? 0, 44);
  return out;
}

export function encodeScrub(
  process: AgentProcessIdentity,
  ranges: readonly MemoryRange[],
  threadCount: number,
): Buffer {
  const out = Buffer.alloc(scrubHeadBytes + ranges.length * rangeBytes);
  writeProcess(out, process);
  out.writeUInt32LE(threadCount, 16);
  out.writeUInt32LE(ranges.length, 20);
  writeRanges(out, ranges, scrubHeadBytes);
  return out;
}

/** The body of extend, drop-caches, await-ready, cancel and free-memory: one number. */
export function encodeNumber(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeUInt32LE(value, 0);
  return out;
}

export function encodeAnnounce(event: AgentEventName, deadlineMs: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeUInt32LE(AgentEvent[event], 0);
  out.writeUInt32LE(deadlineMs, 4);
  return out;
}

function writeProcess(out: Buffer, { pid, startTimeTicks }: AgentProcessIdentity): void {
  out.writeUInt32LE(pid, 0);
  writeU64(out, startTimeTicks, 8);
}

function writeRanges(out: Buffer, ranges: readonly MemoryRange[], at: number): void {
  ranges.forEach(({ address, bytes }, index) => {
    writeU64(out, address, at + index * rangeBytes);
    writeU64(out, bytes, at + index * rangeBytes + 8);
  });
}

function writeU64(out: Buffer, value: number, at: number): void {
  out.writeUInt32LE(value % 2 ** 32, at);
  out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
