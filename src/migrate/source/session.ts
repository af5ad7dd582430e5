/**
 * Runs the source's machine: turns what sockets, QEMU and timers say into events, and carries out effects in the order in
 * which `stepSource` gives them. All decisions are in machine.ts.
 */
import { fromErrorRecord, GodwitError, toErrorRecord } from "../../base/index.ts";
import { type Clock, sleep, systemProcesses } from "../../io/index.ts";
import type { GuestMemory } from "../../qemu/memory/index.ts";
import type { QmpClient } from "../../qemu/qmp/index.ts";
import type { StreamHead } from "../../qemu/stream/index.ts";
import { type ChannelEvents, FrameChannel, peerError } from "../channel.ts";
import { Driver } from "../driver.ts";
import type { MigrationOutcome, SendJob } from "../job.ts";
import { removeJournal, writeJournal } from "../journal.ts";
import { RateMeter } from "../rate.ts";
import { SkipMap } from "../skip-map.ts";
import { connectChannel } from "../transport.ts";
import { compareHashes, hashChunkBytes, hashMemory } from "../verify.ts";
import {
  decodeAckBody,
  type DestinationMessage,
  FrameType,
  parseDestinationMessage,
} from "../wire/index.ts";
import { Assistance } from "./assistance.ts";
import { AssistedRounds } from "./assisted-rounds.ts";
import { encoderFor } from "./encoder.ts";
import {
  initialSourceState,
  type SourceEffect,
  type SourceEvent,
  sourceFinalPhases,
  type SourceState,
  stepSource,
} from "./machine.ts";
import { offerMessage } from "./offer.ts";
import { outcomeText } from "./outcome.ts";
import { SourcePump } from "./pump.ts";
import { resolveAtDestination } from "./resolve.ts";
import { RoundWatch } from "./round-watch.ts";
import { SourceSetup } from "./setup.ts";
import { SourceStatistics } from "./statistics.ts";
import { StreamSocket } from "./stream-socket.ts";
import { SwitchOver } from "./switch-over.ts";

/** Whoever follows the migration: the daemon, through the worker. */
export interface SourceHost {
  progress(statistics: SourceStatistics): void;
  say(text: string): void;
}

const channelSlabs = { slabBytes: 2 << 20, slabCount: 2, itemBytesMax: 600 << 10 };
const deadlines = {
  setupMs: 60_000,
  /** More than letting everything go takes after `assistTimeoutMs`. */
  prepareMs: 10_000,
  switchoverMs: 120_000,
  handoverMs: 60_000,
  abortMs: 30_000,
};
/** Device state, last bitmap and start cost about this much beside the pages. */
const fixedDowntimeMs = 20;
const progressEveryMs = 100;

export class SourceSession {
  readonly statistics: SourceStatistics;
  readonly #job: SendJob;
  readonly #clock: Clock;
  readonly #host: SourceHost;
  readonly #meter: RateMeter;
  readonly #channel: FrameChannel;
  readonly #driver: Driver<SourceState, SourceEvent, SourceEffect>;
  readonly #skip = new SkipMap();
  readonly #assistance: Assistance;
  readonly #assisted: AssistedRounds;
  readonly #pump: SourcePump;
  readonly #rounds: RoundWatch;
  readonly #switchOver: SwitchOver;
  readonly #setup: SourceSetup;
  readonly #streamSocket: StreamSocket;
  #head: StreamHead | undefined;
  #streamStart: Promise<void> = Promise.resolve();
  #handingOver: Promise<void> = Promise.resolve();
  /** Who waits for what applications say waits no more. */
  readonly #givenUp = Promise.withResolvers<void>();
  #hashesFromPeer = Promise.withResolvers<Extract<DestinationMessage, { type: "hashes" }>>();

