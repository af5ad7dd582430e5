/**
 * The destination's part: accepts connections, gives each to a worker, prepares VMs for them, and settles what came of it.
 *
 *   accepted ─▶ worker ─▶ prepare-vm ─▶ launched or expected QEMU ─▶ finished: done │ discarded │ kept
 *                   └───▶ resolve: a kept VM is run or thrown away
 */
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { join } from "node:path";
import { requests } from "../api/contract/index.ts";
import { isLoopback } from "../api/index.ts";
import { GodwitError, toErrorRecord } from "../base/index.ts";
import type { FromWorker, MigrationOutcome, PreparedVm } from "../migrate/index.ts";
import type { VmDefinition } from "../qemu/launch/index.ts";
import type { Arrival } from "./arrivals.ts";
import type { Context } from "./context.ts";
import { checkFits, definitionFromPeer, explainStart } from "./definition.ts";
import type { Settled } from "./kept.ts";
import type { Ending, MigrationRecord } from "./migration.ts";
import { peerUid } from "./peer-uid.ts";
import { WorkerProcess } from "./worker-process.ts";

/** Connections that have not said yet what they want. */
const pendingMax = 8;
/** From one address, so that one host does not keep all others out. */
const pendingOfOneMax = 4;
const pendingMs = 30_000;

type PrepareVm = Extract<FromWorker, { type: "prepare-vm" }>;
type Resolve = Extract<FromWorker, { type: "resolve" }>;

/** One connection and its worker. */
interface Guest {
  readonly peerAddress: string;
  readonly worker: WorkerProcess;
  readonly logPath: string;
  record: MigrationRecord | undefined;
  /** Settled when nothing is being prepared any more; the worker may end before. */
  preparing: Promise<void>;
  /** The VM that was prepared. */
  vmName: string | undefined;
  outcome: MigrationOutcome | undefined;
  stopDeadline: () => void;
  pending: boolean;
}

export class Receiving {
  readonly #context: Context;
  readonly #guests = new Set<Guest>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** Takes an accepted connection that was not read. */
  async accept(socket: Socket): Promise<void> {
    const { log } = this.#context;
    const peerAddress = socket.remoteAddress ?? "?";
    socket.on("error", () => {});
    const stranger = this.#refusal(peerAddress) ?? (await this.#stranger(socket));
    // Again: others may have come meanwhile.
    const refusal = stranger ?? this.#refusal(peerAddress);
    if (refusal !== undefined) {
      log.warn({ peer: peerAddress }, `connection refused: ${refusal}`);
      socket.destroy();
      return;
    }
    try {
      this.#serve(socket, peerAddress);
    } catch (error) {
      log.error({ peer: peerAddress, error: String(error) }, "no worker can be started");
      socket.destroy();
    }
  }

