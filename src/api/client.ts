/** A small client of a daemon's API, over its unix socket or over TCP with a token. */
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type ErrorRecord, fromErrorRecord, GodwitError } from "../base/index.ts";
import { fillPath, paths, type RouteName } from "./paths.ts";
import { EventDecoder } from "./sse.ts";
import type * as t from "./types.ts";

export type ClientTarget =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number; readonly token: string };

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** How long the daemon may be silent; on streams it says at least "still here" every 15 s. Default 30 000. */
  readonly deadlineMs?: number;
}

interface Input {
  readonly path?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number>>;
  readonly body?: object;
}

const replyBytesMax = 64 * 1024 * 1024;

export class GodwitClient {
  readonly target: ClientTarget;

  constructor(target: ClientTarget) {
    this.target = target;
  }

  getHost = () => this.#call<t.Host>("getHost");
  getDoctor = () => this.#call<t.Doctor>("getDoctor", {}, { deadlineMs: 60_000 });

  listVms = async () => (await this.#call<{ vms: t.Vm[] }>("listVms")).vms;
  /** QEMU may take its time to start. */
  startVm = (body: t.StartVmRequest) =>
    this.#call<t.Vm>("startVm", { body }, { deadlineMs: 90_000 });
  getVm = (name: string) => this.#call<t.Vm>("getVm", { path: { name } });
  stopVm = (name: string, body: t.StopVmRequest = {}) =>
    this.#call<t.Done>(
      "stopVm",
      { path: { name }, body },
      { deadlineMs: (body.timeoutMs ?? 60_000) + 30_000 },
    );
  continueVm = (name: string, force = false) =>
    this.#call<t.Done>("continueVm", { path: { name }, body: { force } });
  discardVm = (name: string) => this.#call<t.Done>("discardVm", { path: { name } });
  /** Leaving the loop gives up. */
  adviseVm = (name: string, body: t.AdviseVmRequest, options?: CallOptions) =>
    this.#follow<t.AdviceEvent>("adviseVm", { path: { name }, body }, options);
  /** Leaving the loop ends the recording, as `endTrace` does; what was recorded is kept. */
  traceVm = (name: string, body: t.TraceVmRequest, options?: CallOptions) =>
    this.#follow<t.TraceEvent>("traceVm", { path: { name }, body }, options);
  endTrace = (name: string) => this.#call<t.Done>("endTrace", { path: { name } });
  getConsole = (name: string, bytes = 65_536) =>
    this.#call<t.ConsoleTail>("getConsole", { path: { name }, query: { bytes } });
  followConsole = (name: string, bytes: number, options?: CallOptions) =>
    this.#follow<t.ConsoleEvent>("followConsole", { path: { name }, query: { bytes } }, options);

  listMigrations = async () =>
    (await this.#call<{ migrations: t.Migration[] }>("listMigrations")).migrations;
  startMigration = (body: t.MigrateVmRequest | t.SendVmRequest) =>
    this.#call<t.Migration>("startMigration", { body });
  getMigration = (id: string) => this.#call<t.Migration>("getMigration", { path: { id } });
  cancelMigration = (id: string) => this.#call<t.Migration>("cancelMigration", { path: { id } });
  followMigration = (id: string, options?: CallOptions) =>
    this.#follow<t.MigrationEvent>("followMigration", { path: { id } }, options);
  followAll = (options?: CallOptions) => this.#follow<t.MigrationEvent>("followAll", {}, options);

  listExpectations = async () =>
    (await this.#call<{ expectations: t.Expectation[] }>("listExpectations")).expectations;
  expectVm = (body: t.ExpectVmRequest) => this.#call<t.Expectation>("expectVm", { body });
  forgetExpectation = (name: string) => this.#call<t.Done>("forgetExpectation", { path: { name } });

  async #call<T>(route: RouteName, input: Input = {}, options: CallOptions = {}): Promise<T> {
    const deadlineMs = options.deadlineMs ?? 30_000;
    const response = await this.#open(route, input, { ...options, deadlineMs });
    try {
      return JSON.parse(await readText(response)) as T;
    } catch (cause) {
      throw asGodwitError(cause, this.target);
    }
  }

  /** Yields events until the daemon ends the stream; leaving the loop closes the connection. */
  async *#follow<T>(
    route: RouteName,
    input: Input,
    options: CallOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    const response = await this.#open(route, input, options);
    const decoder = new EventDecoder();
    try {
      for await (const chunk of response) {
        for (const value of decoder.push(chunk as Uint8Array)) yield value as T;
      }
    } catch (cause) {
      if (options.signal?.aborted === true) return;
      throw asGodwitError(cause, this.target);
    } finally {
      response.destroy();
    }
  }

