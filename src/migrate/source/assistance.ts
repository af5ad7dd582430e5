/**
 * The applications' part in a migration, as the source session needs it: which pages to leave out now, whether it pays, how
 * much of what QEMU counts as dirty will really travel, and the hold before the switch-over. The conversation with the
 * guest is in src/assist; the pages left out are in the skip map, which keeps them from ever being lost.
 */
import { GodwitError, toErrorRecord } from "../../base/index.ts";
import {
  type AssistReport,
  AssistSession,
  type AssistState,
  collectedSpanMsMin,
  type DisposableFrames,
  type GoingOn,
  type HoldReport,
  type ParticipantReport,
  type Prediction,
  type ScrubEarlyOptions,
} from "../../assist/index.ts";
import { type Clock, sleep, withDeadline } from "../../io/index.ts";
import { findAgentPort, parsePhysicalMap, type PhysicalMap } from "../../qemu/memory/index.ts";
import type { QmpClient } from "../../qemu/qmp/index.ts";
import type { RamBlock } from "../../qemu/stream/index.ts";
import type { MigrateOptions, SentCounts } from "../job.ts";
import type { Round } from "../rounds.ts";
import type { SkipMap } from "../skip-map.ts";
import { HelpEstimate } from "./help-estimate.ts";

export interface AssistanceOptions {
  readonly clock: Clock;
  readonly options: MigrateOptions;
  readonly skip: SkipMap;
  /** Instead of the one that QEMU's monitor tells. */
  readonly agentPath: string | undefined;
  readonly say: (text: string) => void;
}

/** An agent that is there answers in a few ms; in a guest that is very busy it may take this. */
const answerMs = 1_500;
/** Everything before the first round, so that a slow guest cannot delay the migration for long. */
const beginMs = 4_000;
/** Giving up the page cache and zeroing what is free takes as long as it takes to write all memory. */
const dropCachesMs = 20_000;
/** Between two looks at a heap, from which its allocation rate is taken. */
const lookMs = 120;
/**
 * Help is refused only after so long: what a program does within a tenth of a second says little, and the first round goes on
 * meanwhile.
 */
const refuseAfterMs = 1_000;
/** So long before the last look that a collection in between hides nothing. */
const lastLookMs = collectedSpanMsMin + 20;
/** Of the guest's free memory, when the rest is zeroed: its kernel goes on living. */
const keepFreeMebibytes = 48;
const absentPagesMin = 256;
/** Of all applications together. */
const refreshMs = 3_000;

export class Assistance {
  readonly #clock: Clock;
  readonly #options: MigrateOptions;
  readonly #skip: SkipMap;
  readonly #agentPath: string | undefined;
  readonly #say: (text: string) => void;
  #session: AssistSession | undefined;
  #portPath = "";
  #participants: readonly ParticipantReport[] = [];
  #map: PhysicalMap | undefined;
  #blocks: ReadonlyMap<string, RamBlock> | undefined;
  #frames: readonly DisposableFrames[] = [];
  readonly #estimate: HelpEstimate;
  readonly #aborting = new AbortController();
  #beginning: Promise<void> = Promise.resolve();
  #refreshing: Promise<void> | undefined;
  #looking: Promise<void> | undefined;
  #holding = false;
  #zeroing = false;
  #state: AssistState | "looking";
  #text: string;
  #prediction: Prediction | undefined;
  #held: HoldReport | undefined;
  #heldAtMs: number | undefined;
  #droppedCacheBytes: number | undefined;
  #zeroedFreeBytes: number | undefined;

  constructor({ clock, options, skip, agentPath, say }: AssistanceOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#estimate = new HelpEstimate(options);
    this.#skip = skip;
    this.#agentPath = agentPath;
    this.#say = say;
    this.#state = options.assist === "off" ? "off" : "unused";
    this.#text = options.assist === "off" ? "switched off" : "not begun";
  }

  /** Pages are left out now, and applications will be held before the switch-over. */
  get isActive(): boolean {
    return this.#state === "active";
  }

  /** The applications were held, and their memory zeroed: nothing is left out any more. */
  get isHeld(): boolean {
    return this.#state === "used";
  }

  /** They are held until the VM has arrived: whoever runs it then has to let them go. */
  get isStandingStill(): boolean {
    return this.isHeld && this.goesOn === "arrived";
  }

  /** When what was held goes on; undefined: nothing was. */
  get goesOn(): GoingOn | undefined {
    return this.#held?.goesOn;
  }

  /** Whether help pays is not known yet. Nothing is left out so far. */
  get isLooking(): boolean {
    return this.#state === "looking";
  }

