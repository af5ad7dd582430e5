/**
 * One end of the port to the guest's agent: requests out, whole replies in, each with a deadline. What requests mean is
 * client.ts's business.
 */
import { randomBytes } from "node:crypto";
import { createConnection, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { GodwitError } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { AgentDecoder, decodeError } from "./decode.ts";
import { encodeNumber, encodeRequest } from "./encode.ts";
import {
  type AgentFrame,
  agentHeaderBytes,
  AgentType,
  errorType,
  moreFlag,
  partialFrameMs,
  replyBit,
  replyBytesMax,
} from "./format.ts";

export interface AgentPortOptions {
  readonly clock: Clock;
  /** For connecting, and for each call that names no time of its own. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface CallOptions {
  /** From `nextId`; left out: a new one. */
  readonly id?: number;
  readonly timeoutMs?: number;
  /** For what must not be left done when nobody knows: called when a success comes too late. */
  readonly undo?: () => void;
}

interface Pending {
  readonly name: string;
  readonly type: AgentType;
  readonly resolve: (body: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly stopDeadline: () => void;
  readonly parts: Buffer[];
  bytes: number;
}

export class AgentPort {
  /** Resolves when the port has closed, by either side. Never rejects. */
  readonly closed: Promise<void>;

  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #decoder = new AgentDecoder();
  readonly #pending = new Map<number, Pending>();
  /** Requests that nobody waits for any more, and what undoes them if they are done all the same. */
  readonly #abandoned = new Map<number, { readonly type: AgentType; readonly undo: () => void }>();
  readonly #setClosed: () => void;
  #idLast = 0;
  #endReason: GodwitError | undefined;
  #stopPartialTimer: (() => void) | undefined;

  /** Owns the stream from now on. */
  constructor(stream: Duplex, options: AgentPortOptions) {
    this.#stream = stream;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#setClosed = resolve;
    stream.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    stream.on("error", (cause) => this.end(lost("the connection failed", cause)));
    stream.on("end", () => this.end(lost("the port closed")));
    stream.on("close", () => this.end(lost("the port closed")));
  }

  /** Bytes that are no request. */
  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  nextId(): number {
    // Not from 1: an answer to an earlier host's request must not look like one to ours.
    if (this.#idLast === 0) this.#idLast = randomBytes(4).readUInt32LE() >>> 1;
    this.#idLast = (this.#idLast + 1) >>> 0;
    return this.#idLast;
  }

  /** The body of the answer, all frames of it. */
  call(
    name: string,
    type: AgentType,
    body: Uint8Array,
    options: CallOptions = {},
  ): Promise<Buffer> {
    if (this.#endReason !== undefined) return Promise.reject(this.#failure(name));
    const id = options.id ?? this.nextId();
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    return new Promise((resolve, reject) => {
      const stopDeadline = this.#clock.after(timeoutMs, () => {
        const error = silent(name, timeoutMs);
        if (options.undo === undefined) this.#reject(id, error);
        else this.abandon(id, error, options.undo);
      });
      this.#pending.set(id, { name, type, resolve, reject, stopDeadline, parts: [], bytes: 0 });
      this.#stream.write(encodeRequest(type, id, body));
    });
  }

  /** Nobody waits for the answer any more. Should it be a success, which may be on its way, it is undone. */
  abandon(id: number, error: GodwitError, undo: () => void): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#abandoned.set(id, { type: pending.type, undo });
    // Its own answer, which says nothing, is dropped.
    this.#stream.write(encodeRequest(AgentType.cancel, this.nextId(), encodeNumber(id)));
    this.#reject(id, error);
  }

  #receive(bytes: Uint8Array): void {
    if (this.#endReason !== undefined) return;
    for (const frame of this.#decoder.push(bytes)) this.#dispatch(frame);
    this.#watchPartial();
  }

  /** A frame that does not grow is given up: there may be sound ones behind its beginning. */
  #watchPartial(): void {
    this.#stopPartialTimer?.();
    this.#stopPartialTimer = undefined;
    if (this.#endReason !== undefined || this.#decoder.partialBytes === 0) return;
    this.#stopPartialTimer = this.#clock.after(partialFrameMs, () => {
      for (const frame of this.#decoder.dropPartial()) this.#dispatch(frame);
      this.#watchPartial();
    });
  }

  #dispatch(frame: AgentFrame): void {
    const pending = this.#pending.get(frame.id);
    if (pending === undefined) {
      this.#dispatchLate(frame);
      return;
    }
    if (frame.type === errorType) {
      this.#reject(frame.id, refused(pending.name, frame.body));
      return;
    }
    if (frame.type !== (pending.type | replyBit)) return;
    pending.parts.push(frame.body);
    // With the headers: empty frames without end are too much as well.
    pending.bytes += agentHeaderBytes + frame.body.length;
    if (pending.bytes > replyBytesMax) {
      this.#reject(frame.id, new GodwitError("AGENT_FAILED", `${pending.name}: an endless answer`));
    } else if ((frame.flags & moreFlag) === 0) {
      this.#take(frame.id)?.resolve(
        pending.parts.length === 1 ? frame.body : Buffer.concat(pending.parts),
      );
    }
  }

  #dispatchLate(frame: AgentFrame): void {
    const abandoned = this.#abandoned.get(frame.id);
    if (abandoned === undefined) return;
    this.#abandoned.delete(frame.id);
    if (frame.type === (abandoned.type | replyBit)) abandoned.undo();
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.stopDeadline();
    return pending;
  }

  #reject(id: number, error: GodwitError): void {
    this.#take(id)?.reject(error);
  }

  #failure(what: string): GodwitError {
    const reason = this.#endReason ?? lost("not open");
    return new GodwitError(reason.code, `${what}: ${reason.message}`, { cause: reason });
  }

  /** Safe to call twice; the first reason counts. */
  end(reason: GodwitError): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    this.#stopPartialTimer?.();
    for (const [id, pending] of Array.from(this.#pending)) {
      this.#reject(id, this.#failure(pending.name));
    }
    this.#abandoned.clear();
    this.#stream.destroy();
    this.#setClosed();
  }
}

