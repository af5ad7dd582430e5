/** One worker process as a test sees it: what it said, where it is, how it ended. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { sleep, systemClock } from "../../src/io/index.ts";
import type { FromWorker, MigrationOutcome, MigrationProgress } from "../../src/migrate/index.ts";

export class Worker {
  readonly child: ChildProcess;
  readonly said: string[] = [];
  progress: MigrationProgress | undefined;
  /** VmHWM when progress was told last. */
  peakBytes = 0;
  readonly outcome: Promise<MigrationOutcome>;
  /** "exit code 0" or "signal SIGKILL". */
  readonly ended: Promise<string>;
  #phaseWaits: { phase: string; resolve: () => void }[] = [];

  constructor(child: ChildProcess, onMessage: (message: FromWorker) => void) {
    this.child = child;
    const { promise, resolve, reject } = Promise.withResolvers<MigrationOutcome>();
    promise.catch(() => {});
    this.outcome = promise;
    child.on("message", (message: FromWorker) => {
      if (message.type === "finished") resolve(message.outcome);
      if (message.type === "say") this.said.push(message.text);
      if (message.type === "progress") this.#progressed(message.progress);
      onMessage(message);
    });
    child.on("error", () => {}); // A message to a worker that is gone.
    const ended = Promise.withResolvers<string>();
    this.ended = ended.promise;
    child.on("exit", (code, signal) => {
      const how = code === null ? `signal ${signal ?? "?"}` : `exit code ${code}`;
      ended.resolve(how);
      reject(new Error(`the worker ended without an outcome: ${how}`));
    });
  }

  /** Resolves when progress shows the phase (polled a few times a second by the worker itself). */
  reached(phase: string): Promise<void> {
    if (this.progress?.phase === phase) return Promise.resolve();
    return new Promise((resolve) => {
      this.#phaseWaits.push({ phase, resolve });
    });
  }

  cancel(): void {
    this.child.send({ type: "cancel" });
  }

  #progressed(progress: MigrationProgress): void {
    this.progress = progress;
    this.peakBytes = readPeak(this.child.pid) ?? this.peakBytes;
    for (const wait of this.#phaseWaits) if (wait.phase === progress.phase) wait.resolve();
  }
}

/** Waits until the process has stopped itself at its fault point. */
export async function stopped(worker: Worker, deadlineMs = 30_000): Promise<void> {
  const endMs = systemClock.nowMs() + deadlineMs;
  for (;;) {
    const stat = await readFile(`/proc/${worker.child.pid}/stat`, "latin1").catch(() => ") gone");
    const state = stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
    if (state === "T") return;
    if (state === "g" || state === "Z") throw new Error("the worker ended before its fault point");
    if (systemClock.nowMs() > endMs) throw new Error("the worker did not come to its fault point");
    await sleep(systemClock, 10);
  }
}

function readPeak(pid: number | undefined): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    const match = /VmHWM:\s+(\d+) kB/.exec(text);
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}