  /** Whether there is an agent at all: a matter of milliseconds. */
  async look(qmp: QmpClient, pid: number | undefined): Promise<boolean> {
    if (this.#state === "off") {
      if (this.#options.dropCaches) this.#say("the page cache stays: that needs assistance");
      return false;
    }
    try {
      const port = await findAgentPort(qmp, pid);
      if (port === undefined) this.#unused("the VM has no port for an agent");
      else if (port.hostOpen) this.#unused("somebody else is connected to the agent's port");
      else if (!port.guestOpen) this.#unused("no agent runs in the guest");
      else {
        this.#portPath = this.#agentPath ?? port.path;
        this.#state = "looking";
        this.#text = "the guest had no time to answer";
      }
    } catch (error) {
      this.#unused(toErrorRecord(error).message);
    }
    return this.isLooking;
  }

  /** Asks the agent, and decides whether its help pays: some tenths of a second. Never fails. */
  begin(qmp: QmpClient, memoryBytes: number): Promise<void> {
    this.#beginning = this.#beginWithin(qmp, memoryBytes);
    return this.#beginning;
  }

  async #beginWithin(qmp: QmpClient, memoryBytes: number): Promise<void> {
    const limitMs = beginMs + (this.#options.dropCaches ? dropCachesMs : 0);
    const stop = this.#clock.after(limitMs, () => this.#aborting.abort());
    try {
      await this.#begin(qmp, memoryBytes);
    } catch (error) {
      this.#unused(toErrorRecord(error).message);
    } finally {
      stop();
    }
    if (this.isLooking) this.#unused("the guest had no time to answer");
    if (!this.isActive) await this.#leave();
  }

  /** Whoever was told that a migration begins is told that it is over, as far as they are concerned. */
  async #leave(): Promise<void> {
    await this.#session?.release().catch(() => {});
    await this.#closeSession();
  }

  async #begin(qmp: QmpClient, memoryBytes: number): Promise<void> {
    const clock = this.#clock;
    const { signal } = this.#aborting;
    const options = { clock, timeoutMs: answerMs, memoryBytes, signal };
    const session = await AssistSession.open(this.#portPath, options);
    this.#session = session;
    if (!this.isLooking || signal.aborted) return;
    if (this.#options.dropCaches) await this.#dropCaches(session);
    await session.begin();
    if (session.participants.length === 0) return this.#unused(noParticipants(session));
    this.#map = parsePhysicalMap(await qmp.hmp("info mtree -f"));
    if ((await qmp.execute("query-kvm")).enabled) this.#estimate.isKvm();
    this.#frames = (await session.refresh()) ?? [];
    const text = await this.#judge(session);
    if (text === undefined) return;
    this.#state = "active";
    this.#text = text;
    this.#say(`assistance: ${session.participants.map(({ name }) => name).join(", ")}; ${text}`);
    this.#applyHints(this.#frames);
  }

  /**
   * Looks until help seems to pay, and answers what it promises; undefined: it does not, or the migration is over. How long it
   * would take, and applications would stand still, is known better after the first round, when the link and what the guest
   * writes have been seen; to have left something out until then costs hardly anything.
   */
  async #judge(session: AssistSession): Promise<string | undefined> {
    const clock = this.#clock;
    const { signal } = this.#aborting;
    const startMs = clock.nowMs();
    for (let waitMs = lookMs; ; ) {
      if (session.jvms.length > 0) await sleep(clock, waitMs, signal);
      if (!this.isLooking || signal.aborted) return undefined;
      this.#frames = (await session.refresh()) ?? this.#frames;
      if (!this.isLooking || signal.aborted) return undefined;
      this.#prediction = this.#estimate.predict(session, undefined);
      const { saves, savesTraffic, text } = this.#prediction;
      // A program that has registered may have given something up when it was told of the migration.
      const wanted = this.#options.assist === "require" || session.hasApplications;
      if (savesTraffic || wanted) return text;
      const leftMs = startMs + refuseAfterMs - clock.nowMs();
      const isKnown = session.jvms.every(({ allocation }) => allocation.bytesPerMs !== undefined);
      if (leftMs <= 0 || session.jvms.length === 0) {
        this.#unused(saves ? `${text}: too little to gain` : text);
        return undefined;
      }
      // Once at once, and once for good: an estimate that errs is not to get many chances.
      waitMs = isKnown ? Math.max(leftMs, lastLookMs) : lookMs;
    }
  }

  /** Fails with ASSIST_REQUIRED when there is no help. */
  assertActive(): void {
    if (this.isActive) return;
    throw new GodwitError("ASSIST_REQUIRED", `assistance is required, but ${this.#text}`);
  }

