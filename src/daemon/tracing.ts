/** Recordings of VMs (`src/trace`): each in a process of its own, told to one follower, with whose connection it ends. */
import { randomBytes } from "node:crypto";
import type { ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Done, TraceEvent } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { type ProcessIdentity, systemProcesses } from "../io/index.ts";
import type { MigrationSettings } from "../qemu/qmp/index.ts";
import {
  type FromTraceWorker,
  RecordedQemu,
  removeUnfinished,
  type ToTraceWorker,
  type TraceJob,
} from "../trace/index.ts";
import type { Context } from "./context.ts";
import { makePrivateDirectory } from "./files.ts";
import { visit } from "./monitor.ts";
import { noteWorker, waitForOrphans } from "./orphans.ts";
import { type RecordingNote, RecordingNotes } from "./recordings.ts";
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
/** After it was told to end, a worker gives QEMU 30 s; and then, telling how far it is, it compresses what it has. */
const silenceMs = 120_000;
const restoreMs = 15_000;

interface Ended {
  /** "exit code 1", "signal SIGKILL" or why it did not start. */
  readonly how: string;
  readonly last: FromTraceWorker | undefined;
  readonly settings: MigrationSettings | undefined;
}

/** Tells a worker. */
interface Recording {
  end(): void;
  discard(): void;
  isEnding: boolean;
}

export class Tracing {
  readonly #context: Context;
  readonly #notes: RecordingNotes;
  /** By VM. */
  readonly #recordings = new Map<string, Recording>();
  /** Left by the daemon before this one, by id. */
  #left = new Map<string, RecordingNote>();

  constructor(context: Context) {
    this.#context = context;
    this.#notes = new RecordingNotes(context.runtimeDirectory);
  }

  /** Once the VMs are found again: those that a daemon before this one recorded count as recorded until that is settled. */
  async load(): Promise<void> {
    await makePrivateDirectory(this.#notes.directory);
    this.#left = await this.#notes.read();
    for (const { vmName } of this.#left.values()) this.#context.recorded.add(vmName);
  }

  /**
   * What a daemon before this one left. A worker that has outlived it ends its recording by itself and keeps it; one that was
   * killed has left files and changed settings.
   */
  async settleLeftovers(): Promise<void> {
    const context = this.#context;
    const settle = async ([id, note]: readonly [string, RecordingNote]): Promise<void> => {
      await waitForOrphans([note.worker], context.clock, () => context.stopping);
      if (context.stopping) return;
      await this.#putBack(note);
      await removeUnfinished(note.path);
      this.#notes.remove(id);
      this.#left.delete(id);
      context.recorded.delete(note.vmName);
    };
    await Promise.all([...this.#left].map(settle));
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
      const work = this.#follow(open, job, vm);
      this.#context.background(work.catch(() => {}));
      await work;
    } finally {
      recorded.delete(name);
      this.#recordings.delete(name);
    }
  }

  /**
   * Answers at once; the recording's follower is told of its end. What was recorded is kept; asked a second time, while it is
   * made smaller, that is given up. Fails with NOT_FOUND.
   */
  end(name: string): Done {
    const recording = this.#recordings.get(name);
    if (recording === undefined) {
      throw new GodwitError("NOT_FOUND", `VM ${name} is not being recorded`);
    }
    if (recording.isEnding) {
      recording.discard();
      return { text: `the recording of ${name} is given up` };
    }
    recording.end();
    return { text: `the recording of ${name} ends` };
  }

  /** All end; what was recorded is kept. */
  stop(): void {
    for (const recording of this.#recordings.values()) recording.end();
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

  async #follow(open: () => Follower, job: TraceJob, vm: ProcessIdentity): Promise<void> {
    const { clock, logDirectory, log } = this.#context;
    const logPath = join(logDirectory, `trace-${job.id}.log`);
    const child = spawnWorker(workerPath, logPath);
    const note = this.#note(child, job, vm);
    const stream = open();
    let stopDeadline = (): void => {};
    const expectWord = (): void => {
      stopDeadline();
      stopDeadline = clock.after(silenceMs, () => child.kill("SIGKILL"));
    };
    const recording: Recording = {
      isEnding: false,
      end: () => {
        if (recording.isEnding) return;
        recording.isEnding = true;
        tell(child, { type: "cancel" });
        expectWord();
      },
      discard: () => tell(child, { type: "discard" }),
    };
    const ended = this.#watch(child, (message) => {
      if (message.type === "settings") note.settings(message.settings);
      if (message.type !== "progress") return;
      if (recording.isEnding) expectWord();
      stream.send(message satisfies TraceEvent);
    });
    this.#recordings.set(job.vmName, recording);
    tell(child, { type: "start", job });
    void stream.closed.then(() => recording.end());
    const { how, last, settings } = await ended;
    recording.isEnding = true;
    stopDeadline();
    if (last?.type === "finished" || last?.type === "failed") {
      rmSync(logPath, { force: true });
      stream.send(last satisfies TraceEvent);
    } else {
      log.error({ vm: job.vmName, how }, "the process that records a VM broke down");
      await this.#restore(job, settings);
      await removeUnfinished(job.path);
      const message = `the recording broke down (${how}); the VM runs on; its log is ${logPath}`;
      const failed: TraceEvent = { type: "failed", error: { code: "INTERNAL", message } };
      stream.send(failed);
    }
    note.remove();
    stream.end();
  }

  /** For the daemon after this one. */
  #note({ pid }: ChildProcess, { id, vmName, path }: TraceJob, vm: ProcessIdentity) {
    const worker = pid === undefined ? undefined : systemProcesses.identify(pid);
    // It did not start, or has ended already.
    if (worker === undefined) return { settings: () => {}, remove: () => {} };
    const forget = noteWorker(this.#context.workersDirectory, worker.pid);
    const { pid: vmPid, startTimeTicks } = vm;
    const note = { vmName, path, vm: { pid: vmPid, startTimeTicks }, worker };
    this.#notes.write(id, note);
    return {
      settings: (settings: MigrationSettings) => this.#notes.write(id, { ...note, settings }),
      remove: () => {
        forget();
        this.#notes.remove(id);
      },
    };
  }

  #watch(child: ChildProcess, each: (message: FromTraceWorker) => void): Promise<Ended> {
    let last: FromTraceWorker | undefined;
    let settings: MigrationSettings | undefined;
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
  async #restore(
    { vmName, qmpPath }: TraceJob,
    settings: MigrationSettings | undefined,
  ): Promise<void> {
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

  /** The same for a recording of the daemon before this one. A QEMU that has ended since needs nothing. */
  async #putBack({ vmName, vm, settings }: RecordingNote): Promise<void> {
    const { clock, log, vms } = this.#context;
    const record = vms.get(vmName)?.record;
    if (settings === undefined || record === undefined) return;
    if (record.pid !== vm.pid || record.startTimeTicks !== vm.startTimeTicks) return;
    try {
      const isDone = await visit(record.migrationQmpPath, clock, (monitor) =>
        new RecordedQemu(monitor, clock).putBack(settings),
      );
      if (isDone) log.info({ vm: vmName }, "QEMU's settings, left by a recording, were put back");
    } catch (error) {
      log.warn({ vm: vmName, error: String(error) }, "QEMU's settings cannot be put back");
    }
  }
}

function tell(child: ChildProcess, message: ToTraceWorker): void {
  if (child.connected) child.send(message, () => {});
}
