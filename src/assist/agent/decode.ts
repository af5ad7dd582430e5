/**
 * Pure: bytes to frames, bodies to values. The guest is a stranger: it may send anything. What is no frame is thrown away;
 * what is a frame but has no sound body fails with AGENT_FAILED. At most one frame is kept while it grows.
 */
import { crc32 } from "@node-rs/crc32";
import { GodwitError } from "../../base/index.ts";
import type { MemoryRange } from "../ranges.ts";
import {
  type AgentApplication,
  type AgentErrorName,
  agentErrorNames,
  type AgentFrame,
  agentHeaderBytes,
  type AgentHello,
  type AgentProcess,
  type ApplicationReadiness,
  type DropCachesResult,
  type FrameRuns,
  type FreeMemoryResult,
  type HoldResult,
  replyBodyBytesMax,
  type ScrubResult,
  type ThawResult,
} from "./format.ts";

const magicBytes = Buffer.from("GWA1", "latin1");
const frameBytesMax = agentHeaderBytes + replyBodyBytesMax;

export class AgentDecoder {
  /** Room for two frames: one that is kept, and what arrives behind it. */
  readonly #buffer = Buffer.allocUnsafe(2 * frameBytesMax);
  /** What is not consumed yet: buffer[from, to). It begins with what may be the beginning of a frame. */
  #from = 0;
  #to = 0;
  #droppedBytes = 0;

  /** Bytes that belonged to no frame, since the beginning. */
  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  /** Bytes of a frame that is not complete yet. */
  get partialBytes(): number {
    return this.#to - this.#from;
  }

  /** Takes bytes as they came, which are copied, and returns the frames that they complete. Never throws. */
  push(bytes: Uint8Array): AgentFrame[] {
    const frames: AgentFrame[] = [];
    for (let at = 0; at < bytes.length; ) {
      this.#buffer.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
      const piece = bytes.subarray(at, at + this.#buffer.length - this.#to);
      this.#buffer.set(piece, this.#to);
      this.#to += piece.length;
      at += piece.length;
      this.#parse(frames);
    }
    return frames;
  }

  /** Gives up the frame whose rest does not come, and looks for others in what has come of it. */
  dropPartial(): AgentFrame[] {
    const frames: AgentFrame[] = [];
    if (this.#from < this.#to) this.#drop(1);
    this.#parse(frames);
    return frames;
  }

  #drop(count: number): void {
    this.#from += count;
    this.#droppedBytes += count;
  }

  #parse(frames: AgentFrame[]): void {
    for (;;) {
      this.#seek();
      const from = this.#from;
      const frame = this.#take();
      if (frame !== undefined) frames.push(frame);
      else if (this.#from === from) return;
    }
  }

  /** Goes on to the next magic, or to what may be the beginning of one. */
  #seek(): void {
    const bytes = this.#buffer.subarray(this.#from, this.#to);
    let at = bytes.indexOf(magicBytes);
    for (let length = Math.min(3, bytes.length); at < 0 && length > 0; length--) {
      const isBeginning = bytes.subarray(-length).equals(magicBytes.subarray(0, length));
      if (isBeginning) at = bytes.length - length;
    }
    this.#drop(at < 0 ? bytes.length : at);
  }

  /** The frame that begins here; undefined when there is none (then it is skipped), or more bytes are needed. */
  #take(): AgentFrame | undefined {
    const bytes = this.#buffer.subarray(this.#from, this.#to);
    if (bytes.length < agentHeaderBytes) return undefined;
    const bodyBytes = bytes.readUInt32LE(12);
    const soundHeader =
      bytes.readUInt32LE(20) === crc32(bytes.subarray(0, 20)) && bodyBytes <= replyBodyBytesMax;
    const end = agentHeaderBytes + bodyBytes;
    if (soundHeader && bytes.length < end) return undefined;
    // In a body that is damaged, a sound frame of another host's may have begun: only the magic is skipped.
    if (!soundHeader || bytes.readUInt32LE(16) !== crc32(bytes.subarray(agentHeaderBytes, end))) {
      this.#drop(magicBytes.length);
      return undefined;
    }
    this.#from += end;
    const body = Buffer.from(bytes.subarray(agentHeaderBytes, end));
    const [type = 0, flags = 0] = bytes.subarray(4, 6);
    return { type, flags, id: bytes.readUInt32LE(8), body };
  }
}

