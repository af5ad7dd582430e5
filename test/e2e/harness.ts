/**
 * Real QEMUs, real guests and migration workers without a daemon, for tests and benchmarks: the parts that a daemon wires
 * together, each under the test's own control. Everything made here ends with `dispose`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildGuestImage } from "../../guest/image/build.ts";
import { toErrorRecord } from "../../src/base/index.ts";
import { killProcess, sleep, systemClock } from "../../src/io/index.ts";
import {
  defaultMigrateOptions,
  type FaultPoint,
  type FromWorker,
  type MigrateOptions,
  type MigrationOutcome,
  type MigrationProgress,
  type PreparedVm,
  type TransportOptions,
} from "../../src/migrate/index.ts";
import {
  checkDefinition,
  type LaunchedVm,
  launchVm,
  pinnedDefinition,
  type VmDefinition,
} from "../../src/qemu/launch/index.ts";
import { findQemu } from "../../src/qemu/probe/index.ts";

const workerPath = fileURLToPath(new URL("../../src/migrate/worker.ts", import.meta.url));

export interface GuestOptions {
  readonly name: string;
  readonly memory?: string;
  readonly vcpus?: number;
  readonly machine?: string;
  /** Words of the guest's command line, see guest/image/README.md. */
  readonly words?: string;
  readonly more?: Record<string, unknown>;
}

export interface MigrationRun {
  readonly source: Worker;
  /** The destination's worker, once the connection is there. */
  readonly destination: Promise<Worker>;
  /** The destination's QEMU, once it was asked for. */
  readonly prepared: Promise<LaunchedVm>;
}

/** One worker process and what it said. */
export class Worker {
  readonly child: ChildProcess;
  readonly said: string[] = [];
  progress: MigrationProgress | undefined;
  readonly outcome: Promise<MigrationOutcome>;
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
    child.on("exit", (code, signal) => reject(new Error(`worker ended: ${code} ${signal}`)));
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
    for (const wait of this.#phaseWaits) if (wait.phase === progress.phase) wait.resolve();
  }
}

