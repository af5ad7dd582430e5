/**
 * One QEMU that this daemon started: the daemon's own monitor connection, its state, and the notice of its end.
 *
 *   arriving ─▶ (QEMU's run states) ─▶ gone: forgotten when it ended in order, else listed as crashed
 *        └────▶ kept ─▶ continue │ discard
 */
import { readFile } from "node:fs/promises";
import { type Clock, isRunning, sleep, systemProcesses } from "../io/index.ts";
import { killVm, type LaunchedVm } from "../qemu/launch/index.ts";
import { QmpClient } from "../qemu/qmp/index.ts";

const pollMs = 1_000;
const askMs = 2_000;

export interface VmWatcher {
  /** The process is gone. `inOrder`: the guest powered off, or it was asked to end. */
  readonly ended: (inOrder: boolean) => void;
  readonly log: (line: string) => void;
}

export class RunningVm {
  readonly record: LaunchedVm;
  /** QEMU's run state as last seen; "unknown" before the monitor answers. */
  runState = "unknown";
  /** Set before QEMU is told to end, so that its end is no crash. */
  ending = false;

  readonly #clock: Clock;
  readonly #watcher: VmWatcher;
  #monitor: QmpClient | undefined;
  #connecting: Promise<void> | undefined;
  #stopPolling: () => void = () => {};
  #closed = false;

  constructor(record: LaunchedVm, clock: Clock, watcher: VmWatcher) {
    this.record = record;
    this.#clock = clock;
    this.#watcher = watcher;
    this.#poll();
  }

  /** The daemon's monitor; connects when it is not there. Fails as QmpClient.connect. */
  async monitor(): Promise<QmpClient> {
    if (this.#monitor === undefined) {
      this.#connecting ??= this.#connect().finally(() => {
        this.#connecting = undefined;
      });
      await this.#connecting;
    }
    if (this.#monitor === undefined) throw new Error("the monitor closed at once");
    return this.#monitor;
  }

  /** QEMU's own answer of now: its run state, "gone" when it has ended, "unknown" when it does not answer. */
  async query(): Promise<string> {
    try {
      const monitor = await this.monitor();
      const { status } = await monitor.execute("query-status", {}, { deadlineMs: askMs });
      this.runState = status;
      return status;
    } catch {
      if (this.isAlive()) return "unknown";
      this.#gone();
      return "gone";
    }
  }

  /** For display. Asks QEMU; during a switch-over it may be too busy to answer, and the last known state stands. */
  async refresh(): Promise<string> {
    await this.query();
    return this.runState;
  }

  isAlive(): boolean {
    return isRunning(systemProcesses, this.record);
  }

  /** Ends QEMU in order if it listens, by force if not. Returns when it is gone. */
  async end(graceMs = 5_000): Promise<void> {
    this.ending = true;
    try {
      const monitor = await this.monitor();
      await monitor.execute("quit", {}, { deadlineMs: askMs });
    } catch {
      // Its answer may be lost with it, or it hangs: what follows decides.
    }
    if (!(await this.isGoneWithin(graceMs))) await killVm(this.record, this.#clock, 1_000);
    this.#gone();
  }

  async isGoneWithin(ms: number): Promise<boolean> {
    const until = this.#clock.nowMs() + ms;
    while (this.isAlive()) {
      if (this.#clock.nowMs() >= until) return false;
      await sleep(this.#clock, 25);
    }
    return true;
  }

  /** Stops watching; QEMU goes on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopPolling();
    await this.#connecting?.catch(() => {});
    await this.#monitor?.close();
  }

  async #connect(): Promise<void> {
    const options = { clock: this.#clock, deadlineMs: askMs, log: this.#watcher.log };
    const monitor = await QmpClient.connect(this.record.qmpPath, options);
    if (this.#closed) return await monitor.close();
    this.#monitor = monitor;
    monitor.on("STOP", () => void this.refresh());
    monitor.on("RESUME", () => {
      this.runState = "running";
    });
    monitor.on("SHUTDOWN", ({ data }) => {
      // Powered off, or ended by somebody's order; a guest's panic is no order.
      this.ending ||= !["host-error", "guest-panic"].includes(data.reason);
    });
    void monitor.closed.then(() => {
      this.#monitor = undefined;
      this.#poll();
    });
  }

  /** The process of a daemon before ours is no child of ours: nothing but looking tells that it ended. */
  #poll(): void {
    this.#stopPolling();
    if (this.#closed) return;
    if (!this.isAlive()) return this.#gone();
    if (this.#monitor === undefined && this.#connecting === undefined) void this.refresh();
    this.#stopPolling = this.#clock.after(pollMs, () => this.#poll());
  }

  #gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopPolling();
    void this.#monitor?.close();
    this.#watcher.ended(this.ending);
  }
}

/** The end of what QEMU said, for people. */
export async function logTail(path: string, bytes = 600): Promise<string> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.slice(-bytes).trim();
}
