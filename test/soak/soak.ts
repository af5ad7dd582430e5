/**
 * Many migrations in a row of one guest that checks itself, back and forth between two "hosts" (directories with a listener
 * each), with all memory compared every time. The first half with one vCPU, the second with two.
 */
import { mkdir, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Prng } from "../../src/base/index.ts";
import {
  createPrivateCa,
  issueHostCertificates,
  isRunning,
  systemClock,
  systemProcesses,
} from "../../src/io/index.ts";
import type { MigrateOptions, TransportOptions } from "../../src/migrate/index.ts";
import { checkDefinition, type LaunchedVm, pinnedDefinition } from "../../src/qemu/launch/index.ts";
import { Harness, type Worker } from "../e2e/harness.ts";

export interface SoakOptions {
  readonly count: number;
  readonly seed: number;
  /** Migrations with codecs, which remember pages and so take memory. */
  readonly withCodecs: boolean;
  readonly line: (text: string) => void;
}

export interface SoakReport {
  readonly passed: number;
  readonly failed: number;
  readonly seed: number;
  readonly seconds: number;
  readonly downtimeMsMax: number;
  /** Peak resident memory of the workers, largest of the first and of the last ten migrations. */
  readonly workerBytesFirst: number;
  readonly workerBytesLast: number;
  /** What should not be there at the end, in words. */
  readonly leftovers: readonly string[];
}

interface Host {
  readonly name: string;
  readonly directory: string;
  readonly plainPort: number;
  readonly tlsPort: number;
}

interface Plan {
  readonly vcpus: number;
  readonly tls: boolean;
  readonly options: Partial<MigrateOptions>;
}

const words = "godwit.run=writer godwit.mb=24 godwit.rate=40 godwit.mode=touch godwit.tickms=50";

const codecs = ["auto", "auto", "hybrid", "zstd", "none"] as const;

export async function soak({ count, seed, withCodecs, line }: SoakOptions): Promise<SoakReport> {
  const startMs = systemClock.nowMs();
  const socketsBefore = await openSockets();
  const result = await withHarness(async (harness) => {
    await using soaker = await Soaker.create(harness);
    const prng = new Prng(seed);
    for (let index = 0; index < count; index++) {
      line(await soaker.migrate(index, plan(prng, index, count, withCodecs)));
    }
    return await soaker.report();
  });
  const leftovers = [...result.leftovers, ...(await processesLeft())];
  const sockets = (await openSockets()) - socketsBefore;
  if (sockets > 0) leftovers.push(`${sockets} open sockets`);
  const seconds = Math.round((systemClock.nowMs() - startMs) / 1000);
  return { ...result, seed, seconds, leftovers };
}

async function withHarness<T>(use: (harness: Harness) => Promise<T>): Promise<T> {
  await using harness = await Harness.create();
  return await use(harness);
}

function plan(prng: Prng, index: number, count: number, withCodecs: boolean): Plan {
  const dropShare = index % 3 === 2 ? 0.05 + 0.95 * prng.fraction() : 0;
  return {
    vcpus: index < count / 2 ? 1 : 2,
    tls: prng.chance(0.3),
    options: {
      verify: true,
      dropShare,
      dropSeed: prng.integer(1, 2 ** 31),
      ...(withCodecs
        ? {
            compress: prng.pick(codecs),
            bandwidthBytesPerSecond: prng.pick([0, 0, 40e6, 150e6]),
          }
        : {}),
    },
  };
}

class Soaker implements AsyncDisposable {
  readonly #harness: Harness;
  readonly #hosts: readonly [Host, Host];
  readonly #tlsDirectory: string;
  /** Every QEMU but the one that runs now has ended, or is left over. */
  readonly #past: LaunchedVm[] = [];
  readonly #peaks: number[] = [];
  #vm: LaunchedVm | undefined;
  #passed = 0;
  #failed = 0;
  #downtimeMsMax = 0;
  /** What the listeners hand over: the workers and QEMUs of the migration under way. */
  #workers: Worker[];
  #arrivals: LaunchedVm[];

  private constructor(
    harness: Harness,
    hosts: readonly [Host, Host],
    tlsDirectory: string,
    seen: { workers: Worker[]; arrivals: LaunchedVm[] },
  ) {
    this.#harness = harness;
    this.#hosts = hosts;
    this.#tlsDirectory = tlsDirectory;
    this.#workers = seen.workers;
    this.#arrivals = seen.arrivals;
  }

  static async create(harness: Harness): Promise<Soaker> {
    const authority = join(harness.directory, "ca");
    await createPrivateCa(authority);
    const names = { ipAddresses: ["127.0.0.1"] };
    const tlsDirectory = await issueHostCertificates(authority, "host", names);
    const seen = { workers: [] as Worker[], arrivals: [] as LaunchedVm[] };
    const host = async (name: string): Promise<Host> => {
      const directory = join(harness.directory, name);
      await mkdir(directory);
      const listen = async (transport: TransportOptions): Promise<number> =>
        await harness.listen({
          transport,
          runtimeDirectory: directory,
          onWorker: (worker) => seen.workers.push(worker),
          prepare: async ({ definition }) => {
            const vm = await harness.boot(checkDefinition(definition), true);
            seen.arrivals.push(vm);
            const { pid, startTimeTicks, migrationQmpPath: qmpPath } = vm;
            return { pid, startTimeTicks, qmpPath, launched: true };
          },
        });
      const plainPort = await listen({ tlsDirectory: undefined, insecure: false });
      const tlsPort = await listen({ tlsDirectory, insecure: false });
      return { name, directory, plainPort, tlsPort };
    };
    return new Soaker(harness, [await host("a"), await host("b")], tlsDirectory, seen);
  }

