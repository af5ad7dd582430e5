/** The VMs of this daemon: starts them, finds them again after a restart, and knows when they end. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Vm } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import {
  findVm,
  type LaunchedVm,
  launchVm,
  readVmRecord,
  runtimePaths,
  type VmDefinition,
} from "../qemu/launch/index.ts";
import { findQemu } from "../qemu/probe/index.ts";
import { makePrivateDirectory } from "./files.ts";
import type { Logger } from "./log.ts";
import { logTail, RunningVm } from "./vm.ts";

/** A VM whose QEMU ended by itself; its files stay until somebody has looked. */
interface Crashed {
  readonly record: LaunchedVm;
  readonly note: string;
}

export interface StartOptions {
  readonly incoming?: boolean;
  readonly paused?: boolean;
}

export class Vms {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #running = new Map<string, RunningVm>();
  readonly #crashed = new Map<string, Crashed>();
  /** Names of VMs that are being started: taken, but not there yet. */
  readonly #starting = new Set<string>();
  /** Of VMs that ended: settled when their files are gone and their names free. */
  readonly #endings = new Map<string, Promise<void>>();

  constructor(options: { runtimeDirectory: string; clock: Clock; log: Logger }) {
    this.#directory = join(options.runtimeDirectory, "vms");
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Finds the VMs of a daemon before this one. */
  async load(): Promise<void> {
    await makePrivateDirectory(this.#directory);
    for (const name of await readdir(this.#directory)) {
      try {
        await this.#find(name);
      } catch (error) {
        this.#log.error({ vm: name, error: String(error) }, "a VM's files cannot be used");
      }
    }
  }

  /** The name is free: no VM has it, starting and crashed ones included. Fails with CONFLICT. */
  checkFree(name: string): void {
    if (this.#running.has(name) || this.#starting.has(name)) {
      throw new GodwitError("CONFLICT", `there is a VM named ${name} here already`);
    }
    if (this.#crashed.has(name)) {
      throw new GodwitError(
        "CONFLICT",
        `a VM named ${name} crashed here; look at it with \`godwit status ${name}\`, then remove it with \`godwit discard ${name}\``,
      );
    }
  }

  /** Fails with CONFLICT, QEMU_START, NOT_FOUND (no QEMU) and what launching says. */
  async start(definition: VmDefinition, options: StartOptions = {}): Promise<RunningVm> {
    const { name } = definition;
    this.checkFree(name);
    this.#starting.add(name);
    const runtimeDirectory = join(this.#directory, name);
    try {
      const binary = await findQemu({ binary: definition.binary });
      const record = await launchVm(definition, {
        ...options,
        runtimeDirectory,
        clock: this.#clock,
        binary,
        log: (line) => this.#log.debug({ vm: name }, line),
      });
      this.#log.info({ vm: name, pid: record.pid, incoming: options.incoming }, "VM started");
      const vm = this.#watch(record);
      await vm.refresh();
      return vm;
    } catch (error) {
      // Only then is it certain that no QEMU uses the files.
      if (error instanceof GodwitError && error.code === "QEMU_START")
        await this.#removeFiles(name);
      throw error;
    } finally {
      this.#starting.delete(name);
    }
  }

  get(name: string): RunningVm | undefined {
    return this.#running.get(name);
  }

  /** Fails with NOT_FOUND, or CONFLICT for a crashed one. */
  need(name: string): RunningVm {
    const vm = this.#running.get(name);
    if (vm !== undefined) return vm;
    const crashed = this.#crashed.get(name);
    if (crashed === undefined) throw noSuchVm(name);
    throw new GodwitError("CONFLICT", `VM ${name} does not run: ${crashed.note}`);
  }

  has(name: string): boolean {
    return this.#running.has(name) || this.#crashed.has(name);
  }

  recordOf(name: string): LaunchedVm | undefined {
    return this.#running.get(name)?.record ?? this.#crashed.get(name)?.record;
  }

  async list(): Promise<Vm[]> {
    const running = Array.from(this.#running.values());
    await Promise.all(running.map((vm) => vm.refresh()));
    const alive = running.filter((vm) => this.#running.has(vm.record.definition.name));
    return [
      ...alive.map((vm) => describeVm(vm.record, vm.runState)),
      ...Array.from(this.#crashed.values(), ({ record, note }) => {
        const { pid: _, ...rest } = describeVm(record, "crashed");
        return { ...rest, note };
      }),
    ];
  }

  /** Ends QEMU, whatever the guest does, and removes its files. Also removes what a crash left. */
  async discard(name: string): Promise<void> {
    await this.#running.get(name)?.end();
    await this.#endings.get(name);
    this.#crashed.delete(name);
    await this.#removeFiles(name);
  }

  /** Presses the power button; answers whether the guest went down in time. */
  async powerDown(name: string, timeoutMs: number): Promise<boolean> {
    const vm = this.need(name);
    const monitor = await vm.monitor();
    await monitor.execute("system_powerdown");
    if (timeoutMs === 0) return false;
    return await vm.isGoneWithin(timeoutMs);
  }

  /** Lets go of all VMs; they run on. */
  async close(): Promise<void> {
    await Promise.all(this.#endings.values());
    await Promise.all(Array.from(this.#running.values(), (vm) => vm.close()));
    this.#running.clear();
  }

  async #find(name: string): Promise<void> {
    const directory = join(this.#directory, name);
    const record = await findVm(directory);
    if (record !== undefined) {
      this.#log.info({ vm: name, pid: record.pid }, "VM found again");
      await this.#watch(record).refresh();
      return;
    }
    const ended = await readVmRecord(runtimePaths(directory).recordPath);
    if (ended === undefined) await rm(directory, { recursive: true, force: true });
    else await this.#noteCrash(ended, "it ended while no daemon ran");
  }

  #watch(record: LaunchedVm): RunningVm {
    const { name } = record.definition;
    const vm = new RunningVm(record, this.#clock, {
      ended: (inOrder) => {
        const ending = this.#ended(record, inOrder).finally(() => this.#endings.delete(name));
        this.#endings.set(name, ending);
      },
      log: (line) => this.#log.warn({ vm: name }, line),
    });
    this.#running.set(name, vm);
    return vm;
  }

  async #ended(record: LaunchedVm, inOrder: boolean): Promise<void> {
    const { name } = record.definition;
    this.#running.delete(name);
    this.#log.info({ vm: name, pid: record.pid, inOrder }, "VM ended");
    this.#starting.add(name);
    try {
      if (inOrder) await this.#removeFiles(name);
      else await this.#noteCrash(record, "QEMU ended unexpectedly");
    } catch (error) {
      this.#log.error({ vm: name, error: String(error) }, "cannot remove a VM's files");
    } finally {
      this.#starting.delete(name);
    }
  }

  async #noteCrash(record: LaunchedVm, what: string): Promise<void> {
    const { name } = record.definition;
    // At once, so that there is no time at which it seems never to have been.
    const advice = `remove it with \`godwit discard ${name}\``;
    this.#crashed.set(name, { record, note: `${what}; ${advice}` });
    const tail = await logTail(record.logPath);
    const words = tail === "" ? "it said nothing" : `its last words: ${tail}`;
    const note = `${what}; ${advice}; ${words}`;
    if (this.#crashed.has(name)) this.#crashed.set(name, { record, note });
  }

  async #removeFiles(name: string): Promise<void> {
    await rm(join(this.#directory, name), { recursive: true, force: true });
  }
}

export function noSuchVm(name: string): GodwitError {
  return new GodwitError("NOT_FOUND", `there is no VM named ${name}`);
}

export function describeVm(record: LaunchedVm, state: string): Vm {
  const { definition } = record;
  return {
    name: definition.name,
    state,
    launched: true,
    pid: record.pid,
    memoryBytes: definition.memory,
    vcpus: definition.vcpus,
    accelerator: record.accelerator,
    machineType: record.machineType,
    qemuVersion: record.qemuVersion,
    startedWallMs: record.startedWallMs,
    qmpPath: record.qmpPath,
    consoleLogPath: record.consoleLogPath,
    logPath: record.logPath,
  };
}