  #unused(text: string): void {
    this.#state = "unused";
    this.#text = text;
    if (this.#session !== undefined) this.#say(`no assistance: ${text}`);
  }

  async #dropCaches(session: AssistSession): Promise<void> {
    const { cacheBytesBefore, cacheBytesAfter } = await session.agent.dropCaches();
    this.#droppedCacheBytes = Math.max(0, cacheBytesBefore - cacheBytesAfter);
    // What was freed keeps its contents: only zeroed it costs nothing.
    const { zeroedBytes } = await session.agent.zeroFreeMemory(keepFreeMebibytes);
    this.#zeroedFreeBytes = zeroedBytes;
  }

  /** The stream has begun: its blocks are known. */
  attach(blocks: readonly RamBlock[]): void {
    this.#blocks = new Map(blocks.map((block) => [block.name, block]));
    if (this.isActive) this.#applyHints(this.#frames);
  }

  #applyHints(frames: readonly DisposableFrames[]): void {
    const map = this.#map;
    const blocks = this.#blocks;
    if (map === undefined || blocks === undefined) return;
    this.#skip.clearHints();
    for (const { kind, runs } of frames) {
      const isArea = kind === "area";
      const hint = (name: string, firstPage: number, pageCount: number): void => {
        const block = blocks.get(name);
        if (block !== undefined) this.#skip.hint(block, firstPage, pageCount, isArea);
      };
      for (let i = 0; i < runs.pageCounts.length; i++) {
        map.forEachPiece(runs.firstFrames[i] as number, runs.pageCounts[i] as number, hint);
      }
    }
  }

  /** Asks the guest what is disposable now. Fails when it does not answer. */
  async refresh(): Promise<void> {
    const session = this.#session;
    if (!this.isActive || session === undefined || this.#holding || this.#zeroing) return;
    this.#refreshing ??= this.#refresh(session, this.#looking).finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
  }

  /** Looks how fast heaps fill. Fails when the guest does not answer. */
  async lookAtHeaps(): Promise<void> {
    const session = this.#session;
    if (!this.isActive || session === undefined || this.#holding || this.#zeroing) return;
    if (this.#refreshing !== undefined || this.#looking !== undefined) return;
    const looked = session.lookAtHeaps();
    // Nothing else looks at a heap meanwhile.
    this.#looking = looked.catch(() => {}).then(() => (this.#looking = undefined));
    await withDeadline(this.#clock, refreshMs, "looking at heaps", looked);
  }

  async #refresh(session: AssistSession, before: Promise<void> | undefined): Promise<void> {
    const what = "asking what is disposable";
    const asked = before === undefined ? session.refresh() : before.then(() => session.refresh());
    const frames = await withDeadline(this.#clock, refreshMs, what, asked);
    if (frames === undefined || !this.isActive || this.#holding) return;
    this.#frames = frames;
    this.#applyHints(frames);
  }

  /** What a round has to send, hinted pages apart: QEMU counts those as dirty as any. */
  adjust(round: Round, counts: SentCounts): Round {
    return this.#estimate.adjust(round, counts);
  }

  /**
   * With what the first round has shown of the link, the guest and its applications: undefined when it still pays, else why
   * not.
   */
  reconsider(round: Round, bytesPerMs: number): string | undefined {
    const session = this.#session;
    if (!this.isActive || session === undefined || this.#holding) return undefined;
    if (this.#options.assist === "require" || session.hasApplications) return undefined;
    if (bytesPerMs <= 0) return undefined;
    this.#estimate.firstRoundFound(round, session);
    this.#prediction = this.#estimate.predict(session, bytesPerMs);
    return this.#prediction.pays ? undefined : this.#prediction.text;
  }

  /** Part of what is disposable is not there yet: it comes into being as applications touch it, and is not hinted until then. */
  get grows(): boolean {
    return this.isActive && this.#frames.some(({ runs }) => runs.absentPages >= absentPagesMin);
  }

  /** What programs that allocate slowly do not use is zeroed while they work. */
  async scrubEarly(bytesPerMs: number, patient: boolean): Promise<void> {
    if (!this.isActive) return;
    // Looking for frames keeps the agent from answering for some time, in which a program would stand still.
    this.#zeroing = true;
    try {
      await this.#quiet();
      const session = this.#session;
      if (!this.isActive || session === undefined) return;
      // It costs short standstills: not for help that will be given up.
      const isWanted = this.#options.assist === "require" || session.hasApplications;
      if (patient && !isWanted && !this.#estimate.predict(session, bytesPerMs).pays) {
        return;
      }
      await session.scrubEarly(this.#holdOptions(bytesPerMs), patient);
    } finally {
      this.#zeroing = false;
    }
  }

  /** Nobody looks at heaps. */
  async #quiet(): Promise<void> {
    await Promise.all([this.#refreshing?.catch(() => {}), this.#looking]);
  }

  /** How long `scrubEarly` takes when it is patient, about; 0: it would do nothing. */
  earlyScrubMs(bytesPerMs: number): number {
    if (!this.isActive) return 0;
    const { linkBytesPerMs } = this.#holdOptions(bytesPerMs);
    return this.#session?.earlyScrubMs(linkBytesPerMs) ?? 0;
  }

  #holdOptions(bytesPerMs: number): ScrubEarlyOptions {
    const { gc, assistTimeoutMs, downtimeLimitMs } = this.#options;
    const linkBytesPerMs = this.#estimate.linkBytesPerMs(bytesPerMs > 0 ? bytesPerMs : undefined);
    return {
      gc,
      timeoutMs: assistTimeoutMs,
      linkBytesPerMs,
      pauseMsMax: this.#estimate.pauseMsMax,
      promotedBytesMax: Math.max(4 << 20, (linkBytesPerMs * downtimeLimitMs) / 4),
    };
  }

  /**
   * Holds the applications and has their disposable memory zeroed: from then on nothing is left out. Fails after having let
   * them go.
   */
  async hold(
    bytesPerMs: number,
    soon: () => void,
    held: (goesOn: GoingOn) => Promise<void>,
  ): Promise<HoldReport> {
    const session = this.#session as AssistSession;
    this.#holding = true;
    await this.#quiet();
    const report = await session.hold({
      ...this.#holdOptions(bytesPerMs),
      soon,
      held: (dead, goesOn) => {
        // What lives in a young generation after all can travel while the rest is zeroed.
        if (this.isActive) this.#applyHints(dead);
        return held(goesOn);
      },
    });
    // Given up meanwhile.
    if (!this.isActive) throw new GodwitError("CANCELLED", "applications are held no more");
    this.#held = report;
    this.#heldAtMs = this.#clock.nowMs();
    this.#state = "used";
    this.#text = "used";
    this.#skip.clearHints();
    return report;
  }

  /**
   * Goes on without: nothing is left out any more. `unused`: it would not have paid. Fails with ASSIST_REQUIRED, when all is
   * let go, if it is not to go on without.
   */
  async giveUp(state: "failed" | "unused", text: string): Promise<void> {
    if (!this.isActive && !this.isLooking) return;
    this.#aborting.abort();
    this.#state = state;
    this.#text = text;
    this.#say(`assistance is given up: ${text}`);
    this.#skip.clearHints();
    await this.#beginning;
    await this.#leave();
    if (this.#options.assist === "require") this.assertActive();
  }

  /** The VM stays here: whatever is held goes on. */
  async release(): Promise<void> {
    this.#aborting.abort();
    const session = this.#session;
    if (session === undefined) return;
    if (this.isHeld || this.isActive) {
      this.#state = "failed";
      this.#text = "the VM stays";
    }
    await session.release().catch((error: unknown) => {
      this.#say(
        `the agent in the guest lets applications go by itself: ${toErrorRecord(error).message}`,
      );
    });
    await this.#closeSession();
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#participants = session?.report() ?? this.#participants;
    this.#session = undefined;
    await session?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closeSession();
  }

  /** From when on the first application stood still, on the clock. */
  get standstillAtMs(): number | undefined {
    if (this.#held === undefined || this.#heldAtMs === undefined) return undefined;
    return this.#heldAtMs - this.#held.standstillMs;
  }

  get scrubbedAtMs(): number | undefined {
    return this.#heldAtMs;
  }

  report(): AssistReport {
    return {
      state: this.#state === "looking" ? "unused" : this.#state,
      text: this.#text,
      participants: this.#session?.report() ?? this.#participants,
      ...(this.#prediction === undefined ? {} : { prediction: this.#prediction }),
      ...(this.#held === undefined ? {} : { hold: this.#held }),
      ...(this.#droppedCacheBytes === undefined
        ? {}
        : { droppedCacheBytes: this.#droppedCacheBytes }),
      ...(this.#zeroedFreeBytes === undefined ? {} : { zeroedFreeBytes: this.#zeroedFreeBytes }),
    };
  }
}

function noParticipants(session: AssistSession): string {
  const [first] = session.report();
  return first?.unsupported === undefined
    ? "no application in the guest takes part"
    : `${first.name} cannot: ${first.unsupported}`;
}