export class Harness implements AsyncDisposable {
  readonly directory: string;
  readonly #vms: LaunchedVm[] = [];
  readonly #workers: ChildProcess[] = [];
  readonly #servers: Server[] = [];
  #count = 0;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Harness> {
    return new Harness(await mkdtemp(join(tmpdir(), "gw-")));
  }

  /** Definition of a small guest that checks its own memory. */
  async definition(options: GuestOptions): Promise<VmDefinition> {
    const image = await buildGuestImage("small", {});
    return checkDefinition({
      name: options.name,
      memory: options.memory ?? "256M",
      vcpus: options.vcpus ?? 1,
      machine: options.machine ?? "q35",
      accelerator: "tcg",
      kernel: image.kernelPath,
      initrd: image.initrdPath,
      commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${options.words ?? "godwit.run=idle"}`,
      ...options.more,
    });
  }

  async boot(definition: VmDefinition, incoming = false): Promise<LaunchedVm> {
    const runtimeDirectory = join(this.directory, `vm${++this.#count}`);
    const binary = await findQemu({});
    const vm = await launchVm(definition, {
      runtimeDirectory,
      clock: systemClock,
      binary,
      incoming,
      accelerator: "tcg",
    });
    this.#vms.push(vm);
    return vm;
  }

  /** Boots a guest and waits for its first tick. */
  async guest(options: GuestOptions): Promise<LaunchedVm> {
    const vm = await this.boot(await this.definition(options));
    await this.ticks(vm, 1, 60_000);
    return vm;
  }

  /** Waits until the guest has printed `count` more good ticks than now; fails at once when it finds damage. */
  async ticks(vm: LaunchedVm, count: number, deadlineMs = 20_000): Promise<void> {
    const start = await goodTicks(vm);
    const endMs = systemClock.nowMs() + deadlineMs;
    for (;;) {
      if ((await goodTicks(vm)) >= start + count) return;
      if (systemClock.nowMs() > endMs) {
        const log = await readFile(vm.consoleLogPath, "utf8").catch(() => "(no console)");
        throw new Error(
          `${vm.definition.name}: no ${count} ticks within ${deadlineMs} ms:\n${log.slice(-2000)}`,
        );
      }
      await sleep(systemClock, 50);
    }
  }

  spawnWorker(onMessage: (worker: Worker, message: FromWorker) => void): Worker {
    const child = spawn(process.execPath, [workerPath], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#workers.push(child);
    const worker: Worker = new Worker(child, (message) => onMessage(worker, message));
    return worker;
  }

  /** A port at which each connection gets a worker; `prepare` makes the QEMU. */
  async listen(
    transport: TransportOptions,
    prepare: (message: Extract<FromWorker, { type: "prepare-vm" }>) => Promise<PreparedVm>,
    onWorker: (worker: Worker) => void,
    stopAt?: FaultPoint,
  ): Promise<number> {
    const runtimeDirectory = join(this.directory, "d");
    await mkdir(runtimeDirectory, { recursive: true });
    const server = createServer({ pauseOnConnect: true }, (socket: Socket) => {
      const worker = this.spawnWorker((_worker, message) => {
        if (message.type !== "prepare-vm") return;
        prepare(message).then(
          (vm) => worker.child.send({ type: "vm-prepared", vm }),
          (error: unknown) =>
            worker.child.send({ type: "vm-refused", error: toErrorRecord(error) }),
        );
      });
      const job = { kind: "receive", peerAddress: "test", transport, runtimeDirectory, stopAt };
      worker.child.send({ type: "start", job }, socket, { keepOpen: false });
      onWorker(worker);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const address = server.address();
    return address !== null && typeof address === "object" ? address.port : 0;
  }

  /** Migrates `vm` to a QEMU that is started for it. */
  async migrate(
    vm: LaunchedVm,
    options: Partial<MigrateOptions> = {},
    transport: TransportOptions = { tlsDirectory: undefined, insecure: false },
    stopAt: { readonly source?: FaultPoint; readonly destination?: FaultPoint } = {},
  ): Promise<MigrationRun> {
    const destination = Promise.withResolvers<Worker>();
    const prepared = Promise.withResolvers<LaunchedVm>();
    prepared.promise.catch(() => {});
    const port = await this.listen(
      transport,
      async (message) => {
        const there = await this.boot(checkDefinition(message.definition), true);
        prepared.resolve(there);
        const { pid, startTimeTicks, migrationQmpPath } = there;
        return { pid, startTimeTicks, qmpPath: migrationQmpPath, launched: true };
      },
      destination.resolve,
      stopAt.destination,
    );
    const runtimeDirectory = join(this.directory, "s");
    await mkdir(runtimeDirectory, { recursive: true });
    const source = this.spawnWorker(() => {});
    source.child.send({
      type: "start",
      job: {
        kind: "send",
        migrationId: `m${++this.#count}`,
        vmName: vm.definition.name,
        definition: pinnedDefinition(vm),
        qmpPath: vm.migrationQmpPath,
        pid: vm.pid,
        host: "127.0.0.1",
        port,
        transport,
        runtimeDirectory,
        options: { ...defaultMigrateOptions, ...options },
        stopAt: stopAt.source,
      },
    });
    return { source, destination: destination.promise, prepared: prepared.promise };
  }

  async end(vm: LaunchedVm): Promise<void> {
    await killProcess(vm, { clock: systemClock, graceMs: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    for (const child of this.#workers) child.kill("SIGKILL");
    for (const vm of this.#vms) await this.end(vm);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Good ticks on the console so far. Throws when the guest found damage in its own memory. */
export async function goodTicks(vm: LaunchedVm): Promise<number> {
  const log = await readFile(vm.consoleLogPath, "utf8").catch(() => "");
  const damage = /^.*(CORRUPT|Kernel panic|BUG:|Oops).*$/m.exec(log);
  if (damage !== null) throw new Error(`${vm.definition.name} is damaged: ${damage[0]}`);
  return log.match(/godwit-guest tick \d+ ok/g)?.length ?? 0;
}
