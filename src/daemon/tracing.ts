/** Recordings of VMs (`src/trace`): each in a process of its own, told to one follower, with whose connection it ends. */
import { randomBytes } from "node:crypto";
import type { ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Done, TraceEvent } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import {
  type FromTraceWorker,
  type QemuSettings,
  RecordedQemu,
  type ToTraceWorker,
  type TraceJob,
} from "../trace/index.ts";
import type { Context } from "./context.ts";
import { visit } from "./monitor.ts";
import { noteWorker } from "./orphans.ts";
import { spawnWorker } from "./spare-worker.ts";

export type TraceRequest = Pick<
  TraceJob,
  "path" | "intervalMs" | "durationMs" | "base" | "pages" | "fileBytesMax" | "workload" | "note"
>;

/** Who is told of a recording: an open response, or another part of the daemon. The recording ends when it is `closed`. */
export interface Follower {
  readonly closed: Promise<void>;
  send(event: TraceEvent): void;
  end(): void;
}

const workerPath = join(import.meta.dirname, "../trace/worker.ts");
/** After it was told to end, a worker gives QEMU 30 s, and then compresses what it has. */
const endMs = 120_000;
const restoreMs = 15_000;

interface Ended {
  /** "exit code 1", "signal SIGKILL" or why it did not start. */
  readonly how: string;
  readonly last: FromTraceWorker | undefined;
  readonly settings: QemuSettings | undefined;
}

export class Tracing {
  readonly #context: Context;
  /** By VM: tells the worker to end. */
  readonly #recordings = new Map<string, () => void>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** Fails with NOT_FOUND or CONFLICT before it answers; what goes wrong later is the last event. */
  async record(open: () => Follower, name: string, request: TraceRequest): Promise<void> {
    const { recorded, runtimeDirectory } = this.#context;
    const { record: vm } = this.#context.vms.need(name);
    this.#check(name);
    recorded.add(name);
    try {
      const job = {
        ...request,
        qmpPath: vm.migrationQmpPath,
        runtimeDirectory,
        id: randomBytes(5).toString("hex"),
        vmName: name,
        accelerator: vm.accelerator,
      };
      const work = this.#follow(open, job);
      this.#context.background(work.catch(() => {}));
      await work;
    } finally {
      recorded.delete(name);
      this.#recordings.delete(name);
    }
  }

  /** Answers at once; the recording's follower is told of its end. Fails with NOT_FOUND. */
  end(name: string): Done {
    const end = this.#recordings.get(name);
    if (end === undefined) throw new GodwitError("NOT_FOUND", `VM ${name} is not being recorded`);
    end();
    return { text: `the recording of ${name} ends` };
  }

  /** All end; what was recorded is kept. */
  stop(): void {
    for (const end of this.#recordings.values()) end();
  }

  #check(name: string): void {
    const { migrations, arrivals, recorded, stopping } = this.#context;
    const why = stopping
      ? "the daemon is stopping"
      : recorded.has(name)
        ? `VM ${name} is being recorded already`
        : migrations.runningOf(name) !== undefined
          ? `VM ${name} is being migrated; it can be recorded when that is over`
          : arrivals.get(name) !== undefined
            ? `VM ${name} has just arrived and is not settled`
            : undefined;
    if (why !== undefined) throw new GodwitError("CONFLICT", why);
  }

  async #follow(open: () => Follower, job: TraceJob): Promise<void> {
    const { clock, logDirectory, workersDirectory, log } = this.#context;
    const logPath = join(logDirectory, `trace-${job.id}.log`);
    const child = spawnWorker(workerPath, logPath);
    const forget = child.pid === undefined ? () => {} : noteWorker(workersDirectory, child.pid);
    const stream = open();
    const ended = this.#watch(child, (message) => {
      if (message.type === "progress") stream.send(message satisfies TraceEvent);
    });
    let stopDeadline = (): void => {};
    let isOver = false;
    const end = (): void => {
      if (isOver) return;
      tell(child, { type: "cancel" });
      stopDeadline();
      stopDeadline = clock.after(endMs, () => child.kill("SIGKILL"));
    };
    this.#recordings.set(job.vmName, end);
    tell(child, { type: "start", job });
    void stream.closed.then(end);
    const { how, last, settings } = await ended;
    isOver = true;
    stopDeadline();
    forget();
    if (last?.type === "finished" || last?.type === "failed") {
      rmSync(logPath, { force: true });
      stream.send(last satisfies TraceEvent);
    } else {
      log.error({ vm: job.vmName, how }, "the process that records a VM broke down");
      await this.#restore(job, settings);
      const message = `the recording broke down (${how}); the VM runs on; its log is ${logPath}`;
      const failed: TraceEvent = { type: "failed", error: { code: "INTERNAL", message } };
      stream.send(failed);
    }
    stream.end();
  }

  #watch(child: ChildProcess, each: (message: FromTraceWorker) => void): Promise<Ended> {
    let last: FromTraceWorker | undefined;
    let settings: QemuSettings | undefined;
    return new Promise((resolve) => {
      child.on("message", (message) => {
        last = message as FromTraceWorker;
        if (last.type === "settings") settings = last.settings;
        each(last);
      });
      child.on("error", (error) => {
        if (child.pid === undefined) resolve({ how: error.message, last, settings });
      });
      // close, not exit: by then the channel has been read to its end.
      child.on("close", (code, signal) => {
        const how = code === null ? `signal ${signal ?? "?"}` : `exit code ${code}`;
        resolve({ how, last, settings });
      });
    });
  }

  /** What the worker changed in QEMU and did not put back. */
  async #restore({ vmName, qmpPath }: TraceJob, settings: QemuSettings | undefined): Promise<void> {
    const { clock, log } = this.#context;
    if (settings === undefined) return;
    try {
      await visit(qmpPath, clock, async (monitor) => {
        const qemu = new RecordedQemu(monitor, clock);
        qemu.adopt(settings);
        await qemu.end(restoreMs);
      });
    } catch (error) {
      log.warn({ vm: vmName, error: String(error) }, "QEMU's settings cannot be put back");
    }
  }
}

function tell(child: ChildProcess, message: ToTraceWorker): void {
  if (child.connected) child.send(message, () => {});
}
