/**
 * One worker that has started already: a migration that takes it begins a few tenths of a second earlier, at both ends. It
 * costs about 50 MB of memory of its own while it waits, 0.3 s of CPU time or more to warm up, and ends by itself when the daemon does.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../io/index.ts";
import { workerArguments, workerEnvironment } from "../migrate/index.ts";

/** After one was taken: the migration has the processor first. */
const pauseMs = 10_000;

/** Starts a worker; what it prints goes to `logPath` (created, mode 0600). Its channel is open, its errors are its owner's. */
export function spawnWorker(workerPath: string, logPath: string): ChildProcess {
  const log = openSync(logPath, "a", 0o600);
  try {
    return spawn(process.execPath, [...workerArguments, workerPath], {
      detached: true,
      stdio: ["ignore", log, log, "ipc"],
      serialization: "json",
      env: workerEnvironment(),
    });
  } finally {
    closeSync(log);
  }
}

export class SpareWorker {
  readonly #workerPath: string;
  readonly #logDirectory: string;
  readonly #clock: Clock;
  #child: ChildProcess | undefined;
  #logPath = "";
  #stopWaiting: () => void = () => {};
  #stopped = false;

  constructor(options: { workerPath: string; logDirectory: string; clock: Clock }) {
    this.#workerPath = options.workerPath;
    this.#logDirectory = options.logDirectory;
    this.#clock = options.clock;
  }

  /** Starts the first one. */
  prepare(): void {
    this.#start();
  }

  /** The spare one, or a new one when it is not there; it logs to `logPath`. */
  take(logPath: string): ChildProcess {
    const child = this.#child;
    this.#child = undefined;
    this.#stopWaiting();
    this.#stopWaiting = this.#clock.after(pauseMs, () => this.#start());
    if (child === undefined || !child.connected) return spawnWorker(this.#workerPath, logPath);
    // Only ours: Node's own listeners carry the handles that go with messages.
    child.off("error", this.#gone).off("close", this.#gone);
    child.ref();
    child.channel?.ref();
    // The process has the file open: it goes on writing to it under its new name.
    try {
      renameSync(this.#logPath, logPath);
    } catch (error) {
      child.on("error", () => {});
      child.kill("SIGKILL");
      throw error;
    }
    return child;
  }

  stop(): void {
    this.#stopped = true;
    this.#stopWaiting();
    const child = this.#child;
    this.#child = undefined;
    child?.kill("SIGKILL");
    if (child !== undefined) rmSync(this.#logPath, { force: true });
  }

  /** It ended by itself: the next that is asked for starts anew. */
  readonly #gone = (): void => {
    if (this.#child === undefined || this.#child.connected) return;
    this.#child = undefined;
    rmSync(this.#logPath, { force: true });
  };

  #start(): void {
    if (this.#stopped || this.#child !== undefined) return;
    this.#logPath = join(this.#logDirectory, `spare-${randomUUID()}.log`);
    let child: ChildProcess;
    try {
      child = spawnWorker(this.#workerPath, this.#logPath);
    } catch {
      // Whoever needs one starts it, and is told why it cannot.
      return;
    }
    this.#child = child;
    child.on("error", this.#gone);
    child.on("close", this.#gone);
    // It waits for work; the daemon may end without it.
    child.unref();
    child.channel?.unref();
  }
}