  constructor(job: SendJob, host: SourceHost, clock: Clock) {
    this.#job = job;
    this.#host = host;
    this.#clock = clock;
    this.#streamSocket = new StreamSocket(job.runtimeDirectory, job.migrationId);
    this.#meter = new RateMeter(clock.nowMs());
    const { options } = job;
    // Zeroing early and holding have the time that was given each.
    const prepareMs = options.assistTimeoutMs * 2 + deadlines.prepareMs;
    const times = { ...deadlines, prepareMs, ...job.deadlines, fixedMs: fixedDowntimeMs };
    this.#driver = new Driver({
      clock,
      state: initialSourceState({ ...options, ...times }),
      step: stepSource,
      finalPhases: sourceFinalPhases,
      stopAt: job.stopAt,
      entered: () => this.#entered(),
      perform: (effect) => this.#perform(effect),
    });
    const say = (text: string): void => host.say(text);
    const { agentPath } = job;
    this.#assistance = new Assistance({ clock, options, skip: this.#skip, agentPath, say });
    const channelEvents: ChannelEvents = {
      frame: (header, slab, from, to) => {
        if (header.type === FrameType.ack) this.#acknowledged(slab.bytes as Buffer, from, to);
        else if (header.type === FrameType.control) {
          this.#message(parseDestinationMessage((slab.bytes as Buffer).subarray(from, to)));
        } else throw new GodwitError("PROTOCOL_ORDER", "the destination sent a stream frame");
      },
      lost: (error) => this.#dispatch({ type: "peer-lost", error: toErrorRecord(error) }),
    };
    const { peerSilenceMs } = job.deadlines ?? {};
    this.#channel = new FrameChannel(clock, channelSlabs, channelEvents, peerSilenceMs);
    this.#pump = new SourcePump({
      clock,
      channel: this.#channel,
      skip: options.dropShare > 0 ? this.#skip : undefined,
      encoder: encoderFor(options, clock, say),
      bandwidthBytesPerSecond: options.bandwidthBytesPerSecond,
      readPages: (block, page, targets) => this.#setup.memory?.readPagesNow(block, page, targets),
      events: {
        began: (head) => this.#began(head),
        failed: (error) => this.#failed(error),
        ended: () => this.#streamEnded(),
      },
    });
    this.#assisted = new AssistedRounds({
      clock,
      assistance: this.#assistance,
      pump: this.#pump,
      skip: this.#skip,
      qemu: () => this.#setup.qemu,
      phase: () => this.#driver.state.phase,
      bytesPerMs: () => this.#rounds.recordsPerMs(),
      start: (work) => this.#start(work),
      say,
    });
    this.#setup = new SourceSetup({
      clock,
      job,
      assistance: this.#assistance,
      getsReady: () => this.#getsReady,
      gated: () => {
        this.#pump.isGated = true;
      },
      decided: () => this.#assisted.decided(),
    });
    this.statistics = new SourceStatistics({
      clock,
      channel: this.#channel,
      pump: this.#pump,
      skip: this.#skip,
      meter: this.#meter,
      assistance: this.#assistance,
      options,
      hintsFreePages: () => this.#setup.hintsFreePages,
    });
    this.#rounds = new RoundWatch({
      clock,
      options,
      channel: this.#channel,
      meter: this.#meter,
      pump: this.#pump,
      skip: this.#skip,
      assistance: this.#assistance,
      assisted: this.#assisted,
      statistics: this.statistics,
      qemu: () => this.#setup.qemu,
      phase: () => this.#driver.state.phase,
      round: (round, bytesPerMs) => this.#dispatch({ type: "round", round, bytesPerMs }),
      failed: (error) => this.#failed(error),
    });
    this.#switchOver = new SwitchOver({
      clock,
      options,
      assistance: this.#assistance,
      assisted: this.#assisted,
      pump: this.#pump,
      qemu: () => this.#setup.qemu,
      phase: () => this.#driver.state.phase,
      recordsPerMs: () => this.#rounds.recordsPerMs(),
    });
  }

  /** Never rejects: every failure is an outcome. */
  async run(): Promise<MigrationOutcome> {
    const stopProgress = this.#followProgress();
    try {
      this.#follow(await this.#setup.look());
      await this.#begin();
      await this.#driver.ended;
    } catch (error) {
      this.#driver.state = { ...this.#driver.state, phase: "failed", error: toErrorRecord(error) };
    }
    stopProgress();
    const stays = this.#driver.state.phase === "failed" || this.#driver.state.phase === "cancelled";
    // Given up before it began, nothing else has put QEMU's settings back.
    if (stays) await this.#setup.restore();
    await this.#close();
    return this.#outcome();
  }

  /** Ignored once the VM is handed over. */
  cancel(): void {
    this.#dispatch({ type: "cancel" });
  }

  async #begin(): Promise<void> {
    // It may have been cancelled meanwhile.
    if (!this.#getsReady) return;
    const prepared = this.#setup.prepare();
    // Without help there is nothing that the destination would have to get ready for.
    if (this.job.options.assist === "require") await prepared;
    else this.#start(prepared);
    // The destination gets ready at the same time.
    this.#dispatch({ type: "start" });
  }

  /** Not yet given up, and nothing sent so far. */
  get #getsReady(): boolean {
    const { phase } = this.#driver.state;
    return phase === "idle" || phase === "setup";
  }

  #follow(qmp: QmpClient): void {
    void qmp.closed.then(() => this.#monitorClosed());
    qmp.on("MIGRATION", ({ data }) => this.#migrationState(data.status));
    qmp.on("MIGRATION_PASS", () => void this.#rounds.passBegan());
    qmp.on("STOP", ({ timestampUs }) => {
      this.statistics.stopped(timestampUs);
    });
  }

  private get job(): SendJob {
    return this.#job;
  }

  // Events

  #dispatch(event: SourceEvent): void {
    this.#driver.dispatch(event);
  }

  #entered(): void {
    this.statistics.phase = this.#driver.state.phase;
    this.#host.progress(this.statistics);
  }

  /** Something here. Once QEMU has let go nothing here matters any more, such as QEMU closing its stream. */
  #failed(error: unknown): void {
    if (this.#driver.state.phase === "handover" && this.#driver.state.letGo) return;
    this.#dispatch({ type: "failed", error: toErrorRecord(error) });
  }

  #message(message: DestinationMessage): void {
    switch (message.type) {
      case "ready":
        this.#dispatch({ type: "peer-ready" });
        break;
      case "loaded":
        this.statistics.loaded(message.deviceStateMs);
        this.#dispatch({ type: "peer-loaded" });
        break;
      case "hashes":
        this.#hashesFromPeer.resolve(message);
        break;
      case "running":
        this.statistics.running(message.thawMs);
        this.#dispatch({ type: "peer-running" });
        break;
      case "failed": {
        const { code, message: text } = fromErrorRecord(message.error);
        this.#dispatch({ type: "failed", error: { code, message: `destination: ${text}` } });
        break;
      }
      case "resolved":
        throw new GodwitError("PROTOCOL_ORDER", "an answer to a question that was not asked");
    }
  }

  #acknowledged(bytes: Buffer, from: number, to: number): void {
    const ack = decodeAckBody(bytes, from, to);
    this.#pump.acknowledged(ack, this.#meter.bytesPerMs(this.#clock.nowMs()));
    // The end of a round may be memory that takes no time.
    this.#rounds.lookAtFirstRound();
  }

  #began(head: StreamHead): void {
    this.#head = head;
    this.statistics.memoryBytes = head.blocks.reduce((sum, block) => sum + block.lengthBytes, 0);
    this.#assisted.began(head.blocks);
    this.#rounds.began(head);
    this.#dispatch({ type: "stream-began" });
  }

  /**
   * QEMU closed the stream. Its own word (event MIGRATION) tells which way it ended, so it gets a moment; if that does not
   * come, this is only a failure of the stream: what became of the VM is not known by it.
   */
  #streamEnded(): void {
    this.#clock.after(200, () => {
      this.#failed(new GodwitError("MIGRATION_FAILED", "the source QEMU closed the stream"));
    });
  }

  #migrationState(status: string): void {
    // QEMU has stopped the VM for its last pass. (Event STOP alone may be somebody else's `stop`.)
    if (status === "device") {
      this.#switchOver.vmStopped();
      this.#dispatch({ type: "vm-stopped" });
    }
    if (status === "completed") this.#dispatch({ type: "qemu-completed" });
    // `cancelling` is not its last word: `completed` may still follow.
    if (status !== "failed" && status !== "cancelled") return;
    void this.#setup.qemu
      ?.query()
      .then((info) => info["error-desc"])
      .catch(() => undefined)
      .then((text) => {
        const message = `the source QEMU gave the migration up (${status})${text === undefined ? "" : `: ${text}`}`;
        this.#dispatch({ type: "qemu-failed", error: { code: "MIGRATION_FAILED", message } });
      });
  }

  /** The monitor is gone: is QEMU? A process that has ended cannot run its VM. */
  async #monitorClosed(): Promise<void> {
    if (this.#setup.pid !== undefined) {
      for (let i = 0; i < 50; i++) {
        if (systemProcesses.identify(this.#setup.pid) === undefined) {
          this.#dispatch({ type: "qemu-gone" });
          return;
        }
        await sleep(this.#clock, 20);
      }
    }
    this.#failed(new GodwitError("QMP_CLOSED", "the source QEMU's monitor closed"));
  }

  // Effects

  #perform(effect: SourceEffect): void {
    switch (effect.type) {
      case "offer":
        return this.#start(this.#offer());
      case "start-stream":
        this.#streamStart = this.#startStream();
        return this.#start(this.#streamStart);
      case "report-round":
        return this.statistics.roundBegan(effect.round, effect.status);
      case "say":
        return this.#host.say(effect.text);
      case "prepare":
        return this.#start(this.#prepareApplications());
      case "give-up":
        return this.#start(this.#assisted.giveUp("the applications were not ready in time"));
      case "arm":
        return this.#start(this.#switchOver.arm(effect.restBytes));
      case "force-switchover":
        return this.#start(this.#switchOver.force());
      case "verify":
        return this.#start(this.#verify());
      case "hand-over":
        this.#handingOver = this.#handOver();
        return this.#start(this.#handingOver);
      case "tell-handed-over":
        return this.#channel.sendControl({
          type: "handed-over",
          thaw: this.#assistance.isStandingStill,
        });
      case "resolve-handed-over":
        return void this.#resolve().catch((error: unknown) => {
          this.#dispatch({ type: "failed", error: toErrorRecord(error) });
        });
      case "tell-abort":
        return this.#channel.sendControl({ type: "abort", error: peerError(effect.error) });
      case "stop-stream":
        this.#pump.stop();
        this.#streamSocket.close();
        return;
      case "ensure-resumed":
        return this.#start(this.#ensureResumed());
      case "set-deadline":
      case "clear-deadline":
      case "finish":
        // The driver's.
        return;
    }
  }

  /** What an effect began; its failure is an event like any other. */
  #start(work: Promise<void>): void {
    work.catch((error: unknown) => this.#failed(error));
  }

  async #offer(): Promise<void> {
    const { job } = this;
    await connectChannel(this.#clock, this.#channel, job, job.transport);
    // Given up before anybody could be told of it: the destination is not to begin.
    if (!this.#getsReady) return this.#channel.destroy();
    this.#channel.sendControl(offerMessage(job, this.#setup.qemu));
  }

  async #startStream(): Promise<void> {
    await this.#setup.prepared;
    if (!this.#getsReady) return;
    const { assist, dropCaches } = this.job.options;
    // Both have limits of their own.
    if (assist === "require" || dropCaches) {
      await Promise.race([this.#setup.assisting, this.#givenUp.promise]);
      if (!this.#getsReady) return;
    }
    if (assist === "require") this.#assistance.assertActive();
    const socket = this.#streamSocket;
    await socket.listen(
      (connection) => this.#pump.open(connection),
      (error) => this.#failed(error),
    );
    // It may have been given up meanwhile.
    if (this.#driver.state.phase !== "setup") return socket.close();
    await this.#setup.qemu?.migrateTo(socket.path);
    this.#setup.askForHints();
  }

  async #prepareApplications(): Promise<void> {
    const bytesPerMs = this.#rounds.recordsPerMs();
    const prepared = await this.#assisted.prepare(bytesPerMs);
    this.#dispatch({ type: prepared ? "prepared" : "unprepared" });
  }

  async #verify(): Promise<void> {
    const head = this.#head as StreamHead;
    const startMs = this.#clock.nowMs();
    const chunkBytes = hashChunkBytes(head.blocks);
    this.#channel.sendControl({ type: "verify", chunkBytes });
    const ours = await hashMemory(this.#setup.memory as GuestMemory, head.blocks, chunkBytes);
    const theirs = await this.#hashesFromPeer.promise;
    const difference = compareHashes(ours, theirs.memory);
    this.statistics.verifyMs = this.#clock.nowMs() - startMs;
    this.statistics.verified = difference === undefined;
    if (difference !== undefined) throw new GodwitError("VERIFY_MISMATCH", difference);
    this.#host.say(`verified: all memory is equal (${Math.round(this.statistics.verifyMs)} ms)`);
    this.#dispatch({ type: "verified" });
  }

  async #handOver(): Promise<void> {
    const { migrationId, vmName, host, port, qmpPath, transport, runtimeDirectory } = this.job;
    const pid = this.#setup.pid;
    await writeJournal(runtimeDirectory, {
      migrationId,
      vmName,
      host,
      port,
      qmpPath,
      pid,
      transport,
    });
    this.statistics.handedOver();
    await this.#pump.handOver();
  }

  async #resolve(): Promise<void> {
    const { job } = this;
    this.#host.say("the connection was lost during the hand-over: reaching the destination again");
    const state = await resolveAtDestination(this.#clock, job, "handed-over", job.migrationId);
    if (state !== "running") {
      throw new GodwitError("PEER_FAILED", `the destination answers that the VM is ${state}`);
    }
    this.statistics.running();
    this.#dispatch({ type: "peer-running" });
  }

  async #ensureResumed(): Promise<void> {
    this.#givenUp.resolve();
    // What is under way would come after what is undone here.
    await this.#setup.prepared.catch(() => {});
    await this.#streamStart.catch(() => {});
    await this.#setup.qemu?.ensureResumed();
    await this.#assistance.release();
    this.#dispatch({ type: "source-resumed" });
  }

  // Life

  #followProgress(): () => void {
    let stop: () => void = () => {};
    const tick = (): void => {
      this.#rounds.tick();
      this.#host.progress(this.statistics);
      this.#rounds.lookAtFirstRound();
      stop = this.#clock.after(progressEveryMs, tick);
    };
    tick();
    return () => stop();
  }

  async #close(): Promise<void> {
    this.#driver.close();
    this.#streamSocket.close();
    this.#pump.stop();
    this.#assisted.close();
    await this.#channel.finish(2_000);
    await this.#assistance[Symbol.asyncDispose]();
    await this.#setup[Symbol.asyncDispose]();
    const { runtimeDirectory, migrationId } = this.job;
    await this.#streamSocket[Symbol.asyncDispose]();
    // A note must not be written after it was removed.
    await this.#handingOver.catch(() => {});
    if (this.#driver.state.phase !== "unconfirmed")
      await removeJournal(runtimeDirectory, migrationId);
  }

  #outcome(): MigrationOutcome {
    const { phase, error } = this.#driver.state;
    const result =
      phase === "done" || phase === "cancelled" || phase === "unconfirmed" ? phase : "failed";
    return {
      role: "source",
      result,
      migrationId: this.job.migrationId,
      vmName: this.job.vmName,
      ...(error === undefined || result === "done" ? {} : { error }),
      text: outcomeText(this.job, result, this.#driver.state.letGo, error?.message),
      report: this.statistics.report(),
    };
  }
}
