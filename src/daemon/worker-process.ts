/**
 * One migration worker: a process of ours, spoken to over Node's IPC channel (src/migrate/job.ts). In a session of its own,
 * so that Ctrl-C in the daemon's terminal leaves it to the daemon to end it in order.
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import type { Clock } from "../io/index.ts";
import type { FromWorker, Job, ToWorker } from "../migrate/index.ts";
import { noteWorker } from "./orphans.ts";
import type { SpareWorker } from "./spare-worker.ts";

export interface WorkerOptions {
  readonly spare: SpareWorker;
  /** Where running workers are noted (orphans.ts). */
  readonly workersDirectory: string;
  /** Receives what the worker prints. */
  readonly logPath: string;
  readonly clock: Clock;
}

export interface WorkerHandlers {
  readonly message: (message: FromWorker) => void;
  /** Once, when the process is gone, after its last message; `how` is "exit code 1", "signal SIGKILL" or why it did not start. */
  readonly ended: (how: string) => void;
}

/** After `finished` a worker has this long to end. */
const exitMs = 15_000;

export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  #ended = false;
  #stopDeadline: () => void = () => {};

  constructor(options: WorkerOptions, handlers: WorkerHandlers) {
    this.#clock = options.clock;
    this.#child = options.spare.take(options.logPath);
    const { pid } = this.#child;
    let forget = (): void => {};
    try {
      if (pid !== undefined) forget = noteWorker(options.workersDirectory, pid);
    } catch (error) {
      // Nobody would look after it.
      this.#child.on("error", () => {});
      this.#child.kill("SIGKILL");
      throw error;
    }
    const ended = (how: string): void => {
      if (this.#ended) return;
      this.#ended = true;
      forget();
      this.#stopDeadline();
      handlers.ended(how);
    };
    this.#child.on("message", (message) => {
      const fromWorker = message as FromWorker;
      if (fromWorker.type === "finished") this.#expectEnd();
      handlers.message(fromWorker);
    });
    this.#child.on("error", (error) => {
      // Also raised when a message cannot be sent; then the process lives and its exit follows.
      if (this.#child.pid === undefined) ended(error.message);
    });
    // close, not exit: by then the channel has been read to its end.
    this.#child.on("close", (code, signal) => {
      ended(code === null ? `signal ${signal ?? "?"}` : `exit code ${code}`);
    });
  }

  /** The connection of a `receive` job goes along; it is closed here. */
  start(job: Job, connection?: Socket): void {
    const message: ToWorker = { type: "start", job };
    if (!this.#child.connected) {
      connection?.destroy();
      return;
    }
    if (connection === undefined) {
      this.#child.send(message, () => {});
      return;
    }
    this.#child.send(message, connection, { keepOpen: false }, (error) => {
      if (error !== null) connection.destroy();
    });
  }

  send(message: Exclude<ToWorker, { type: "start" }>): void {
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  /** Closes the channel: the worker gives up what is not handed over, completes what is, and ends. */
  disconnect(): void {
    if (this.#child.connected) this.#child.disconnect();
    this.#child.unref();
  }

  kill(): void {
    if (!this.#ended) this.#child.kill("SIGKILL");
  }

  #expectEnd(): void {
    this.#stopDeadline();
    if (!this.#ended) this.#stopDeadline = this.#clock.after(exitMs, () => this.kill());
  }
}
