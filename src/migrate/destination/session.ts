/**
 * Runs the destination's machine: turns what sockets, QEMU and timers say into events, and carries out effects in the
 * order in which `stepDestination` gives them. All decisions are in machine.ts.
 */
import type { Socket } from "node:net";
import { hostname } from "node:os";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { GodwitError, toErrorRecord } from "../../base/index.ts";
import {
  type Clock,
  defaultSlabOptions,
  killProcess,
  sleep,
  systemProcesses,
  withDeadline,
} from "../../io/index.ts";
import { prepareThaw } from "../../assist/index.ts";
import {
  type AgentPort,
  findAgentPort,
  findListener,
  GuestMemory,
  UntouchedMemory,
} from "../../qemu/memory/index.ts";
import { QmpClient } from "../../qemu/qmp/index.ts";
import { type ChannelEvents, FrameChannel, peerError } from "../channel.ts";
import { Driver } from "../driver.ts";
import type { MigrationOutcome, MigrationProgress, PreparedVm, ReceiveJob } from "../job.ts";
import { acceptChannel } from "../transport.ts";
import { hashMemory } from "../verify.ts";
import {
  FrameType,
  type OfferMessage,
  parseSourceMessage,
  type SourceMessage,
} from "../wire/index.ts";
import {
  type DestinationEffect,
  type DestinationEvent,
  destinationFinalPhases,
  type DestinationState,
  initialDestinationState,
  stepDestination,
} from "./machine.ts";
import { DestinationPump } from "./pump.ts";
import { DestinationQemu } from "./qemu.ts";

/** Whoever owns the QEMUs: the daemon, through the worker. */
export interface DestinationHost {
  prepareVm(offer: OfferMessage): Promise<PreparedVm>;
  /** Settles a VM that was kept because the source fell silent; answers its state. */
  resolve(migrationId: string, outcome: "handed-over" | "aborted"): Promise<string>;
  progress(progress: MigrationProgress): void;
  say(text: string): void;
}

const deadlines = {
  /** Until the source has said what it wants. */
  idleMs: 20_000,
  prepareMs: 60_000,
  decideMs: 300_000,
  startMs: 30_000,
  discardMs: 15_000,
};
const progressEveryMs = 200;
/** The guest's agent answers within milliseconds; it must not keep the source waiting for word that the VM runs. */
const thawMsMax = 1_000;
const findPortMs = 1_000;

export class DestinationSession {
  readonly #job: ReceiveJob;
  readonly #host: DestinationHost;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #channel: FrameChannel;
  readonly #pump: DestinationPump;
  readonly #driver: Driver<DestinationState, DestinationEvent, DestinationEffect>;
  #offer: OfferMessage | undefined;
  #vmPrepared: Promise<PreparedVm> | undefined;
  #vm: PreparedVm | undefined;
  #qemu: DestinationQemu | undefined;
  #untouched: UntouchedMemory | undefined;
  #chunkBytes = 0;
  #loadedWallMs = 0;
  #memoryPassedMs: number | undefined;
  #deviceStateMs = 0;
  #continueMs = 0;
  #resumedWallMs = 0;
  #resolving = false;
  #thaw = false;
  #thawMs = 0;
  #agentPort: Promise<AgentPort | undefined> = Promise.resolve(undefined);

