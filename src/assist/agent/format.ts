/**
 * The protocol between godwit and the guest's agent, version 1: what the bytes are. Layouts of all bodies and the rules of
 * safety: docs/protocols/agent.md. The other end is guest/agent/, in C.
 *
 *   frame    header (24 bytes) | body; integers little-endian
 *   header    0 u32 magic "GWA1"    4 u8 type     5 u8 flags     6 u16 0
 *             8 u32 id             12 u32 body bytes
 *            16 u32 CRC-32 of the body             20 u32 CRC-32 of bytes 0..19
 *
 * The pipe between the two is exchanged by a migration in mid-frame, in both directions; so both look for the magic and a
 * header whose checksum holds, and throw the rest away.
 */
import type { MemoryRange } from "../ranges.ts";

export const agentProtocolVersion = 1;
/** "GWA1", read as a little-endian integer. */
export const agentMagic = 0x31415747;
export const agentHeaderBytes = 24;
export const requestBodyBytesMax = 4072;
export const replyBodyBytesMax = 65_512;
/** Sent first: completes whatever frame an earlier host left unfinished. As long as the longest request. */
export const flushBytes = 4096;
/** A frame whose rest does not come for that long is given up. */
export const partialFrameMs = 500;
/** Longest whole reply: /proc/PID/maps is cut at 4 MiB by the agent. */
export const replyBytesMax = 8 << 20;

export const AgentType = {
  hello: 1,
  processes: 2,
  maps: 3,
  read: 4,
  frames: 5,
  write: 6,
  hold: 7,
  thaw: 8,
  extend: 9,
  scrub: 10,
  dropCaches: 11,
  applications: 12,
  announce: 13,
  awaitReady: 14,
  cancel: 15,
  status: 16,
  freeMemory: 17,
} as const;
export type AgentType = (typeof AgentType)[keyof typeof AgentType];

export const replyBit = 0x80;
export const errorType = 0x7f;
export const moreFlag = 1;
/** Of a write. */
export const putBackFlag = 1;

/** What an error reply can say; the agent's own names. */
export const agentErrorNames = {
  1: "BAD_REQUEST",
  2: "GONE",
  3: "DENIED",
  4: "NOT_HELD",
  5: "TIMED_OUT",
  6: "CANCELLED",
  7: "FAILED",
  8: "BUSY",
  9: "UNREADABLE",
} as const;
export type AgentErrorName = (typeof agentErrorNames)[keyof typeof agentErrorNames];

export const AgentEvent = { begin: 1, prepare: 2, resume: 3, abort: 4 } as const;
export type AgentEventName = keyof typeof AgentEvent;

/** One frame; `body` is a copy of its own. */
export interface AgentFrame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly body: Buffer;
}

/** Which process is meant: a number alone may belong to another one by now. */
export interface AgentProcessIdentity {
  readonly pid: number;
  /** In the guest's clock ticks since its boot: field 22 of /proc/PID/stat. */
  readonly startTimeTicks: number;
}

export interface AgentProcess extends AgentProcessIdentity {
  /** The number that the process itself knows: in a container another one than `pid`. */
  readonly namespacePid: number;
  readonly uid: number;
  readonly threadCount: number;
  readonly command: string;
}

export interface AgentHello {
  readonly version: number;
  /** The agent may see page frames: without that `frames` is refused. */
  readonly seesFrames: boolean;
  /** The agent runs with real-time priority. */
  readonly realTime: boolean;
  readonly pageBytes: number;
  readonly cpuCount: number;
  /** Longest time for which something can be held without being extended. */
  readonly holdMsMax: number;
  readonly agentPid: number;
  readonly memoryTotalBytes: number;
  readonly memoryFreeBytes: number;
  readonly pageCacheBytes: number;
}

/** Guest-physical page frames, in the order of the pages asked for; adjacent ones as runs. */
export interface FrameRuns {
  /** Changes when anything in the answer does. Never 0. */
  readonly digest: bigint;
  readonly presentPages: number;
  readonly absentPages: number;
  /** Pairs: run i has `pageCounts[i]` frames from number `firstFrames[i]` on. */
  readonly firstFrames: Float64Array;
  readonly pageCounts: Uint16Array;
}

export interface HoldOptions {
  /** A byte that must be 0 at the moment of freezing; left out: none. */
  readonly activeAddress?: number;
  /** A u32 that must differ from `counterValue`; left out: none. */
  readonly counterAddress?: number;
  readonly counterValue?: number;
  /** How long to wait for the moment, freezing included. */
  readonly timeoutMs: number;
  /** When the agent thaws by itself, counted from the freeze. */
  readonly holdMs: number;
  readonly pollUs?: number;
}

export interface HoldResult {
  readonly counterNow: number;
  readonly taskCount: number;
  /** Until the process was stopped for the last time. */
  readonly waitUs: number;
  /** From then until every task stood still. */
  readonly freezeUs: number;
  /**
   * The collection: from the first sight of the changed counter to the first sight of no activity after it, as sharp as the
   * agent polls. 0 when no counter was watched, or when all was over at the first look.
   */
  readonly gcUs: number;
  /** How often it had become active in between. */
  readonly retryCount: number;
}

export interface WriteOptions {
  /**
   * The agent puts back what was there when this session ends, when the time of a hold of the process is up, and when it ends
   * itself: unless somebody else has changed it since. At most 16 bytes. A later write without this makes an end of it.
   */
  readonly restoreWhenAlone?: boolean;
}

export interface ThawResult {
  readonly thawedCount: number;
  readonly longestHoldUs: number;
}

export interface ScrubResult {
  readonly zeroedPages: number;
  readonly absentPages: number;
  readonly durationUs: number;
}

export interface DropCachesResult {
  readonly cacheBytesBefore: number;
  readonly cacheBytesAfter: number;
  readonly durationUs: number;
}

export interface FreeMemoryResult {
  readonly zeroedBytes: number;
  readonly durationUs: number;
}

/** One connection of a program: it may have several. */
export interface AgentApplication extends AgentProcessIdentity {
  /** `ready`: it was asked to prepare, and has given its areas up. */
  readonly state: "idle" | "begun" | "preparing" | "ready";
  readonly name: string;
  /** Ascending, apart from each other, whole pages. */
  readonly areas: readonly MemoryRange[];
}

export interface ApplicationReadiness {
  readonly pid: number;
  readonly state: "ready" | "late" | "gone";
}
