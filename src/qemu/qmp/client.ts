/**
 * A session with one QMP monitor. QEMU serves one client per monitor at a time and keeps a second one waiting without a
 * word: hence the deadline on the greeting, and two monitors per VM.
 *
 * Promises:
 * - every wait has a deadline, and fails with TIMEOUT when it passes; a reply that comes later is dropped;
 * - handlers run in the order in which the lines arrived, before the promise of a later reply is resolved;
 * - when the connection ends, for whatever reason, everything pending fails with that reason, and `closed` tells it.
 */
import { createConnection, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { GodwitError } from "../../base/index.ts";
import { type Clock, systemClock } from "../../io/index.ts";
import { QmpDecoder } from "./decode.ts";
import {
  type CommandArguments,
  type CommandName,
  type CommandReturn,
  describe,
  type EventName,
  type KnownEvent,
  type Nothing,
  type QmpEvent,
  type QmpMessage,
} from "./messages.ts";
import type { QemuVersion } from "./types.ts";

export interface QmpClientOptions {
  readonly clock?: Clock;
  /** For connecting, and for each command that names no deadline of its own. Default 10 000. */
  readonly deadlineMs?: number;
  /** Longest line accepted. Default 16 MiB. */
  readonly lineBytesMax?: number;
  /** Receives one line for each thing that is odd but not fatal. */
  readonly log?: (line: string) => void;
}

export interface ExecuteOptions {
  readonly deadlineMs?: number;
}

/** `args` may be left out when nothing in it is required. */
type ExecuteRest<C extends CommandName> =
  Nothing extends CommandArguments<C>
    ? [args?: CommandArguments<C>, options?: ExecuteOptions]
    : [args: CommandArguments<C>, options?: ExecuteOptions];

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly stopDeadline: () => void;
}

/** A method, so that handlers of one event fit (parameters of methods are compared both ways): the name guards. */
interface Handler {
  handle(event: QmpEvent): void;
}

export class QmpClient implements AsyncDisposable {
  /** Resolves, once, with the reason for which the session ended. Never rejects. */
  readonly closed: Promise<GodwitError>;

  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #deadlineMs: number;
  readonly #log: (line: string) => void;
  readonly #decoder: QmpDecoder;
  /** By event name; "*" is every event. */
  readonly #handlers = new Map<string, Set<Handler>>();
  /** By id, in the order sent. */
  readonly #pending = new Map<number, Pending>();
  /** Waits for events: how to end each of them when the session ends. */
  readonly #waits = new Set<(error: Error) => void>();
  readonly #setClosed: (reason: GodwitError) => void;
  #idLast = 0;
  #endReason: GodwitError | undefined;
  #version: QemuVersion | undefined;
  #onGreeting: (() => void) | undefined;