/** A connection to the port's socket. Fails with AGENT_UNREACHABLE, AGENT_SILENT or CANCELLED. */
export async function connectPort(path: string, options: AgentPortOptions): Promise<Socket> {
  const stream = createConnection({ path });
  try {
    await connected(stream, path, options);
  } catch (error) {
    stream.destroy();
    throw error;
  }
  return stream;
}

function connected(stream: Socket, path: string, options: AgentPortOptions): Promise<void> {
  const { timeoutMs } = options;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const failed = (cause: Error): void => reject(unreachable(path, cause));
  const abort = (): void => reject(cancelled());
  const stopDeadline = options.clock.after(timeoutMs, () => {
    reject(silent(`the port ${path}`, timeoutMs));
  });
  stream.once("connect", resolve).once("error", failed);
  options.signal?.addEventListener("abort", abort, { once: true });
  if (options.signal?.aborted === true) abort();
  return promise.finally(() => {
    stopDeadline();
    stream.off("connect", resolve).off("error", failed);
    // An error of a socket that is being destroyed has no other listener, and would end the program.
    stream.on("error", () => {});
    options.signal?.removeEventListener("abort", abort);
  });
}

function refused(what: string, body: Buffer): GodwitError {
  const { name, text } = decodeError(body);
  return new GodwitError("AGENT_FAILED", `the guest's agent refused ${what}: ${text} (${name})`, {
    details: { request: what, agentCode: name, agentText: text },
  });
}

function unreachable(path: string, cause: Error): GodwitError {
  return new GodwitError("AGENT_UNREACHABLE", `nobody listens at ${path}: ${cause.message}`, {
    cause,
  });
}

function silent(what: string, timeoutMs: number): GodwitError {
  return new GodwitError(
    "AGENT_SILENT",
    `${what}: no answer from the guest's agent within ${Math.round(timeoutMs)} ms; does it run in the guest?`,
  );
}

export function lost(what: string, cause?: unknown): GodwitError {
  const because = cause instanceof Error ? `: ${cause.message}` : "";
  return new GodwitError("AGENT_LOST", `port of the guest's agent: ${what}${because}`, { cause });
}

export function cancelled(): GodwitError {
  return new GodwitError("CANCELLED", "cancelled while the guest's agent was being asked");
}
