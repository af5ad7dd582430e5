/**
 * Advice for a VM: its pages are recorded (tracing.ts), then compressed in all ways by a process of its own (advise-main.ts),
 * so that the daemon stays responsive; told to one follower, with whose connection it ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { FastifyReply } from "fastify";
import type { AdviceEvent, TraceEvent } from "../api/index.ts";
import { GodwitError, toErrorRecord } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import { workerArguments, workerEnvironment } from "../migrate/index.ts";
import type { AdviceJob } from "./advice-job.ts";
import type { Context } from "./context.ts";
import { makePrivateDirectory } from "./files.ts";
import { EventStream } from "./streams.ts";
import type { Follower, Tracing } from "./tracing.ts";

export interface AdviceRequest {
  readonly linkBytesPerSecond: number;
  readonly cpuShare: number;
  readonly memoryBytes: number;
  readonly durationMs: number;
  readonly intervalMs: number;
}

const mainPath = join(import.meta.dirname, "advise-main.ts");

export class Advising {
  readonly #context: Context;
  readonly #tracing: Pick<Tracing, "record">;
  readonly #mainPath: string;
  /** Of the VM that is looked at: one at a time, as it takes a whole core. */
  #vm: string | undefined;
  #removed: Promise<void> = Promise.resolve();

  constructor(context: Context, tracing: Pick<Tracing, "record">, path = mainPath) {
    this.#context = context;
    this.#tracing = tracing;
    this.#mainPath = path;
  }

  get #folder(): string {
    return join(this.#context.config.stateDirectory, "advice");
  }

  /** What a daemon left that was killed goes: it is guest memory. */
  load(): Promise<void> {
    // One after the other: what comes after one is not for the one before.
    this.#removed = this.#removed.then(() => rm(this.#folder, { recursive: true, force: true }));
    return this.#removed;
  }

  /** Once its workers have ended: one that outlived it has kept what it had recorded. */
  async settleLeftovers(): Promise<void> {
    // An advice that is being made has begun by removing it.
    if (this.#vm === undefined) await this.load();
  }

  /** Fails with NOT_FOUND or CONFLICT before it answers; what goes wrong later is the last event. */
  async advise(reply: FastifyReply, name: string, request: AdviceRequest): Promise<void> {
    this.#context.vms.need(name);
    if (this.#vm !== undefined) {
      const why = `advice for VM ${this.#vm} is being made; wait for its end`;
      throw new GodwitError("CONFLICT", why);
    }
    this.#vm = name;
    const response = new Response(reply, this.#context.clock);
    try {
      await this.#advise(response, name, request);
    } catch (error) {
      if (response.stream === undefined) throw error;
      response.send({ type: "failed", error: toErrorRecord(error) });
    } finally {
      this.#vm = undefined;
    }
    response.stream?.end();
  }

  async #advise(response: Response, name: string, request: AdviceRequest): Promise<void> {
    const { durationMs, intervalMs, ...constraints } = request;
    const folder = this.#folder;
    await this.load();
    await makePrivateDirectory(folder);
    try {
      // Not the name that a recording of the daemon before this one may yet give its file.
      const path = join(folder, `${randomBytes(5).toString("hex")}.gtrace`);
      await this.#tracing.record(() => response.open(), name, { path, durationMs, intervalMs });
      const { stream, isRecorded } = response;
      if (isRecorded && stream?.open === true) {
        await this.#compress(stream, { path, intervalMs, constraints });
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #compress(stream: EventStream, job: AdviceJob): Promise<void> {
    const child = spawn(
      process.execPath,
      [...workerArguments, this.#mainPath, JSON.stringify(job)],
      { stdio: ["ignore", "pipe", "pipe", "ipc"], env: workerEnvironment() },
    );
    let isTold = false;
    let words = "";
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const event = parse(line);
      if (event === undefined) return;
      isTold ||= event.type !== "progress";
      stream.send(event);
    });
    child.stderr?.on("data", (bytes: Buffer) => {
      words = `${words}${bytes.toString()}`.slice(-2000);
    });
    void stream.closed.then(() => child.kill("SIGKILL"));
    const how = await endOf(child);
    if (isTold || !stream.open) return;
    this.#context.log.error({ how, words }, "the process that makes an advice broke down");
    const error = { code: "INTERNAL", message: `the advice broke down (${how})` };
    const failed: AdviceEvent = { type: "failed", error };
    stream.send(failed);
  }
}

/** What the follower is told; open from when the recording begins. */
class Response {
  readonly #reply: FastifyReply;
  readonly #clock: Clock;
  stream: EventStream | undefined;
  isRecorded = false;

  constructor(reply: FastifyReply, clock: Clock) {
    this.#reply = reply;
    this.#clock = clock;
  }

  send(event: AdviceEvent): void {
    this.stream?.send(event);
  }

  open(): Follower {
    const stream = new EventStream(this.#reply, this.#clock);
    this.stream = stream;
    return {
      closed: stream.closed,
      send: (event) => {
        if (event.type === "finished") this.isRecorded = true;
        else if (event.type === "failed") this.send(event);
        else this.send({ type: "progress", text: recordingText(event) });
      },
      // More follows.
      end: () => {},
    };
  }
}

function recordingText({ progress }: Extract<TraceEvent, { type: "progress" }>): string {
  const { phase, epochCount } = progress;
  if (phase === "base") return "recording: first copy";
  return phase === "recording" ? `recording: epoch ${epochCount}` : "recording: finishing";
}

/** Undefined for half a line, of a process that was killed. */
function parse(line: string): AdviceEvent | undefined {
  try {
    return JSON.parse(line) as AdviceEvent;
  } catch {
    return undefined;
  }
}

/** When it is gone and its output is read to the end. */
function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => {
      resolve(code === null ? `signal ${signal ?? "?"}` : `exit code ${code}`);
    });
  });
}
