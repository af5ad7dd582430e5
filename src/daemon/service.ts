/** What each route of the API does. */
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import type { ConsoleTail, Doctor, Done, Host, Migration, Vm } from "../api/index.ts";
import type { requests } from "../api/contract/index.ts";
import { GodwitError } from "../base/index.ts";
import { parseDefinition } from "../qemu/launch/index.ts";
import type { z } from "zod";
import { Advising } from "./advice.ts";
import { programVersion } from "./config.ts";
import type { Context } from "./context.ts";
import { examine } from "./doctor.ts";
import type { Arrival } from "./arrivals.ts";
import { describeArrival, noAnswer } from "./kept.ts";
import { readLog } from "./console.ts";
import type { Receiving } from "./receiving.ts";
import type { Sending } from "./sending.ts";
import { Tracing } from "./tracing.ts";
import { describeVm, noSuchVm } from "./vms.ts";

type Request<K extends keyof typeof requests> = (typeof requests)[K] extends z.ZodType
  ? z.output<(typeof requests)[K]>
  : never;

export class Service {
  readonly context: Context;
  readonly advising: Advising;
  readonly tracing: Tracing;
  readonly #sending: Sending;
  readonly #receiving: Receiving;
  readonly #startedWallMs: number;
  /** Set when the listener is bound. */
  migrationAddress: string | null = null;

  constructor(context: Context, sending: Sending, receiving: Receiving) {
    this.context = context;
    this.tracing = new Tracing(context);
    this.advising = new Advising(context, this.tracing);
    this.#sending = sending;
    this.#receiving = receiving;
    this.#startedWallMs = context.clock.wallMs();
  }

  host(): Host {
    const { config } = this.context;
    return {
      version: programVersion(),
      hostname: hostname(),
      pid: process.pid,
      startedWallMs: this.#startedWallMs,
      migrationAddress: this.migrationAddress,
      tls: config.tlsDirectory !== undefined,
      runtimeDirectory: config.runtimeDirectory,
      stateDirectory: config.stateDirectory,
    };
  }

  doctor(): Promise<Doctor> {
    return examine(this.context.runtimeDirectory);
  }