  private constructor(stream: Duplex, options: QmpClientOptions) {
    this.#stream = stream;
    this.#clock = options.clock ?? systemClock;
    this.#deadlineMs = options.deadlineMs ?? 10_000;
    this.#log = options.log ?? (() => {});
    this.#decoder = new QmpDecoder(
      options.lineBytesMax === undefined ? {} : { lineBytesMax: options.lineBytesMax },
    );
    const { promise, resolve } = Promise.withResolvers<GodwitError>();
    this.closed = promise;
    this.#setClosed = resolve;
    stream.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    stream.on("error", (cause) => this.#end(closedError("the connection failed", cause)));
    stream.on("close", () => this.#end(closedError("QEMU closed the connection, or ended")));
  }

  /**
   * Connects to the monitor's unix socket and negotiates. Fails with QMP_CLOSED (nobody listens, or QEMU went away),
   * QMP_INVALID (not a monitor) or TIMEOUT (another program holds this monitor, or QEMU hangs).
   */
  static connect(path: string, options: QmpClientOptions = {}): Promise<QmpClient> {
    return QmpClient.over(createConnection({ path }) satisfies Socket, options);
  }

  /** As `connect`, on a stream that is already there. The client owns the stream from now on. */
  static async over(stream: Duplex, options: QmpClientOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(stream, options);
    try {
      // QEMU reads no command before it has said its greeting: nothing has to be waited for.
      await Promise.all([client.#greeting(), client.execute("qmp_capabilities")]);
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  /** What the greeting said. */
  get version(): QemuVersion {
    if (this.#version === undefined) throw new GodwitError("QMP_INVALID", "no greeting yet");
    return this.#version;
  }

  /**
   * Runs a command. Fails with QMP_ERROR (QEMU refused it; `details.class` and `details.desc`), TIMEOUT (its effect
   * is then unknown) or QMP_CLOSED.
   */
  async execute<C extends CommandName>(
    command: C,
    ...[args, options]: ExecuteRest<C>
  ): Promise<CommandReturn<C>> {
    return await this.executeAny(command, args, options);
  }

  /** `execute` for a command that is not in the table. */
  executeAny(command: string, args?: object, options: ExecuteOptions = {}): Promise<unknown> {
    if (this.#endReason !== undefined) return Promise.reject(this.#failure(command));
    const id = ++this.#idLast;
    const deadlineMs = options.deadlineMs ?? this.#deadlineMs;
    return new Promise((resolve, reject) => {
      const stopDeadline = this.#clock.after(deadlineMs, () => {
        this.#pending.delete(id);
        reject(timeout(`QEMU did not answer ${command} within ${deadlineMs} ms`));
      });
      this.#pending.set(id, { command, resolve, reject, stopDeadline });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** The text that `command` prints in the human monitor. HMP has no errors: a refusal is text as well. */
  hmp(command: string, options?: ExecuteOptions): Promise<string> {
    return this.execute("human-monitor-command", { "command-line": command }, options);
  }

  /** Calls `handler` for each such event from now on; the returned function ends that. */
  on<E extends EventName>(event: E, handler: (event: KnownEvent<E>) => void): () => void {
    return this.#subscribe(event, { handle: handler });
  }

  /** Calls `handler` for every event, also those that are not in the table. */
  onAny(handler: (event: QmpEvent) => void): () => void {
    return this.#subscribe("*", { handle: handler });
  }

  /**
   * Waits for the first such event for which `predicate` holds. Only events from now on count: call this before the
   * command that causes the event. Fails with TIMEOUT or QMP_CLOSED; as the command may fail first, a failure of this
   * promise that nobody looks at is no unhandled rejection.
   */
  once<E extends EventName>(
    event: E,
    predicate: (event: KnownEvent<E>) => boolean = () => true,
    deadlineMs: number = this.#deadlineMs,
  ): Promise<KnownEvent<E>> {
    if (this.#endReason !== undefined) return Promise.reject(this.#failure(`waiting for ${event}`));
    const { promise, resolve, reject } = Promise.withResolvers<KnownEvent<E>>();
    const unsubscribe = this.on(event, (occurred) => {
      if (predicate(occurred)) resolve(occurred);
    });
    const stopDeadline = this.#clock.after(deadlineMs, () => {
      reject(timeout(`QEMU's event ${event} did not come within ${deadlineMs} ms`));
    });
    this.#waits.add(reject);
    const result = promise.finally(() => {
      unsubscribe();
      stopDeadline();
      this.#waits.delete(reject);
    });
    result.catch(() => {});
    return result;
  }

  /** Ends the session; QEMU goes on. Everything pending fails with QMP_CLOSED. Safe to call twice. */
  async close(): Promise<void> {
    this.#end(closedError("this side closed the connection"));
    await this.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #greeting(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#onGreeting = resolve;
    this.#waits.add(reject);
    const stopDeadline = this.#clock.after(this.#deadlineMs, () => {
      const advice = "does another program hold this monitor, or does QEMU hang?";
      reject(timeout(`no QMP greeting within ${this.#deadlineMs} ms; ${advice}`));
    });
    try {
      await promise;
    } finally {
      stopDeadline();
      this.#waits.delete(reject);
      this.#onGreeting = undefined;
    }
  }

  #subscribe(event: string, handler: Handler): () => void {
    const handlers = this.#handlers.get(event) ?? new Set<Handler>();
    this.#handlers.set(event, handlers);
    handlers.add(handler);
    return () => void handlers.delete(handler);
  }

  #receive(bytes: Uint8Array): void {
    if (this.#endReason !== undefined) return;
    try {
      for (const message of this.#decoder.push(bytes)) this.#dispatch(message);
    } catch (error) {
      // A line that is not QMP, or a bug in a handler: either way nothing after it can be trusted.
      this.#end(
        error instanceof GodwitError ? error : closedError("an event handler threw", error),
      );
    }
  }

  #dispatch(message: QmpMessage): void {
    switch (message.type) {
      case "greeting":
        this.#version = message.version;
        this.#onGreeting?.();
        return;
      case "event":
        this.#emit(message.event);
        return;
      case "return":
        this.#settle(message, (pending) => pending.resolve(message.value));
        return;
      case "error":
        this.#settle(message, (pending) => pending.reject(refused(pending.command, message)));
    }
  }

  #emit(event: QmpEvent): void {
    // Copies: a handler may subscribe another one, which then waits for the next event.
    const own = Array.from(this.#handlers.get(event.name) ?? []);
    const all = Array.from(this.#handlers.get("*") ?? []);
    for (const handler of own.concat(all)) handler.handle(event);
  }

  #settle(reply: QmpMessage & { id: number | undefined }, how: (pending: Pending) => void): void {
    // Without an id QEMU could not even read a command; it reads them in order, so that was the oldest.
    const id = reply.id ?? this.#pending.keys().next().value;
    const pending = id === undefined ? undefined : this.#pending.get(id);
    if (id === undefined || pending === undefined) {
      this.#log(`qmp: ${describe(reply)} dropped: nobody waits for it any more`);
      return;
    }
    this.#pending.delete(id);
    pending.stopDeadline();
    how(pending);
  }

  #failure(what: string): GodwitError {
    const reason = this.#endReason ?? closedError("not open");
    return new GodwitError(reason.code, `${what}: ${reason.message}`, { cause: reason });
  }

  #end(reason: GodwitError): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    for (const pending of this.#pending.values()) {
      pending.stopDeadline();
      pending.reject(this.#failure(pending.command));
    }
    this.#pending.clear();
    for (const reject of Array.from(this.#waits)) reject(reason);
    this.#stream.destroy();
    this.#setClosed(reason);
  }
}

function refused(
  command: string,
  error: { readonly class: string; readonly desc: string },
): GodwitError {
  return new GodwitError("QMP_ERROR", `QEMU refused ${command}: ${error.desc} (${error.class})`, {
    details: { command, class: error.class, desc: error.desc },
  });
}

function closedError(what: string, cause?: unknown): GodwitError {
  const because = cause instanceof Error ? `: ${cause.message}` : "";
  return new GodwitError("QMP_CLOSED", `QMP monitor: ${what}${because}`, { cause });
}

function timeout(message: string): GodwitError {
  return new GodwitError("TIMEOUT", message);
}
