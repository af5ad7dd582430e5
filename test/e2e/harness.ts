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
  type Deadlines,
  defaultMigrateOptions,
  type FaultPoint,
  type FromWorker,
  type MigrateOptions,
  type PreparedVm,
  type SendJob,
  type TransportOptions,
  workerArguments,
  workerEnvironment,
} from "../../src/migrate/index.ts";
import {
  checkDefinition,
  type LaunchedVm,
  launchVm,
  pinnedDefinition,
  type VmDefinition,
} from "../../src/qemu/launch/index.ts";
import { findQemu } from "../../src/qemu/probe/index.ts";
import { QmpClient, type RunState } from "../../src/qemu/qmp/index.ts";
import { Relay } from "./relay.ts";
import { Worker } from "./worker.ts";

export { stopped, Worker } from "./worker.ts";

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

export interface StopAt {
  readonly source?: FaultPoint;
  readonly destination?: FaultPoint;
}

/** What most migrations do not need. */
export interface MigrationExtras {
  /** Default: the source's. */
  readonly destinationTransport?: TransportOptions;
  /** Puts a relay between the two workers. */
  readonly relay?: boolean;
  readonly deadlines?: Partial<Deadlines>;
  /** Replaces fields of the source's job. */
  readonly job?: Partial<Omit<SendJob, "options">>;
  /** Default: a QEMU of the definition that the source sends. */
  readonly prepare?: (message: PrepareVm) => Promise<PreparedVm>;
}

export type PrepareVm = Extract<FromWorker, { type: "prepare-vm" }>;
type Resolve = Extract<FromWorker, { type: "resolve" }>;

export interface SendBasics extends Pick<SendJob, "vmName" | "qmpPath" | "port"> {
  readonly options?: Partial<MigrateOptions>;
}

export interface ListenOptions {
  readonly transport: TransportOptions;
  /** Makes the QEMU. */
  readonly prepare: (message: PrepareVm) => Promise<PreparedVm>;
  readonly onWorker: (worker: Worker) => void;
  readonly stopAt?: FaultPoint;
  readonly deadlines?: Partial<Deadlines>;
  /** For sockets; exists. Default: that of all destinations. */
  readonly runtimeDirectory?: string;
  /** Settles a VM that was kept stopped; answers its state. */
  readonly resolve?: (message: Resolve) => Promise<string>;
}

export interface MigrationRun {
  readonly migrationId: string;
  readonly source: Worker;
  /** The destination's worker, once the connection is there. */
  readonly destination: Promise<Worker>;
  /** The destination's QEMU, once it was asked for. */
  readonly prepared: Promise<LaunchedVm>;
  readonly relay: Relay | undefined;
}