  /** Answers the line to print. */
  async migrate(index: number, { vcpus, tls, options }: Plan): Promise<string> {
    const here = this.#hosts[index % 2 === 0 ? 0 : 1];
    const there = this.#hosts[index % 2 === 0 ? 1 : 0];
    const drops = Math.round((options.dropShare ?? 0) * 100);
    const what = `${index + 1} ${here.name}→${there.name} ${vcpus} vCPU${tls ? " TLS" : ""}${drops > 0 ? ` drops ${drops} %` : ""}${options.compress === undefined ? "" : ` ${options.compress}`}`;
    try {
      const text = await this.#attempt(here, there, { vcpus, tls, options });
      this.#passed++;
      return `ok ${what}: ${text}`;
    } catch (error) {
      this.#failed++;
      await this.#forget();
      return `FAILED ${what}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  async report(): Promise<Omit<SoakReport, "seed" | "seconds">> {
    await this.#forget();
    const leftovers: string[] = [];
    for (const vm of this.#past) {
      if (isRunning(systemProcesses, vm)) leftovers.push(`QEMU ${vm.pid}`);
    }
    for (const { directory } of this.#hosts) {
      for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
        if (!entry.isDirectory()) leftovers.push(join(entry.parentPath, entry.name));
      }
    }
    return {
      passed: this.#passed,
      failed: this.#failed,
      downtimeMsMax: Math.round(this.#downtimeMsMax),
      workerBytesFirst: Math.max(0, ...this.#peaks.slice(0, 20)),
      workerBytesLast: Math.max(0, ...this.#peaks.slice(-20)),
      leftovers,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#forget();
  }

  async #attempt(here: Host, there: Host, { vcpus, tls, options }: Plan): Promise<string> {
    const vm = await this.#guest(vcpus);
    this.#workers.length = 0;
    this.#arrivals.length = 0;
    const { source } = await this.#harness.send({
      vmName: vm.definition.name,
      definition: pinnedDefinition(vm),
      qmpPath: vm.migrationQmpPath,
      pid: vm.pid,
      port: tls ? there.tlsPort : there.plainPort,
      transport: { tlsDirectory: tls ? this.#tlsDirectory : undefined, insecure: false },
      runtimeDirectory: here.directory,
      options,
    });
    const { result, text, report } = await source.outcome;
    const [destination] = this.#workers;
    const [arrived] = this.#arrivals;
    if (result !== "done" || destination === undefined || arrived === undefined) {
      throw new Error(`${result}: ${text}`);
    }
    if (report.verified !== true) throw new Error("not verified");
    for (const worker of [source, destination]) {
      const how = await worker.ended;
      if (how !== "exit code 0") throw new Error(`a worker ended with ${how}`);
      this.#peaks.push(worker.peakBytes);
    }
    await this.#harness.ticks(arrived, 2);
    await this.#harness.end(vm);
    this.#past.push(vm);
    this.#vm = arrived;
    this.#downtimeMsMax = Math.max(this.#downtimeMsMax, report.downtimeMs ?? 0);
    return (
      `${Math.round(report.totalMs)} ms, ${report.rounds} rounds, downtime ${Math.round(report.downtimeMs ?? 0)} ms, ` +
      `${Math.round(report.wireBytes / 2 ** 20)} MiB, ${report.staleFetchedCount} stale pages fetched`
    );
  }

  async #guest(vcpus: number): Promise<LaunchedVm> {
    if (this.#vm?.definition.vcpus === vcpus) return this.#vm;
    await this.#forget();
    const guest = { name: "soak", memory: "128M", machine: "pc", vcpus, words };
    this.#vm = await this.#harness.guest(guest);
    return this.#vm;
  }

  async #forget(): Promise<void> {
    for (const vm of [this.#vm, ...this.#arrivals]) {
      if (vm === undefined) continue;
      await this.#harness.end(vm);
      this.#past.push(vm);
    }
    this.#vm = undefined;
  }
}

async function processesLeft(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if ((await parentOf(pid)) === process.pid) found.push(`child process ${pid}`);
  }
  return found;
}

/** 0 when the process is gone. */
async function parentOf(pid: string): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => ") Z 0");
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" ? 0 : Number(parent);
}

async function openSockets(): Promise<number> {
  const targets = (await readdir("/proc/self/fd")).map((descriptor) =>
    readlink(`/proc/self/fd/${descriptor}`).catch(() => ""),
  );
  return (await Promise.all(targets)).filter((target) => target.startsWith("socket:")).length;
}