export function decodeError(body: Buffer): { name: AgentErrorName | "UNKNOWN"; text: string } {
  const code = body.length >= 4 ? body.readUInt16LE(0) : 0;
  const name = Object.hasOwn(agentErrorNames, code)
    ? agentErrorNames[code as keyof typeof agentErrorNames]
    : "UNKNOWN";
  return { name, text: printable(body.toString("utf8", 4, 4 + 300)) };
}

/** The greeting and the nonce that it answers. */
export function decodeHello(body: Buffer): { hello: AgentHello; nonce: bigint } {
  expectBytes("hello", body, 56);
  const features = body.readUInt32LE(4);
  const pageBytes = body.readUInt32LE(16);
  if (pageBytes !== 4096) throw malformed(`hello: pages of ${pageBytes} bytes; godwit knows 4096`);
  const hello = {
    version: body.readUInt32LE(0),
    seesFrames: (features & 1) !== 0,
    realTime: (features & 2) !== 0,
    pageBytes,
    cpuCount: body.readUInt32LE(20),
    holdMsMax: body.readUInt32LE(24),
    agentPid: body.readUInt32LE(28),
    memoryTotalBytes: readU64("hello", body, 32),
    memoryFreeBytes: readU64("hello", body, 40),
    pageCacheBytes: readU64("hello", body, 48),
  };
  return { hello, nonce: body.readBigUInt64LE(8) };
}

export function decodeProcesses(body: Buffer): AgentProcess[] {
  // As many as fit into a frame.
  return linesOf(body).map((line) => {
    const match = /^(\d+) (\d+) (\d+) (\d+) (\d+) (.*)$/.exec(line);
    if (match === null) throw malformed(`processes: ${excerpt(line)}`);
    const [pid, startTimeTicks, namespacePid, uid, threadCount] = match.slice(1, 6).map(toCount);
    return {
      pid: pid as number,
      startTimeTicks: startTimeTicks as number,
      namespacePid: namespacePid as number,
      uid: uid as number,
      threadCount: threadCount as number,
      command: printable(match[6] as string),
    };
  });
}

/** The ranges' bytes, in order, as views of `body`. */
export function decodeRead(body: Buffer, ranges: readonly MemoryRange[]): Uint8Array[] {
  const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
  expectBytes("read", body, total);
  let at = 0;
  return ranges.map(({ bytes }) => {
    const from = at;
    at += bytes;
    return body.subarray(from, at);
  });
}

/** `runs` is undefined when the digest is the known one. */
export function decodeFrames(
  body: Buffer,
  knownDigest: bigint,
): { digest: bigint; runs: FrameRuns | undefined } {
  if (body.length < 24 || body.length % 8 !== 0) throw malformed(`frames: ${body.length} bytes`);
  const digest = body.readBigUInt64LE(0);
  if (digest === knownDigest && body.length === 24) return { digest, runs: undefined };
  const count = (body.length - 24) / 8;
  const firstFrames = new Float64Array(count);
  const pageCounts = new Uint16Array(count);
  let pages = 0;
  for (let i = 0; i < count; i++) {
    const at = 24 + i * 8;
    firstFrames[i] = body.readUInt32LE(at) + body.readUInt16LE(at + 4) * 2 ** 32;
    const pageCount = body.readUInt16LE(at + 6);
    pageCounts[i] = pageCount;
    pages += pageCount;
  }
  const presentPages = readU64("frames", body, 8);
  if (pages !== presentPages) throw malformed(`frames: ${pages} in runs, ${presentPages} in all`);
  const absentPages = readU64("frames", body, 16);
  return { digest, runs: { digest, presentPages, absentPages, firstFrames, pageCounts } };
}

export function decodeHold(body: Buffer): HoldResult {
  expectBytes("hold", body, 32);
  return {
    counterNow: body.readUInt32LE(0),
    taskCount: body.readUInt32LE(4),
    waitUs: readU64("hold", body, 8),
    freezeUs: readU64("hold", body, 16),
    retryCount: body.readUInt32LE(24),
    gcUs: body.readUInt32LE(28),
  };
}