  /** The response to a request, when it is a success; its body is not read yet. */
  async #open(route: RouteName, input: Input, options: CallOptions): Promise<IncomingMessage> {
    const [method, pattern] = paths[route];
    const query = Object.entries(input.query ?? {})
      .map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
      .join("&");
    const path = fillPath(pattern, input.path ?? {}) + (query === "" ? "" : `?${query}`);
    const text = input.body === undefined ? undefined : JSON.stringify(input.body);
    try {
      const response = await send(this.target, { method, path, text }, options);
      if (response.statusCode !== undefined && response.statusCode < 300) return response;
      throw errorOf(response, await readText(response));
    } catch (cause) {
      throw asGodwitError(cause, this.target);
    }
  }
}

interface Message {
  readonly method: string;
  readonly path: string;
  readonly text: string | undefined;
}

function send(
  target: ClientTarget,
  { method, path, text }: Message,
  { signal, deadlineMs = 30_000 }: CallOptions,
): Promise<IncomingMessage> {
  const headers = {
    ...(text === undefined ? {} : { "content-type": "application/json" }),
    ...("token" in target ? { authorization: `Bearer ${target.token}` } : {}),
  };
  const where =
    "socketPath" in target
      ? { socketPath: target.socketPath }
      : { host: target.host, port: target.port };
  return new Promise((resolve, reject) => {
    const outgoing: ClientRequest = request({
      ...where,
      method,
      path,
      headers,
      agent: false,
      timeout: deadlineMs,
      ...(signal === undefined ? {} : { signal }),
    });
    let response: IncomingMessage | undefined;
    outgoing.on("timeout", () => {
      const what = `the daemon was silent for ${deadlineMs} ms after ${method} ${path}`;
      const error = new GodwitError("TIMEOUT", what);
      if (response === undefined) outgoing.destroy(error);
      else response.destroy(error);
    });
    outgoing.on("response", (received) => {
      response = received;
      resolve(received);
    });
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > replyBytesMax) throw new GodwitError("IO", "the daemon's answer is too long");
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function errorOf(response: IncomingMessage, text: string): GodwitError {
  try {
    const { error } = JSON.parse(text) as { error: ErrorRecord };
    return fromErrorRecord(error);
  } catch {
    const status = response.statusCode ?? 0;
    return new GodwitError("IO", `the daemon answered with HTTP status ${status}: is it godwit?`);
  }
}

function asGodwitError(cause: unknown, target: ClientTarget): GodwitError {
  if (cause instanceof GodwitError) return cause;
  const where = "socketPath" in target ? target.socketPath : `${target.host}:${target.port}`;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (code === "ENOENT" || code === "ECONNREFUSED") {
    return new GodwitError("NOT_FOUND", `no godwit daemon answers at ${where}`, {
      cause,
      details: { daemon: "absent" },
    });
  }
  if (code === "EACCES") {
    return new GodwitError("IO", `not permitted to use the daemon's socket ${where}`, { cause });
  }
  const why =
    code === "ECONNRESET" ? "it ended" : cause instanceof Error ? cause.message : String(cause);
  return new GodwitError("IO", `the connection to the daemon at ${where} failed: ${why}`, {
    cause,
  });
}