  constructor(job: ReceiveJob, host: DestinationHost, clock: Clock) {
    this.#job = job;
    this.#host = host;
    this.#clock = clock;
    this.#startMs = clock.nowMs();
    this.#driver = new Driver({
      clock,
      state: initialDestinationState({ ...deadlines, ...job.deadlines }),
      step: stepDestination,
      finalPhases: destinationFinalPhases,
      stopAt: job.stopAt,
      entered: () => this.#entered(),
      perform: (effect) => this.#perform(effect),
    });
    const channelEvents: ChannelEvents = {
      frame: (header, slab, from, to) => {
        if (header.type === FrameType.control) {
          this.#message(parseSourceMessage((slab.bytes as Buffer).subarray(from, to)));
        } else this.#pump.frame(header, slab, from, to);
      },
      lost: (error) => this.#lost(error),
    };
    const { peerSilenceMs } = job.deadlines ?? {};
    this.#channel = new FrameChannel(clock, defaultSlabOptions, channelEvents, peerSilenceMs);
    this.#pump = new DestinationPump(this.#channel.receiver, {
      memoryPassed: () => {
        this.#memoryPassedMs = this.#clock.nowMs();
      },
      loaded: () => this.#start(this.#awaitLoaded()),
      acknowledge: (ack) => this.#channel.sendAck(ack),
      failed: (error) => this.#failed(error),
    });
  }

  /** Never rejects: every failure is an outcome. Undefined: the connection asked for something else than a migration. */
  async run(accepted: Socket): Promise<MigrationOutcome | undefined> {
    const stopProgress = this.#followProgress();
    this.#driver.setDeadline("idle", deadlines.idleMs);
    try {
      await acceptChannel(this.#clock, this.#channel, accepted, this.#job.transport);
    } catch (error) {
      this.#failed(error);
    }
    await this.#driver.ended;
    stopProgress();
    await this.#close();
    return this.#offer === undefined ? undefined : this.#outcome();
  }

  /** Gives up what is not handed over; the source then keeps its VM. */
  cancel(): void {
    const error = { code: "CANCELLED", message: "cancelled at the destination" } as const;
    this.#dispatch({ type: "failed", error });
  }

  // Events

  #dispatch(event: DestinationEvent): void {
    this.#driver.dispatch(event);
  }

  #entered(): void {
    if (this.#offer !== undefined) this.#host.progress(this.#progress());
  }

  #failed(error: unknown): void {
    this.#dispatch({ type: "failed", error: toErrorRecord(error) });
  }

  /** A broken frame is a failure here as well; a lost connection may mean that the source handed over. */
  #lost(error: GodwitError): void {
    const record = toErrorRecord(error);
    const damaged = error.code === "FRAME_INVALID" || error.code === "FRAME_CHECKSUM";
    if (damaged && this.#driver.state.phase !== "loaded")
      this.#dispatch({ type: "failed", error: record });
    else this.#dispatch({ type: "peer-lost", error: record });
  }

  #message(message: SourceMessage): void {
    switch (message.type) {
      case "offer":
        if (this.#offer !== undefined) throw new GodwitError("PROTOCOL_ORDER", "a second offer");
        this.#offer = message;
        this.#driver.clearDeadline("idle");
        this.#dispatch({ type: "offer" });
        break;
      case "verify":
        if (this.#chunkBytes > 0) throw new GodwitError("PROTOCOL_ORDER", "a second verification");
        this.#chunkBytes = message.chunkBytes;
        this.#dispatch({ type: "verify" });
        break;
      case "handed-over":
        this.#thaw = message.thaw;
        this.#dispatch({ type: "handed-over" });
        break;
      case "abort": {
        const { code, message: text } = message.error;
        this.#dispatch({
          type: "abort",
          error: { code, message: `source: ${text}` },
        });
        break;
      }
      case "resolve":
        if (this.#offer !== undefined || this.#resolving) {
          throw new GodwitError("PROTOCOL_ORDER", "a question in the middle of a migration");
        }
        this.#resolving = true;
        this.#driver.clearDeadline("idle");
        this.#start(this.#resolve(message.migrationId, message.outcome));
        break;
    }
  }

  async #resolve(migrationId: string, outcome: "handed-over" | "aborted"): Promise<void> {
    const state = await this.#host.resolve(migrationId, outcome);
    this.#channel.sendControl({ type: "resolved", state });
    this.#driver.finish();
  }

  async #awaitLoaded(): Promise<void> {
    await this.#qemu?.awaitLoaded();
    this.#pump.release();
    this.#loadedWallMs = this.#clock.wallMs();
    const nowMs = this.#clock.nowMs();
    this.#deviceStateMs = Math.max(0, nowMs - (this.#memoryPassedMs ?? nowMs));
    // Nobody may have to wait for this, nor fail of it: a VM that is handed over is started.
    this.#agentPort = withDeadline(
      this.#clock,
      findPortMs,
      "finding the agent's port",
      this.#findAgentPort(),
    ).catch(() => undefined);
    this.#dispatch({ type: "qemu-loaded" });
  }

  async #findAgentPort(): Promise<AgentPort | undefined> {
    const { qmp } = this.#qemu as DestinationQemu;
    const pid = this.#vm?.pid ?? (await findListener((this.#vm as PreparedVm).qmpPath));
    return await findAgentPort(qmp, pid).catch(() => undefined);
  }

  // Effects

  #perform(effect: DestinationEffect): void {
    switch (effect.type) {
      case "prepare-vm":
        return this.#start(this.#prepareVm());
      case "tell-ready":
        return this.#tellReady();
      case "tell-loaded":
        return this.#channel.sendControl({ type: "loaded", deviceStateMs: this.#deviceStateMs });
      case "hash":
        return this.#start(this.#hash());
      case "start-vm":
        return this.#start(this.#startVm());
      case "tell-running":
        return this.#channel.sendControl({
          type: "running",
          loadedWallMs: this.#loadedWallMs,
          continueMs: this.#continueMs,
          resumedWallMs: this.#resumedWallMs,
          thawMs: this.#thawMs,
        });
      case "tell-failed":
        return this.#channel.sendControl({ type: "failed", error: peerError(effect.error) });
      case "discard-vm":
        return this.#start(this.#discardVm());
      case "set-deadline":
      case "clear-deadline":
      case "finish":
        // The driver's.
        return;
    }
  }

  #start(work: Promise<void>): void {
    work.catch((error: unknown) => {
      // Whether only the monitor closed or QEMU ended is found out by `#monitorClosed`.
      const closed = error instanceof GodwitError && error.code === "QMP_CLOSED";
      if (this.#qemu === undefined || !closed) this.#failed(error);
    });
  }

  #streamPath(): string {
    return join(this.#job.runtimeDirectory, `in-${this.#offer?.migrationId}.sock`);
  }

  async #prepareVm(): Promise<void> {
    this.#vmPrepared = this.#host.prepareVm(this.#offer as OfferMessage);
    const vm = await this.#vmPrepared;
    // Given up while QEMU started: `#discardVm` ends it.
    if (this.#driver.state.phase !== "preparing") return;
    this.#vm = vm;
    const qmp = await QmpClient.connect(vm.qmpPath, { clock: this.#clock });
    const qemu = new DestinationQemu(qmp, this.#clock);
    this.#qemu = qemu;
    void qmp.closed.then(() => this.#monitorClosed(vm));
    const opened = qemu.open(this.#streamPath());
    // Looked at below.
    opened.catch(() => {});
    const pid = vm.pid ?? (await findListener(vm.qmpPath).catch(() => undefined));
    this.#untouched = pid === undefined ? undefined : await UntouchedMemory.open(qmp, pid);
    this.#pump.open(await opened, this.#untouched);
    this.#dispatch({ type: "vm-prepared" });
  }

  /** A closed monitor is not a dead QEMU: what it holds may be the only copy of the VM. */
  async #monitorClosed(vm: PreparedVm): Promise<void> {
    for (let i = 0; vm.pid !== undefined && i < 50; i++) {
      if (systemProcesses.identify(vm.pid) === undefined) {
        const message = "the destination QEMU ended; its log says why";
        this.#dispatch({ type: "qemu-gone", error: { code: "QEMU_EXITED", message } });
        return;
      }
      await sleep(this.#clock, 20);
    }
    this.#failed(new GodwitError("QMP_CLOSED", "the destination QEMU's monitor closed"));
  }

  #tellReady(): void {
    const version = this.#qemu?.qmp.version.qemu;
    this.#channel.sendControl({
      type: "ready",
      qemuVersion: `${version?.major}.${version?.minor}.${version?.micro}`,
      host: hostname(),
    });
  }

  async #hash(): Promise<void> {
    const vm = this.#vm as PreparedVm;
    const pid = vm.pid ?? (await findListener(vm.qmpPath));
    if (pid === undefined) {
      throw new GodwitError(
        "MEMORY_READ",
        "the destination QEMU's process was not found: give its pid",
      );
    }
    const qmp = (this.#qemu as DestinationQemu).qmp;
    await using memory = await GuestMemory.open(qmp, pid);
    const hashes = await hashMemory(memory, this.#pump.blocks, this.#chunkBytes);
    this.#channel.sendControl({ type: "hashes", memory: hashes });
  }

  async #startVm(): Promise<void> {
    const qemu = this.#qemu as DestinationQemu;
    const startMs = this.#clock.nowMs();
    if (this.#offer?.run === true) {
      const port = this.#thaw ? await this.#agentPort : undefined;
      const agent = { clock: this.#clock, timeoutMs: thawMsMax };
      // Only now: what the agent's port takes in goes straight into the guest's memory, which was to be equal so far.
      const thaw = port === undefined ? undefined : prepareThaw(port.path, agent);
      this.#resumedWallMs = await qemu.start();
      this.#continueMs = this.#clock.nowMs() - startMs;
      await this.#letGo(thaw);
    }
    this.#dispatch({ type: "vm-started" });
    await qemu.announce().catch(() => {});
  }

  /** Applications were held for the move. Should this fail, the agent in the guest lets them go by itself. */
  async #letGo(thaw: (() => Promise<void>) | undefined): Promise<void> {
    if (!this.#thaw) return;
    const startMs = this.#clock.nowMs();
    try {
      if (thaw === undefined) throw new GodwitError("AGENT_UNREACHABLE", "its port was not found");
      await withDeadline(this.#clock, thawMsMax, "letting applications go", thaw());
    } catch (error) {
      const { message } = toErrorRecord(error);
      this.#host.say(`the agent in the guest has to let applications go by itself: ${message}`);
    } finally {
      this.#thawMs = this.#clock.nowMs() - startMs;
    }
  }

  async #discardVm(): Promise<void> {
    this.#pump.stop();
    const vm = await this.#vmPrepared?.catch(() => undefined);
    if (vm?.launched === true && vm.pid !== undefined && vm.startTimeTicks !== undefined) {
      const identity = { pid: vm.pid, startTimeTicks: vm.startTimeTicks };
      await killProcess(identity, { clock: this.#clock, graceMs: 0 });
    }
    this.#dispatch({ type: "discarded" });
  }

  // Life

  #progress(): MigrationProgress {
    return {
      role: "destination",
      phase: this.#driver.state.phase,
      elapsedMs: this.#clock.nowMs() - this.#startMs,
      round: 0,
      memoryBytes: this.#pump.memoryBytes,
      pageCount: this.#pump.pageCount,
      zeroCount: this.#pump.zeroCount,
      droppedCount: 0,
      staleCount: 0,
      streamBytes: this.#pump.streamBytes,
      wireBytes: this.#channel.wireBytes,
      bytesPerSecond: 0,
      dirtyBytes: 0,
      remainingBytes: 0,
      dirtyBytesPerSecond: undefined,
      expectedDowntimeMs: undefined,
      etaMs: undefined,
      stalled: false,
    };
  }

  #followProgress(): () => void {
    let stop: () => void = () => {};
    const tick = (): void => {
      if (this.#offer !== undefined) this.#host.progress(this.#progress());
      stop = this.#clock.after(progressEveryMs, tick);
    };
    tick();
    return () => stop();
  }

  async #close(): Promise<void> {
    this.#driver.close();
    await this.#channel.finish(2_000);
    this.#pump.stop();
    this.#untouched?.[Symbol.dispose]();
    await this.#qemu?.qmp[Symbol.asyncDispose]();
    if (this.#offer !== undefined) await rm(this.#streamPath(), { force: true });
  }

  #outcome(): MigrationOutcome {
    const offer = this.#offer as OfferMessage;
    const { phase, error } = this.#driver.state;
    const result = phase === "done" || phase === "uncertain" ? phase : "failed";
    const progress = this.#progress();
    return {
      role: "destination",
      result,
      migrationId: offer.migrationId,
      vmName: offer.vmName,
      ...(error === undefined ? {} : { error }),
      text: outcomeText(offer, result, error?.message),
      report: {
        totalMs: progress.elapsedMs,
        downtimeMs: undefined,
        rounds: 0,
        memoryBytes: progress.memoryBytes,
        streamBytes: progress.streamBytes,
        wireBytes: progress.wireBytes,
        pageCount: progress.pageCount,
        zeroCount: progress.zeroCount,
        droppedCount: 0,
        staleFetchedCount: 0,
        verified: undefined,
        verifyMs: undefined,
      },
    };
  }
}

function outcomeText(
  offer: OfferMessage,
  result: MigrationOutcome["result"],
  reason = "unknown",
): string {
  const { vmName, source } = offer;
  switch (result) {
    case "done":
      return offer.run ? `${vmName} now runs here` : `${vmName} is now here, paused as it was`;
    case "uncertain":
      return (
        `${vmName} from ${source.host} is loaded and kept stopped: ${reason}, so whether the source handed over is not ` +
        `known. If ${vmName} runs at ${source.host}: godwit discard ${vmName}. If it is stopped there ` +
        `(state postmigrate) or that host is gone: godwit continue ${vmName}`
      );
    default:
      return `${vmName} did not arrive: ${reason}`;
  }
}