  /** Ends what has not begun, and leaves the rest to itself. Returns the workers still at it. */
  stop(): WorkerProcess[] {
    for (const guest of this.#guests) {
      if (!guest.pending) continue;
      guest.stopDeadline();
      guest.worker.kill();
    }
    return Array.from(this.#guests, ({ worker }) => worker);
  }

  get activeCount(): number {
    return Array.from(this.#guests).filter((guest) => !guest.pending).length;
  }

  cancel(id: string): boolean {
    const guest = Array.from(this.#guests).find(({ record }) => record?.identity.id === id);
    guest?.worker.send({ type: "cancel" });
    return guest !== undefined;
  }

  #refusal(peerAddress: string): string | undefined {
    if (this.#context.stopping) return "the daemon is stopping";
    const pending = Array.from(this.#guests).filter((guest) => guest.pending);
    if (pending.length >= pendingMax) return `${pendingMax} connections are pending`;
    const ofOne = pending.filter((guest) => guest.peerAddress === peerAddress);
    if (ofOne.length < pendingOfOneMax) return undefined;
    return `${pendingOfOneMax} connections from there are pending`;
  }

  /** Without TLS only this user's (and root's) programs of this machine may come. */
  async #stranger(socket: Socket): Promise<string | undefined> {
    const { tlsDirectory, insecure } = this.#context.config;
    if (tlsDirectory !== undefined || insecure) return undefined;
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    if (!isLoopback(remoteAddress)) return "not from this machine, and there is no TLS";
    const uid = await peerUid({ remoteAddress, remotePort, localAddress, localPort });
    const own = process.getuid?.() ?? 0;
    if (uid === 0 || uid === own) return undefined;
    return `from ${uid === undefined ? "an unknown user" : `user ${uid}`}, and there is no TLS`;
  }

  #serve(socket: Socket, peerAddress: string): void {
    const { config, clock, runtimeDirectory, workersDirectory } = this.#context;
    const logPath = join(this.#context.logDirectory, `receive-${randomUUID()}.log`);
    const worker: WorkerProcess = new WorkerProcess(
      { spare: this.#context.spare, workersDirectory, logPath, clock },
      {
        message: (message) => this.#message(guest, message),
        ended: (how) => this.#context.background(this.#ended(guest, how)),
      },
    );
    const guest: Guest = {
      peerAddress,
      worker,
      logPath,
      record: undefined,
      preparing: Promise.resolve(),
      vmName: undefined,
      outcome: undefined,
      stopDeadline: clock.after(pendingMs, () => worker.kill()),
      pending: true,
    };
    this.#guests.add(guest);
    const transport = { tlsDirectory: config.tlsDirectory, insecure: config.insecure };
    worker.start({ kind: "receive", peerAddress, transport, runtimeDirectory }, socket);
  }

  #message(guest: Guest, message: FromWorker): void {
    switch (message.type) {
      case "prepare-vm":
        if (guest.record !== undefined) return guest.worker.kill();
        guest.preparing = this.#prepare(guest, message);
        return;
      case "resolve":
        this.#context.background(this.#resolve(guest, message));
        return;
      case "progress":
        guest.record?.progress(message.progress);
        return;
      case "say":
        guest.record?.say(message.text, this.#context.clock.wallMs());
        return;
      case "finished":
        guest.outcome = message.outcome;
    }
  }

  #settled(guest: Guest): void {
    guest.pending = false;
    guest.stopDeadline();
  }

  async #prepare(guest: Guest, message: PrepareVm): Promise<void> {
    try {
      const migrationId = requests.migrationId.parse(message.migrationId);
      const vmName = requests.vmName.parse(message.vmName);
      this.#settled(guest);
      guest.record = this.#context.migrations.open({
        id: this.#context.migrations.freeId(`${migrationId}-in`),
        migrationId,
        role: "destination",
        vm: vmName,
        peer: message.sourceHost || guest.peerAddress,
        startedWallMs: this.#context.clock.wallMs(),
      });
      const vm = await this.#prepareVm(guest, { ...message, migrationId, vmName });
      guest.worker.send({ type: "vm-prepared", vm });
    } catch (error) {
      this.#context.log.warn({ vm: message.vmName, error: String(error) }, "VM refused");
      guest.worker.send({ type: "vm-refused", error: toErrorRecord(error) });
    }
  }

  async #prepareVm(guest: Guest, message: PrepareVm): Promise<PreparedVm> {
    const { arrivals, expectations, vms, clock } = this.#context;
    const { vmName: name, migrationId, sourceHost } = message;
    if (arrivals.get(name) !== undefined) {
      throw new GodwitError(
        "CONFLICT",
        `a VM named ${name} arrived at the destination host before and is not settled; see \`godwit status ${name}\` there`,
      );
    }
    vms.checkFree(name);
    const { run } = message;
    const noted = { name, migrationId, sourceHost, run, phase: "arriving" as const };
    const waiting = expectations.take(name);
    if (waiting !== undefined) {
      const { qmpPath, pid } = waiting;
      const vm = { qmpPath, ...(pid === undefined ? {} : { pid }), launched: false };
      guest.vmName = name;
      await arrivals.put({ ...noted, sinceWallMs: clock.wallMs(), vm });
      return vm;
    }
    if (message.definition === undefined) throw nobodyWaits(name);
    const definition = { ...definitionFromPeer(message.definition, this.#context.config), name };
    const { record } = await this.#launch(definition);
    guest.vmName = name;
    const vm = {
      qmpPath: record.migrationQmpPath,
      pid: record.pid,
      startTimeTicks: record.startTimeTicks,
      launched: true,
    };
    await arrivals.put({ ...noted, sinceWallMs: clock.wallMs(), vm });
    return vm;
  }

  async #launch(definition: VmDefinition) {
    await checkFits(definition);
    try {
      return await this.#context.vms.start(definition, { incoming: true });
    } catch (error) {
      throw explainStart(error, definition);
    }
  }