export class Harness implements AsyncDisposable {
  readonly directory: string;
  readonly #vms: LaunchedVm[] = [];
  readonly #workers: ChildProcess[] = [];
  readonly #servers: Server[] = [];
  readonly #relays: Relay[] = [];
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
      commandLine: [
        "console=ttyS0 quiet panic=-1 random.trust_cpu=on",
        // On a busy host the kernel cannot measure the clock by a microvm's timer, and then hangs.
        ...(options.machine === "microvm" ? ["tsc_early_khz=2000000"] : []),
        options.words ?? "godwit.run=idle",
      ].join(" "),
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
    await this.#counts(vm, count, deadlineMs, goodTicks);
  }

  /** The same for its checks of the disk (`godwit.disk=1`). */
  async diskTicks(vm: LaunchedVm, count: number, deadlineMs = 20_000): Promise<void> {
    await this.#counts(vm, count, deadlineMs, goodDiskTicks);
  }

  async #counts(
    vm: LaunchedVm,
    count: number,
    deadlineMs: number,
    of: (vm: LaunchedVm) => Promise<number>,
  ): Promise<void> {
    const start = await of(vm);
    const endMs = systemClock.nowMs() + deadlineMs;
    for (;;) {
      if ((await of(vm)) >= start + count) return;
      if (systemClock.nowMs() > endMs) {
        const log = await readFile(vm.consoleLogPath, "utf8").catch(() => "(no console)");
        const { name } = vm.definition;
        throw new Error(`${name}: no ${count} ticks within ${deadlineMs} ms:\n${log.slice(-2000)}`);
      }
      await sleep(systemClock, 50);
    }
  }

  spawnWorker(onMessage: (worker: Worker, message: FromWorker) => void): Worker {
    const child = spawn(process.execPath, [...workerArguments, workerPath], {
      env: workerEnvironment(),
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#workers.push(child);
    const worker: Worker = new Worker(child, (message) => onMessage(worker, message));
    return worker;
  }

  /** A port at which each connection gets a worker. */
  async listen(options: ListenOptions): Promise<number> {
    const { transport, stopAt, deadlines } = options;
    const runtimeDirectory = options.runtimeDirectory ?? (await this.destinationDirectory());
    const server = createServer({ pauseOnConnect: true }, (socket: Socket) => {
      const worker = this.spawnWorker((_worker, message) => this.#answer(worker, message, options));
      const job = {
        kind: "receive",
        peerAddress: "test",
        transport,
        runtimeDirectory,
        stopAt,
        deadlines,
      };
      worker.child.send({ type: "start", job }, socket, { keepOpen: false });
      options.onWorker(worker);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const address = server.address();
    return address !== null && typeof address === "object" ? address.port : 0;
  }

  #answer(worker: Worker, message: FromWorker, options: ListenOptions): void {
    const send = (answer: object): void => {
      if (worker.child.connected) worker.child.send(answer, () => {});
    };
    if (message.type === "prepare-vm") {
      options.prepare(message).then(
        (vm) => send({ type: "vm-prepared", vm }),
        (error: unknown) => send({ type: "vm-refused", error: toErrorRecord(error) }),
      );
    } else if (message.type === "resolve" && options.resolve !== undefined) {
      options.resolve(message).then(
        (state) => send({ type: "resolved", state }),
        () => send({ type: "resolved", state: "gone" }),
      );
    }
  }

  /** Sockets and journals of sources. */
  async sourceDirectory(): Promise<string> {
    return await this.#folder("s");
  }

  async destinationDirectory(): Promise<string> {
    return await this.#folder("d");
  }

  async #folder(name: string): Promise<string> {
    const path = join(this.directory, name);
    await mkdir(path, { recursive: true });
    return path;
  }

  /** Migrates `vm` to a QEMU that is started for it. */
  async migrate(
    vm: LaunchedVm,
    options: Partial<MigrateOptions> = {},
    transport: TransportOptions = { tlsDirectory: undefined, insecure: false },
    stopAt: StopAt = {},
    extras: MigrationExtras = {},
  ): Promise<MigrationRun> {
    const destination = Promise.withResolvers<Worker>();
    const prepared = Promise.withResolvers<LaunchedVm>();
    prepared.promise.catch(() => {});
    const { deadlines } = extras;
    const prepare = async (message: PrepareVm): Promise<PreparedVm> => {
      const there = await this.boot(checkDefinition(message.definition), true);
      prepared.resolve(there);
      const { pid, startTimeTicks, migrationQmpPath } = there;
      return { pid, startTimeTicks, qmpPath: migrationQmpPath, launched: true };
    };
    const port = await this.listen({
      transport: extras.destinationTransport ?? transport,
      prepare: extras.prepare ?? prepare,
      onWorker: destination.resolve,
      resolve: async ({ outcome }) => await this.#settle(await prepared.promise, outcome),
      ...(stopAt.destination === undefined ? {} : { stopAt: stopAt.destination }),
      ...(deadlines === undefined ? {} : { deadlines }),
    });
    const relay = extras.relay === true ? await Relay.create(port) : undefined;
    if (relay !== undefined) this.#relays.push(relay);
    const started = await this.send({
      vmName: vm.definition.name,
      definition: pinnedDefinition(vm),
      qmpPath: vm.migrationQmpPath,
      pid: vm.pid,
      port: relay?.port ?? port,
      transport,
      options,
      ...(deadlines === undefined ? {} : { deadlines }),
      ...(stopAt.source === undefined ? {} : { stopAt: stopAt.source }),
      ...extras.job,
    });
    const there = { destination: destination.promise, prepared: prepared.promise };
    return { ...started, ...there, relay };
  }

  /** Starts the source's side only; what is not given is as for a local, unencrypted migration. */
  async send(
    job: SendBasics & Partial<Omit<SendJob, "options">>,
  ): Promise<Pick<MigrationRun, "migrationId" | "source">> {
    const migrationId = `m${++this.#count}`;
    const source = this.spawnWorker(() => {});
    source.child.send({
      type: "start",
      job: {
        kind: "send",
        migrationId,
        host: "127.0.0.1",
        transport: { tlsDirectory: undefined, insecure: false },
        runtimeDirectory: await this.sourceDirectory(),
        ...job,
        options: { ...defaultMigrateOptions, ...job.options },
      },
    });
    return { migrationId, source };
  }

  /** What a daemon does with a VM that was kept stopped, once the source says how it ended there. */
  async #settle(vm: LaunchedVm, outcome: Resolve["outcome"]): Promise<string> {
    if (outcome === "aborted") {
      await this.end(vm);
      return "discarded";
    }
    await using qmp = await QmpClient.connect(vm.qmpPath);
    await qmp.execute("cont");
    return "running";
  }

  async end(vm: LaunchedVm): Promise<void> {
    await killProcess(vm, { clock: systemClock, graceMs: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    for (const relay of this.#relays) relay[Symbol.dispose]();
    for (const child of this.#workers) child.kill("SIGKILL");
    for (const vm of this.#vms) await this.end(vm);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Good ticks on the console so far. Throws when the guest found damage in its own memory. */
export async function goodTicks(vm: LaunchedVm): Promise<number> {
  return await countLines(vm, /godwit-guest tick \d+ ok/g);
}

async function goodDiskTicks(vm: LaunchedVm): Promise<number> {
  return await countLines(vm, /godwit-guest disk \d+ ok/g);
}

/** Those that match on the console so far. Throws as `goodTicks` does. */
export async function countLines(vm: LaunchedVm, pattern: RegExp): Promise<number> {
  const log = await readFile(vm.consoleLogPath, "utf8").catch(() => "");
  const damage = /^.*(CORRUPT|Kernel panic|BUG:|Oops).*$/m.exec(log);
  if (damage !== null) throw new Error(`${vm.definition.name} is damaged: ${damage[0]}`);
  return log.match(pattern)?.length ?? 0;
}

/** QEMU's run state, or "gone" when its monitor does not answer any more. */
export async function runState(vm: LaunchedVm): Promise<RunState | "gone"> {
  try {
    await using qmp = await QmpClient.connect(vm.qmpPath);
    return (await qmp.execute("query-status")).status;
  } catch {
    return "gone";
  }
}
