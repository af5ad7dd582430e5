/**
 * A session with the guest's agent, over the unix socket of the chardev behind the guest's port. QEMU serves one client of
 * that socket at a time.
 *
 * Promises:
 * - every call has a deadline and fails with AGENT_SILENT when it passes; an answer that comes later is dropped, and a hold
 *   that comes later is thawed at once;
 * - when the port closes everything pending fails with AGENT_LOST, and `closed` resolves. The agent then thaws all it holds;
 * - a refusal is AGENT_FAILED, with the agent's own name for it in `details.agentCode` (GONE, DENIED, TIMED_OUT, …).
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { GodwitError } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import type { MemoryRange } from "../ranges.ts";
import * as decode from "./decode.ts";
import * as encode from "./encode.ts";
import { type FramePart, joinParts, PartCache } from "./frame-parts.ts";
import {
  type AgentApplication,
  type AgentEventName,
  type AgentHello,
  type AgentProcess,
  type AgentProcessIdentity,
  agentProtocolVersion,
  AgentType,
  type ApplicationReadiness,
  type DropCachesResult,
  flushBytes,
  type FrameRuns,
  type FreeMemoryResult,
  type HoldOptions,
  type HoldResult,
  type ScrubResult,
  type ThawResult,
  type WriteOptions,
} from "./format.ts";
import { AgentPort, type AgentPortOptions, cancelled, connectPort, lost } from "./port.ts";
import { splitRanges } from "./split.ts";

export interface AgentClientOptions {
  readonly clock: Clock;
  /** For connecting and the greeting, and for each call that has no longer one of its own. Default 2000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const timeoutMsDefault = 2000;
/** What calls that name a time of their own get on top of it. */
const marginMs = 2000;
/** 512 MiB a second is what a slow guest zeroes; nothing is held for longer than this in any case. */
const scrubMsMax = 30_000;
const dropCachesMsMax = 20_000;
/** The agent ends it after 10 s; then all of that memory has to be given back. */
const freeMemoryMsMax = 15_000;
const readBytesMax = 1 << 20;
/** A request of frames takes the agent's one thread; 256 MiB are 10 to 100 ms of it. */
const framesBytesMax = 256 << 20;

export class AgentClient implements AsyncDisposable {
  readonly #port: AgentPort;
  readonly #parts = new PartCache();
  #hello: AgentHello | undefined;

  private constructor(port: AgentPort) {
    this.#port = port;
  }

  /**
   * Connects to the port's socket and greets the agent. Fails with AGENT_UNREACHABLE (nobody listens there), AGENT_SILENT
   * (the guest runs no agent, or another program holds the port) or CANCELLED.
   */
  static async connect(path: string, options: AgentClientOptions): Promise<AgentClient> {
    const stream = await connectPort(path, withDefaults(options));
    return await AgentClient.over(stream, options);
  }

  /** As `connect`, on a stream that is already there. The client owns the stream from now on. */
  static async over(stream: Duplex, options: AgentClientOptions): Promise<AgentClient> {
    const port = new AgentPort(stream, withDefaults(options));
    const client = new AgentClient(port);
    const abort = (): void => port.end(cancelled());
    options.signal?.addEventListener("abort", abort, { once: true });
    try {
      if (options.signal?.aborted === true) throw cancelled();
      await client.#greet();
    } catch (error) {
      await client.close();
      throw error;
    } finally {
      options.signal?.removeEventListener("abort", abort);
    }
    return client;
  }

  /** Resolves when the port has closed, by either side. Never rejects. */
  get closed(): Promise<void> {
    return this.#port.closed;
  }

