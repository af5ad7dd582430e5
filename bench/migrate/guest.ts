/** One QEMU inside one end of the link, with everything that its monitor said since it started. */
import { readFile } from "node:fs/promises";
import { GodwitError } from "../../src/base/index.ts";
import {
  killProcess,
  type Processes,
  sleep,
  systemClock,
  systemProcesses,
} from "../../src/io/index.ts";
import { type LaunchedVm, launchVm, type VmDefinition } from "../../src/qemu/launch/index.ts";
import { findQemu } from "../../src/qemu/probe/index.ts";
import { QmpClient, type QmpEvent } from "../../src/qemu/qmp/index.ts";
import { goodTicks } from "../../test/e2e/harness.ts";
import { atExit } from "../at-exit.ts";
import type { NetworkPair, Side } from "../netns.ts";

export interface GuestOptions {
  readonly link: NetworkPair;
  readonly side: Side;
  readonly runtimeDirectory: string;
  /** fresh: boots. waiting: for a migration, then paused. running: for a migration, then runs by itself. */
  readonly start: "fresh" | "waiting" | "running";
}

/** An event with QEMU's own time, in ms since 1970. */
export interface Occurrence {
  readonly name: string;
  readonly status: string | undefined;
  readonly wallMs: number;
}

export class Guest implements AsyncDisposable {
  readonly vm: LaunchedVm;
  readonly qmp: QmpClient;
  readonly occurrences: Occurrence[] = [];
  readonly #forget: () => void;
  #waiting: (() => void)[] = [];

  private constructor(vm: LaunchedVm, qmp: QmpClient) {
    this.vm = vm;
    this.qmp = qmp;
    this.#forget = atExit(() => systemProcesses.signal(vm, "SIGKILL"));
    qmp.onAny((event) => this.#occurred(event));
    void qmp.closed.then(() => this.#wake());
  }

  static async start(definition: VmDefinition, options: GuestOptions): Promise<Guest> {
    const vm = await launchVm(definition, {
      runtimeDirectory: options.runtimeDirectory,
      clock: systemClock,
      binary: await findQemu({}),
      incoming: options.start !== "fresh",
      accelerator: "tcg",
      processes: processesInside(options),
    });
    return new Guest(vm, await QmpClient.connect(vm.qmpPath));
  }

  /** The first such event, which may have come already. Fails with TIMEOUT, or QEMU_EXITED. */
  async occurrence(name: string, status?: string, deadlineMs = 60_000): Promise<Occurrence> {
    const untilMs = systemClock.nowMs() + deadlineMs;
    for (;;) {
      const found = this.found(name, status);
      if (found !== undefined) return found;
      const leftMs = untilMs - systemClock.nowMs();
      const what = `${name} ${status ?? ""} in ${this.vm.directory}`;
      if (leftMs <= 0) throw new GodwitError("TIMEOUT", `no ${what} within ${deadlineMs} ms`);
      if (systemProcesses.identify(this.vm.pid) === undefined) {
        const log = await readFile(this.vm.logPath, "utf8").catch(() => "");
        throw new GodwitError("QEMU_EXITED", `QEMU ended before ${what}: ${log.slice(-500)}`);
      }
      await Promise.race([
        new Promise<void>((resolve) => this.#waiting.push(resolve)),
        sleep(systemClock, Math.min(leftMs, 500)),
      ]);
    }
  }

  found(name: string, status?: string): Occurrence | undefined {
    return this.occurrences.find(
      (seen) => seen.name === name && (status === undefined || seen.status === status),
    );
  }

  /** Runs the VM; answers how long that took by QEMU's word. */
  async resume(): Promise<number> {
    const beforeMs = systemClock.wallMs();
    await this.qmp.execute("cont");
    return Math.max(0, (await this.occurrence("RESUME")).wallMs - beforeMs);
  }

  /** Waits until the guest has found its memory good this many more times; fails when it finds damage. */
  async ticks(count: number, deadlineMs = 60_000): Promise<void> {
    const wanted = (await goodTicks(this.vm)) + count;
    await this.#until(async () => (await goodTicks(this.vm)) >= wanted, deadlineMs);
  }

  /** Waits until all of the writer's memory was checked from one end to the other. */
  async wholeSweep(deadlineMs = 60_000): Promise<void> {
    const sweeps = async (): Promise<number> => {
      await goodTicks(this.vm);
      const log = await readFile(this.vm.consoleLogPath, "utf8").catch(() => "");
      return Number([...log.matchAll(/ sweeps (\d+)/g)].at(-1)?.[1] ?? Number.NaN);
    };
    await this.ticks(1, deadlineMs);
    const wanted = (await sweeps()) + 2;
    await this.#until(async () => (await sweeps()) >= wanted, deadlineMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.qmp.close();
    await killProcess(this.vm, { clock: systemClock, graceMs: 0 });
    this.#forget();
  }

  async #until(condition: () => Promise<boolean>, deadlineMs: number): Promise<void> {
    const untilMs = systemClock.nowMs() + deadlineMs;
    while (!(await condition())) {
      if (systemClock.nowMs() > untilMs) {
        throw new GodwitError("TIMEOUT", `the guest in ${this.vm.directory} does not go on`);
      }
      await sleep(systemClock, 50);
    }
  }

  #occurred({ name, data, timestampUs }: QmpEvent): void {
    const { status } = data as { status?: string };
    this.occurrences.push({ name, status, wallMs: timestampUs / 1000 });
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** QEMU is started by `nsenter`, which becomes QEMU. Without -S a destination runs as soon as it has everything. */
function processesInside({ link, side, start }: GuestOptions): Processes {
  return {
    ...systemProcesses,
    start: (spec) => {
      const own = start === "running" ? spec.args.filter((word) => word !== "-S") : spec.args;
      const [command, args] = link.inside(side, spec.command, own);
      return systemProcesses.start({ ...spec, command, args });
    },
  };
}