export function decodeThaw(body: Buffer): ThawResult {
  expectBytes("thaw", body, 16);
  return { thawedCount: body.readUInt32LE(0), longestHoldUs: readU64("thaw", body, 8) };
}

export function decodeScrub(body: Buffer): ScrubResult {
  expectBytes("scrub", body, 32);
  return {
    zeroedPages: readU64("scrub", body, 0),
    absentPages: readU64("scrub", body, 8),
    durationUs: readU64("scrub", body, 16),
  };
}

export function decodeDropCaches(body: Buffer): DropCachesResult {
  expectBytes("drop-caches", body, 24);
  return {
    cacheBytesBefore: readU64("drop-caches", body, 0),
    cacheBytesAfter: readU64("drop-caches", body, 8),
    durationUs: readU64("drop-caches", body, 16),
  };
}

export function decodeFreeMemory(body: Buffer): FreeMemoryResult {
  expectBytes("free-memory", body, 16);
  return {
    zeroedBytes: readU64("free-memory", body, 0),
    durationUs: readU64("free-memory", body, 8),
  };
}

/** The first number of a reply of 8 bytes: extend and announce. */
export function decodeCount(what: string, body: Buffer): number {
  expectBytes(what, body, 8);
  return body.readUInt32LE(0);
}

export function decodeNothing(what: string, body: Buffer): void {
  expectBytes(what, body, 0);
}

export function decodeText(body: Buffer): string {
  return body.toString("utf8");
}

/** The agent's own bounds. */
const applicationCountMax = 64;
const areaCountMax = 1024;

export function decodeApplications(body: Buffer): AgentApplication[] {
  const found: (AgentApplication & { readonly areas: MemoryRange[] })[] = [];
  for (const line of linesOf(body)) {
    const app = /^app (\d+) (\d+) (idle|begun|preparing|ready) (.*)$/.exec(line);
    const area = /^area (0x[0-9a-f]+) (0x[0-9a-f]+)$/.exec(line);
    if (app !== null) {
      if (found.length >= applicationCountMax) throw malformed("applications: too many");
      const [, pid = "", startTimeTicks = "", state = "idle", name = ""] = app;
      found.push({
        pid: toCount(pid),
        startTimeTicks: toCount(startTimeTicks),
        state: state as AgentApplication["state"],
        name: printable(name),
        areas: [],
      });
    } else if (area !== null && found.length > 0) {
      if ((found.at(-1)?.areas.length ?? 0) >= areaCountMax)
        throw malformed("applications: too many areas");
      const [, address = "", bytes = ""] = area;
      found.at(-1)?.areas.push({ address: toCount(address), bytes: toCount(bytes) });
    } else throw malformed(`applications: ${excerpt(line)}`);
  }
  return found;
}

export function decodeReadiness(body: Buffer): ApplicationReadiness[] {
  return linesOf(body).map((line) => {
    const match = /^(\d+) (ready|late|gone)$/.exec(line);
    if (match === null) throw malformed(`await-ready: ${excerpt(line)}`);
    return { pid: toCount(match[1] as string), state: match[2] as ApplicationReadiness["state"] };
  });
}

function linesOf(body: Buffer): string[] {
  const text = body.toString("utf8");
  if (text === "") return [];
  if (!text.endsWith("\n")) throw malformed(`a last line without end: ${excerpt(text.slice(-80))}`);
  return text.slice(0, -1).split("\n");
}

function toCount(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw malformed(`${excerpt(text)} is not a number in range`);
  return value;
}

function readU64(what: string, body: Buffer, at: number): number {
  const value = body.readUInt32LE(at) + body.readUInt32LE(at + 4) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw malformed(`${what}: a number past 2^53`);
  return value;
}

function expectBytes(what: string, body: Buffer, bytes: number): void {
  if (body.length !== bytes) throw malformed(`${what}: ${body.length} bytes, not ${bytes}`);
}

/** Names and texts of the guest reach terminals and logs. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?");
}

function excerpt(text: string): string {
  const shown = printable(text.slice(0, 80));
  return JSON.stringify(text.length <= 80 ? shown : `${shown}…`);
}

function malformed(what: string): GodwitError {
  return new GodwitError("AGENT_FAILED", `the guest's agent answered what makes no sense: ${what}`);
}