  get hello(): AgentHello {
    if (this.#hello === undefined) throw lost("the agent has not been greeted");
    return this.#hello;
  }

  /** Processes with an executable mapping of a file of that base name, such as "libjvm.so". */
  async processes(library: string): Promise<AgentProcess[]> {
    const body = encode.encodeText(library);
    return decode.decodeProcesses(await this.#port.call("processes", AgentType.processes, body));
  }

  async maps(process: AgentProcessIdentity): Promise<string> {
    const body = encode.encodeProcess(process);
    return decode.decodeText(await this.#port.call("maps", AgentType.maps, body));
  }

  /** The bytes of each range, in order. All of one call are asked for at once: one round trip. */
  async read(process: AgentProcessIdentity, ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const batches = splitRanges(ranges, encode.readRangeCountMax, readBytesMax);
    const answers = await all(
      batches.map(async (batch) => {
        const body = encode.encodeRead(process, batch.pieces);
        return decode.decodeRead(await this.#port.call("read", AgentType.read, body), batch.pieces);
      }),
    );
    const found: Uint8Array[][] = ranges.map(() => []);
    batches.forEach(({ owners }, batch) => {
      owners.forEach((owner, piece) => found[owner]?.push(answers[batch]?.[piece] as Uint8Array));
    });
    return found.map(
      (pieces) => (pieces.length === 1 ? pieces[0] : undefined) ?? Buffer.concat(pieces),
    );
  }

  /**
   * The page frames behind the pages that lie wholly in the ranges, in their order. With the digest of an earlier answer of
   * this client to the same question: undefined if nothing has changed.
   */
  async frames(
    process: AgentProcessIdentity,
    ranges: readonly MemoryRange[],
    knownDigest = 0n,
  ): Promise<FrameRuns | undefined> {
    const known = this.#parts.find(process, knownDigest);
    const batches = splitRanges(ranges, encode.framesRangeCountMax, framesBytesMax, 4096);
    const parts: FramePart[] = [];
    for (const [index, { pieces }] of batches.entries()) {
      const before = known?.[index];
      const digest = before?.digest ?? (batches.length === 1 ? knownDigest : 0n);
      const body = encode.encodeFrames(process, pieces, digest);
      const reply = await this.#port.call("frames", AgentType.frames, body);
      const { runs } = decode.decodeFrames(reply, digest);
      if (runs !== undefined) expectPages(runs, pieces);
      if (runs === undefined && batches.length === 1) return undefined;
      parts.push(runs ?? (before as FramePart));
    }
    const joined = joinParts(parts);
    this.#parts.keep(process, joined.digest, parts);
    return joined.digest === knownDigest ? undefined : joined;
  }

  /** Only into a process that this session holds. More than 4040 bytes are written in several steps. */
  async write(
    process: AgentProcessIdentity,
    address: number,
    bytes: Uint8Array,
    options: WriteOptions = {},
  ): Promise<void> {
    for (let at = 0; at < bytes.length; at += encode.writeBytesMax) {
      const piece = bytes.subarray(at, at + encode.writeBytesMax);
      const body = encode.encodeWrite(process, address + at, piece, options);
      decode.decodeNothing("write", await this.#port.call("write", AgentType.write, body));
    }
  }

  /**
   * Waits for the moment and freezes the process. Fails with AGENT_FAILED, `details.agentCode` TIMED_OUT, GONE, …; with
   * CANCELLED when `signal` fires; in both cases the process runs.
   */
  async hold(
    process: AgentProcessIdentity,
    options: HoldOptions,
    signal?: AbortSignal,
  ): Promise<HoldResult> {
    if (signal?.aborted === true) throw cancelled();
    const id = this.#port.nextId();
    const body = encode.encodeHold(process, options);
    const undo = (): void => void this.thaw(process).catch(() => {});
    const timeoutMs = options.timeoutMs + marginMs;
    const reply = this.#port.call("hold", AgentType.hold, body, { id, timeoutMs, undo });
    const abort = (): void => this.#port.abandon(id, cancelled(), undo);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return decode.decodeHold(await reply);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Without a process: everything that is held, and an end of waiting holds. A process that is not held counts 0. */
  async thaw(process?: AgentProcessIdentity): Promise<ThawResult> {
    const body = encode.encodeProcess(process);
    return decode.decodeThaw(await this.#port.call("thaw", AgentType.thaw, body));
  }

  /** All that is held stays so for `holdMs` from now. Answers how many that are. */
  async extend(holdMs: number): Promise<number> {
    const body = encode.encodeNumber(holdMs);
    return decode.decodeCount("extend", await this.#port.call("extend", AgentType.extend, body));
  }

  /** Zeroes the ranges, byte by byte, in a process that is held; absent pages stay absent. */
  async scrub(
    process: AgentProcessIdentity,
    ranges: readonly MemoryRange[],
    threadCount = 0,
  ): Promise<ScrubResult> {
    const batches = splitRanges(
      ranges.filter(({ bytes }) => bytes > 0),
      encode.scrubRangeCountMax,
      Number.POSITIVE_INFINITY,
    );
    const results = await all(
      batches.map(async ({ pieces }) => {
        const body = encode.encodeScrub(process, pieces, threadCount);
        const timeoutMs = scrubMsMax + marginMs;
        const reply = await this.#port.call("scrub", AgentType.scrub, body, { timeoutMs });
        return decode.decodeScrub(reply);
      }),
    );
    const sum = (pick: (result: ScrubResult) => number): number =>
      results.reduce((total, result) => total + pick(result), 0);
    return {
      zeroedPages: sum((result) => result.zeroedPages),
      absentPages: sum((result) => result.absentPages),
      durationUs: sum((result) => result.durationUs),
    };
  }

  /** Makes the guest forget clean pages of its page cache. */
  async dropCaches(): Promise<DropCachesResult> {
    const body = encode.encodeNumber(1);
    const timeoutMs = dropCachesMsMax;
    const reply = await this.#port.call("drop-caches", AgentType.dropCaches, body, { timeoutMs });
    return decode.decodeDropCaches(reply);
  }

  /**
   * Has the guest's kernel zero memory that is free now, all but `keepMebibytes`, and at least 32 MiB: what nobody uses costs a
   * migration next to nothing then. Takes at most 10 s and answers how far it has come.
   */
  async zeroFreeMemory(keepMebibytes: number): Promise<FreeMemoryResult> {
    const body = encode.encodeNumber(keepMebibytes);
    const timeoutMs = freeMemoryMsMax;
    const reply = await this.#port.call("free-memory", AgentType.freeMemory, body, { timeoutMs });
    return decode.decodeFreeMemory(reply);
  }

  async applications(): Promise<AgentApplication[]> {
    const body = encode.encodeText("");
    const reply = await this.#port.call("applications", AgentType.applications, body);
    return decode.decodeApplications(reply);
  }

  /** Tells the applications; answers how many were told. */
  async announce(event: AgentEventName, deadlineMs = 0): Promise<number> {
    const body = encode.encodeAnnounce(event, deadlineMs);
    return decode.decodeCount(
      "announce",
      await this.#port.call("announce", AgentType.announce, body),
    );
  }

  /** Answers when all that were told "prepare" have answered or ended, or the time is up. */
  async awaitReady(timeoutMs: number): Promise<ApplicationReadiness[]> {
    const body = encode.encodeNumber(timeoutMs);
    const reply = await this.#port.call("await-ready", AgentType.awaitReady, body, {
      timeoutMs: timeoutMs + marginMs,
    });
    return decode.decodeReadiness(reply);
  }

  /** For people: what is held, and counters. */
  async status(): Promise<string> {
    return decode.decodeText(
      await this.#port.call("status", AgentType.status, encode.encodeText("")),
    );
  }

  /** Closes the port; the agent thaws all it holds. Safe to call twice. */
  async close(): Promise<void> {
    this.#port.end(lost("this side closed the port"));
    await this.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #greet(): Promise<void> {
    const nonce = randomBytes(8).readBigUInt64LE();
    this.#port.send(Buffer.alloc(flushBytes));
    const body = encode.encodeHello(nonce);
    const { hello, nonce: answered } = decode.decodeHello(
      await this.#port.call("hello", AgentType.hello, body),
    );
    if (answered !== nonce || hello.version !== agentProtocolVersion) {
      throw new GodwitError("AGENT_FAILED", "the guest's agent answered another greeting");
    }
    this.#hello = hello;
  }
}

function withDefaults(options: AgentClientOptions): AgentPortOptions {
  return { ...options, timeoutMs: options.timeoutMs ?? timeoutMsDefault };
}

/** As Promise.all; but what fails later than the first is no unhandled rejection, and none is still going on afterwards. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

/** More pages than were asked for are a lie, and would cost time for each. */
function expectPages(runs: FramePart, pieces: readonly MemoryRange[]): void {
  const asked = pieces.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 4096), 0);
  if (runs.presentPages + runs.absentPages <= asked) return;
  throw new GodwitError("AGENT_FAILED", `frames: more than the ${asked} pages asked for`);
}