  async #resolve(guest: Guest, { migrationId, outcome }: Resolve): Promise<void> {
    this.#settled(guest);
    const { kept, log } = this.#context;
    const state = await kept.resolve(migrationId, outcome).catch((error: unknown) => {
      return `failed: ${toErrorRecord(error).message}`;
    });
    log.info({ migration: migrationId, outcome, state }, "the source told how a migration ended");
    guest.worker.send({ type: "resolved", state });
  }

  async #ended(guest: Guest, how: string): Promise<void> {
    this.#settled(guest);
    await guest.preparing;
    this.#guests.delete(guest);
    const outcome = guest.outcome;
    const { record, vmName } = guest;
    const settled = vmName === undefined ? undefined : await this.#settleVm(vmName, outcome);
    const { clock, log, migrations } = this.#context;
    if (record === undefined) {
      log.debug({ peer: guest.peerAddress, how }, "connection ended without a migration");
      return await migrations.dropLog(guest.logPath);
    }
    const finishedWallMs = clock.wallMs();
    if (outcome !== undefined) {
      const { result: state, text, error, report } = outcome;
      if (state === "done") await migrations.dropLog(guest.logPath);
      await migrations.close(record, { state, text, error, report, finishedWallMs });
      return;
    }
    const text = `the worker ended (${how}) before it was done; its log is ${guest.logPath}`;
    await migrations.close(record, { ...endingOf(settled, text), finishedWallMs });
  }

  /** An arrival that a daemon before this one left, whose worker has ended. */
  async settleLeftover(arrival: Arrival): Promise<void> {
    const { kept, migrations, clock } = this.#context;
    const settled = await kept.settleByState(arrival);
    if (settled === undefined) return;
    const { migrationId, name, sourceHost, sinceWallMs } = arrival;
    const record = migrations.open({
      id: migrations.freeId(`${migrationId}-in`),
      migrationId,
      role: "destination",
      vm: name,
      peer: sourceHost,
      startedWallMs: sinceWallMs,
    });
    const ending = endingOf(settled, "the daemon ended during this migration");
    await migrations.close(record, { ...ending, finishedWallMs: clock.wallMs() });
  }

  /** After the worker: what becomes of the VM. Without an outcome, QEMU's state decides. */
  async #settleVm(
    name: string,
    outcome: MigrationOutcome | undefined,
  ): Promise<Settled | undefined> {
    const { arrivals, kept, log } = this.#context;
    const arrival = arrivals.get(name);
    if (arrival === undefined) return undefined;
    switch (outcome?.result) {
      case "done":
        await arrivals.settle(arrival);
        await this.#context.vms.get(name)?.refresh();
        return "running";
      case "uncertain":
        await arrivals.put({ ...arrival, phase: "kept" });
        log.warn({ vm: name }, "VM kept: the source fell silent");
        return "kept";
      case undefined:
        return await kept.settleByState(arrival);
      default:
        await arrivals.delete(name);
        if (arrival.vm.launched) await this.#context.vms.discard(name);
        return "discarded";
    }
  }
}

function endingOf(settled: Settled | undefined, text: string): Pick<Ending, "state" | "text"> {
  if (settled === "running") return { state: "done", text: `the VM runs here (${text})` };
  if (settled === "kept") {
    return {
      state: "uncertain",
      text: `${text}; the VM is kept here, stopped or not known to run`,
    };
  }
  return { state: "failed", text };
}

function nobodyWaits(name: string): GodwitError {
  return new GodwitError(
    "NOT_FOUND",
    `no QEMU waits at the destination host under the name ${name}; start one there with -incoming defer and register it: \`godwit receive --qmp PATH --name ${name}\``,
  );
}
