/** The source's part: starts a worker for each outgoing migration, and settles what came of it. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { formatHostPort, isLoopback, type Migration } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { checkCodecOptions } from "../codec/index.ts";
import {
  defaultMigrateOptions,
  type FromWorker,
  type MigrateOptions,
  type MigrationOutcome,
  type SendJob,
} from "../migrate/index.ts";
import { assertKeepsDirtyPages, parseVersion } from "../qemu/probe/index.ts";
import type { Context } from "./context.ts";
import { definitionToSend } from "./definition.ts";
import type { Ending, MigrationRecord } from "./migration.ts";
import { runStateAt } from "./monitor.ts";
import type { RunningVm } from "./vm.ts";
import { WorkerProcess } from "./worker-process.ts";

interface Target {
  readonly host: string;
  readonly port: number;
  readonly insecure: boolean;
  /** Undefined fields mean the default. */
  readonly options: { readonly [K in keyof MigrateOptions]?: MigrateOptions[K] | undefined };
}

export interface MigrateVmInput extends Target {
  readonly vm: string;
}

export interface SendVmInput extends Target {
  readonly qmpPath: string;
  readonly name: string;
  readonly pid?: number | undefined;
}

interface Outgoing {
  readonly job: SendJob;
  readonly record: MigrationRecord;
  readonly worker: WorkerProcess;
  readonly logPath: string;
  /** Undefined for a QEMU that somebody else started. */
  readonly vm: RunningVm | undefined;
  outcome: MigrationOutcome | undefined;
}

const sourceStates = ["running", "paused", "suspended", "prelaunch"];