  async listVms(): Promise<Vm[]> {
    const { vms, arrivals, migrations } = this.context;
    const listed = await vms.list();
    const adopted = arrivals
      .list()
      .filter(({ vm, name }) => !vm.launched && vms.get(name) === undefined)
      .map(({ name, vm }): Vm => {
        const { qmpPath, pid } = vm;
        return { name, state: "unknown", launched: false, qmpPath, pid };
      });
    return [...listed, ...adopted]
      .map((vm) => {
        const arrival = arrivals.get(vm.name);
        const notes = arrival === undefined ? {} : describeArrival(arrival);
        return { ...vm, ...notes, migration: migrations.runningOf(vm.name)?.id };
      })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async getVm(name: string): Promise<Vm> {
    const vm = (await this.listVms()).find((listed) => listed.name === name);
    if (vm === undefined) throw noSuchVm(name);
    return vm;
  }

  async startVm(request: Request<"startVm">): Promise<Vm> {
    const { vms, arrivals, stopping } = this.context;
    if (stopping) throw new GodwitError("CONFLICT", "the daemon is stopping");
    const { text, source, baseDirectory, name, paused } = request;
    const parsed = parseDefinition(text, {
      ...(source === undefined ? {} : { source }),
      baseDirectory: resolve(baseDirectory ?? (source === undefined ? "/" : dirname(source))),
    });
    const definition = name === undefined ? parsed : { ...parsed, name };
    if (arrivals.get(definition.name) !== undefined) {
      throw new GodwitError("CONFLICT", `a VM named ${definition.name} is arriving or kept here`);
    }
    const vm = await vms.start(definition, { paused });
    return describeVm(vm.record, vm.runState);
  }

  async stopVm(name: string, { how, timeoutMs }: Request<"stopVm">): Promise<Done> {
    const { vms, arrivals, migrations } = this.context;
    if (!vms.has(name)) throw noSuchVm(name);
    const moving = migrations.runningOf(name);
    if (moving !== undefined) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} is being migrated; cancel that first: \`godwit cancel ${moving.id}\``,
      );
    }
    if (how === "kill") {
      await vms.discard(name);
      await arrivals.delete(name);
      return { text: `${name} was ended` };
    }
    if (await vms.powerDown(name, timeoutMs)) return { text: `${name} has powered off` };
    if (timeoutMs === 0) return { text: `${name} was told to power off` };
    throw new GodwitError(
      "TIMEOUT",
      `${name} did not power off within ${timeoutMs / 1000} s; its guest may ignore the power button. End it with \`godwit stop --kill ${name}\``,
    );
  }

  async continueVm(name: string, { force }: Request<"continueVm">): Promise<Done> {
    const { vms, arrivals, kept, migrations } = this.context;
    if (migrations.runningOf(name) !== undefined) {
      throw new GodwitError("CONFLICT", `VM ${name} is being migrated`);
    }
    const arrival = arrivals.get(name);
    if (arrival !== undefined) {
      checkKept(arrival);
      await kept.run(arrival, { force });
      return { text: `${name} runs here` };
    }
    const vm = vms.need(name);
    const state = await vm.query();
    if (state === "running") return { text: `${name} runs already` };
    if (state === "unknown" && !force) throw noAnswer(name);
    if (state === "inmigrate" || (state === "finish-migrate" && !force)) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} is in the middle of a migration (${state}); see \`godwit status ${name}\``,
      );
    }
    if (state === "postmigrate" && !force) {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} was handed over to another host; running it here too would damage its disks. Only if it certainly runs nowhere else: \`godwit continue --force ${name}\``,
      );
    }
    await (await vm.monitor()).execute("cont");
    await vm.refresh();
    return { text: `${name} runs` };
  }

  async discardVm(name: string): Promise<Done> {
    const { vms, arrivals, kept, migrations } = this.context;
    if (migrations.runningOf(name) !== undefined) {
      throw new GodwitError("CONFLICT", `VM ${name} is being migrated`);
    }
    const arrival = arrivals.get(name);
    if (arrival !== undefined) {
      checkKept(arrival);
      // An adopted one is only forgotten.
      if (arrival.vm.launched) checkStopped(name, await kept.stateOf(arrival));
      await kept.discard(arrival);
      const adopted = arrival.vm.launched ? "" : "; its QEMU is left to whoever started it";
      return { text: `${name} was discarded${adopted}` };
    }
    if (!vms.has(name)) throw noSuchVm(name);
    checkStopped(name, (await vms.get(name)?.query()) ?? "gone");
    await vms.discard(name);
    return { text: `${name} was discarded` };
  }

  /** The end of the console's log. */
  async console(name: string, bytes: number): Promise<ConsoleTail> {
    const record = this.context.vms.recordOf(name);
    if (record === undefined) throw noSuchVm(name);
    const { raw, end } = await readLog(record.consoleLogPath, bytes);
    return { text: new TextDecoder().decode(raw), end };
  }

  async startMigration(request: Request<"startMigration">): Promise<Migration> {
    return "vm" in request
      ? await this.#sending.migrate(request)
      : await this.#sending.send(request);
  }

  /** Answers at once; that it is cancelled is told by its end. */
  cancelMigration(id: string): Migration {
    const migration = this.context.migrations.find(id);
    if (migration.state !== "running") {
      throw new GodwitError("CONFLICT", `migration ${migration.id} is over: ${migration.state}`);
    }
    const known = this.#sending.cancel(migration.id) || this.#receiving.cancel(migration.id);
    if (!known) throw new GodwitError("CONFLICT", `migration ${migration.id} is just ending`);
    return migration;
  }
}

/** While it arrives, or a daemon that was restarted finds out whether it still does, it is nobody's to decide. */
function checkKept({ name, phase, sourceHost }: Arrival): void {
  if (phase === "kept") return;
  throw new GodwitError(
    "CONFLICT",
    `VM ${name} is arriving from ${sourceHost}: whether it runs here is decided there. ` +
      `Wait until \`godwit status ${name}\` says that it runs or was kept; after a restart of the daemon that takes up to two minutes`,
  );
}

function checkStopped(name: string, state: string): void {
  if (state === "unknown") throw noAnswer(name);
  if (state !== "running") return;
  throw new GodwitError(
    "CONFLICT",
    `VM ${name} runs; to end it: \`godwit stop ${name}\` or \`godwit stop --kill ${name}\``,
  );
}