export class Sending {
  readonly #context: Context;
  readonly #outgoing = new Map<string, Outgoing>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** Fails with NOT_FOUND, CONFLICT, INSECURE or QEMU_UNSUPPORTED; what goes wrong later is the migration's outcome. */
  async migrate(input: MigrateVmInput): Promise<Migration> {
    const { vms, arrivals } = this.#context;
    const vm = vms.need(input.vm);
    if (arrivals.get(input.vm) !== undefined) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${input.vm} has itself just arrived and is not settled; see \`godwit status ${input.vm}\``,
      );
    }
    const { record } = vm;
    this.#check(input, input.vm, await vm.query());
    this.#context.unsettled.check(input.vm, record.migrationQmpPath);
    const version = parseVersion(`version ${record.qemuVersion}`);
    if (version !== undefined) assertKeepsDirtyPages(record.accelerator, version);
    const job = {
      ...this.#job(input, input.vm),
      definition: definitionToSend(record),
      qmpPath: record.migrationQmpPath,
      pid: record.pid,
    };
    return this.#start(job, vm);
  }

  /** As `migrate`, for a QEMU that somebody else started. */
  async send(input: SendVmInput): Promise<Migration> {
    this.#check(input, input.name, await runStateAt(input.qmpPath, this.#context.clock));
    const { qmpPath, pid } = input;
    this.#context.unsettled.check(input.name, qmpPath);
    const job = { ...this.#job(input, input.name), qmpPath, ...(pid === undefined ? {} : { pid }) };
    return this.#start(job, undefined);
  }

  cancel(id: string): boolean {
    const outgoing = this.#outgoing.get(id);
    outgoing?.worker.send({ type: "cancel" });
    return outgoing !== undefined;
  }

  /** Tells all to give up what is not handed over. */
  stop(): WorkerProcess[] {
    for (const { worker } of this.#outgoing.values()) worker.send({ type: "cancel" });
    return Array.from(this.#outgoing.values(), ({ worker }) => worker);
  }

  has(migrationId: string): boolean {
    return this.#outgoing.has(migrationId);
  }

  get activeCount(): number {
    return this.#outgoing.size;
  }

  #check({ host, port, insecure }: Target, name: string, state: string): void {
    const { config, stopping } = this.#context;
    if (stopping) throw new GodwitError("CONFLICT", "the daemon is stopping");
    if (!isLoopback(host) && config.tlsDirectory === undefined && !insecure && !config.insecure) {
      throw new GodwitError(
        "INSECURE",
        `guest memory would travel unencrypted to ${formatHostPort({ host, port })}; ` +
          "give both daemons --tls DIRECTORY (`godwit tls init` makes one), or, in a network that you trust, add --insecure",
      );
    }
    const busy = Array.from(this.#outgoing.values()).find(({ job }) => job.vmName === name);
    if (busy !== undefined) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} is being migrated already (${busy.job.migrationId})`,
      );
    }
    if (this.#context.recorded.has(name)) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} is being recorded; wait for the end, or end it: Ctrl-C in \`godwit trace\``,
      );
    }
    if (!sourceStates.includes(state)) throw notMigratable(name, state);
  }

  #job({ host, port, insecure, options }: Target, vmName: string) {
    const { config, runtimeDirectory } = this.#context;
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const { compress = "none", compressLevel, compressMemoryBytes } = options;
    checkCodecOptions(compress, { level: compressLevel, memoryBytes: compressMemoryBytes });
    return {
      kind: "send" as const,
      migrationId: randomBytes(5).toString("hex"),
      vmName,
      host,
      port,
      transport: {
        tlsDirectory: config.tlsDirectory,
        insecure: insecure || config.insecure,
      },
      runtimeDirectory,
      options: { ...defaultMigrateOptions, ...Object.fromEntries(given) },
    };
  }

  #start(job: SendJob, vm: RunningVm | undefined): Migration {
    const { clock, migrations, logDirectory, workersDirectory } = this.#context;
    const id = job.migrationId;
    const logPath = join(logDirectory, `send-${id}.log`);
    const worker = new WorkerProcess(
      { spare: this.#context.spare, workersDirectory, logPath, clock },
      {
        message: (message) => this.#message(id, message),
        ended: (how) => this.#context.background(this.#ended(id, how)),
      },
    );
    const record = migrations.open({
      id,
      migrationId: id,
      role: "source",
      vm: job.vmName,
      peer: formatHostPort(job),
      startedWallMs: clock.wallMs(),
    });
    this.#outgoing.set(id, { job, record, worker, logPath, vm, outcome: undefined });
    worker.start(job);
    return record.view();
  }

  #message(id: string, message: FromWorker): void {
    const outgoing = this.#outgoing.get(id);
    if (outgoing === undefined) return;
    switch (message.type) {
      case "progress":
        return outgoing.record.progress(message.progress);
      case "say":
        return outgoing.record.say(message.text, this.#context.clock.wallMs());
      case "finished":
        outgoing.outcome = message.outcome;
        return;
      case "prepare-vm":
      case "resolve":
        this.#context.log.error({ migration: id }, `a source's worker sent ${message.type}`);
    }
  }

  async #ended(id: string, how: string): Promise<void> {
    const outgoing = this.#outgoing.get(id);
    if (outgoing === undefined) return;
    const { record, outcome, logPath } = outgoing;
    const { migrations, clock, unsettled } = this.#context;
    try {
      if (outcome === undefined) return await this.#crashed(outgoing, how);
      if (outcome.result === "done") {
        const what = await this.#letGo(outgoing);
        record.say(what, clock.wallMs());
        await migrations.dropLog(logPath);
      }
      const { result: state, text, error, report } = outcome;
      const finishedWallMs = clock.wallMs();
      await migrations.close(record, { state, text, error, report, finishedWallMs });
      if (state === "unconfirmed") unsettled.settleLater(outgoing.job, id);
    } finally {
      this.#outgoing.delete(id);
      await outgoing.vm?.refresh();
    }
  }

  /** The VM runs elsewhere: its empty shell here goes, if it is ours. Answers what was done, in words. */
  async #letGo({ job, vm }: Outgoing): Promise<string> {
    if (vm === undefined) {
      return `the source QEMU at ${job.qmpPath} is left, stopped (postmigrate), to whoever started it`;
    }
    try {
      await this.#context.vms.discard(job.vmName);
      return "the source QEMU was ended";
    } catch (error) {
      return `the source QEMU (process ${vm.record.pid}) could not be ended: ${String(error)}`;
    }
  }

  /** The worker broke down: QEMU knows whether it had handed over. */
  async #crashed({ job, record, logPath }: Outgoing, how: string): Promise<void> {
    const { unsettled, clock, migrations } = this.#context;
    const found = await unsettled.settle(job, job.migrationId);
    const text = `the worker ended (${how}) before it was done: ${found.text}; its log is ${logPath}`;
    const state: Ending["state"] = found.outcome === "aborted" ? "failed" : "interrupted";
    await migrations.close(record, { state, text, finishedWallMs: clock.wallMs() });
  }
}

function notMigratable(name: string, state: string): GodwitError {
  if (state === "postmigrate") {
    return new GodwitError("CONFLICT", `VM ${name} has been handed over already (postmigrate)`);
  }
  return new GodwitError(
    "CONFLICT",
    `VM ${name} cannot be migrated in its present state (${state})`,
  );
}
