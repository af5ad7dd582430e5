/**
 * The applications of one guest during one migration: found, asked what is disposable, brought to a stop before the
 * switch-over, and let go. Mechanism is the guest agent's; every decision is made here.
 *
 *   open ─▶ begin ─▶ refresh … refresh ─▶ hold ─▶ (the VM moves; the destination thaws)
 *                                          └────▶ release (the VM stays)
 *
 * Whatever goes wrong in the guest, nothing here harms it: hints are only advice, and the agent thaws what it holds when
 * this side closes the port or falls silent.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, withDeadline } from "../io/index.ts";
import { AgentClient, type AgentProcess, type FrameRuns } from "./agent/index.ts";
import { ApplicationParticipant } from "./application.ts";
import {
  dirtyDead,
  earlyScrubInput,
  earlyScrubMs,
  type EarlyScrubWay,
  earlyScrubWay,
  lateScrubBytes,
  scrubEarly,
} from "./early-scrub.ts";
import {
  type FreeMemory,
  type GcWay,
  type HeldJvm,
  holdJvm,
  type HoldJvmOptions,
} from "./hold-jvm.ts";
import { JvmParticipant } from "./jvm.ts";
import { type GoingOn, goingOn } from "./predict.ts";
import { type DisposableKind, type Participant, ParticipantFrames } from "./participant.ts";
import { lastOf, subtractRanges, totalBytes } from "./ranges.ts";
import type { HoldReport, ParticipantReport } from "./report.ts";

export interface AssistOptions {
  readonly clock: Clock;
  /** For the agent to answer at all. */
  readonly timeoutMs: number;
  /** Of the guest: nobody can have more of it. */
  readonly memoryBytes: number;
  /** Closes the port, at any time. */
  readonly signal: AbortSignal;
}

/** Frames that hold disposable memory now. */
export interface DisposableFrames {
  readonly kind: DisposableKind;
  readonly runs: FrameRuns;
}

export interface ScrubEarlyOptions {
  readonly gc: GcWay;
  readonly timeoutMs: number;
  readonly linkBytesPerMs: number;
  readonly promotedBytesMax: number;
  readonly pauseMsMax: number;
}

export interface HoldOptions extends ScrubEarlyOptions {
  /** All will be done within about 0.1 s. */
  soon(): void;
  /**
   * All stand still; what is left is to zero their memory, which lies in these frames. Resolves when what has to travel
   * before they go on has travelled.
   */
  held(dead: readonly DisposableFrames[], goesOn: GoingOn): Promise<void>;
}

/**
 * QEMU is told that it may end when no more than this is left to zero: 80 ms in an emulated guest, less on KVM. Told earlier it
 * would look for dirty pages again and again, as fast as it can.
 */
const lastScrubBytes = 96 << 20;
/**
 * More than any switch-over takes by the guest's own clock, which stands still while the VM is stopped. An agent that is itself
 * stopped is ended a second later, and the next one has two more to let go.
 */
const holdMs = 9_000;
/**
 * QEMU looks at its limits ten times a second, and then stops the VM within some ms. Applications that go on before that only
 * write a little more.
 */
const judgeMs = 100;
const stopMsMax = 40;
/** G1 looks once a second whether it should collect. */
const periodicMs = 1_000;
const library = "libjvm.so";
/** The agent holds at most 32 processes at once. */
const jvmsMax = 16;
const applicationsHeldMax = 16;
/** Virtual memory that a guest's processes may declare, in sizes of its memory: each page can be mapped more than once. */
const declaredShareMax = 2;
/** The share of the time limit that registered programs get to answer; the rest is for collections. */
const readyShare = 0.5;
/** Of the time limit, too: what could not be zeroed early is zeroed late. */
const earlyShare = 0.4;

export class AssistSession implements AsyncDisposable {
  readonly agent: AgentClient;
  readonly #clock: Clock;
  readonly #memoryBytes: number;
  /** Programs that were found to be unusable, by pid. */
  readonly #refused = new Set<number>();
  /** Programs that were ready when as many were held already as can be. */
  readonly #beyond = new Set<Participant>();
  readonly #holding = new AbortController();
  #participants: ParticipantFrames[] = [];
  #unsupported: ParticipantReport[] = [];
  readonly #clean = new Map<JvmParticipant, FreeMemory>();
  /** Something may be held, or was told to get ready. */
  #pending = false;
  #began = false;

  private constructor(agent: AgentClient, clock: Clock, memoryBytes: number) {
    this.agent = agent;
    this.#clock = clock;
    this.#memoryBytes = memoryBytes;
  }

  /** Connects and looks who is there. Fails with AGENT_*. */
  static async open(path: string, options: AssistOptions): Promise<AssistSession> {
    const { clock, timeoutMs, signal, memoryBytes } = options;
    const agent = await AgentClient.connect(path, { clock, timeoutMs, signal });
    const session = new AssistSession(agent, clock, memoryBytes);
    const close = (): void => void agent[Symbol.asyncDispose]();
    signal.addEventListener("abort", close, { once: true });
    try {
      await session.#find();
      signal.removeEventListener("abort", close);
      signal.addEventListener("abort", () => session.#holding.abort(), { once: true });
      return session;
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
  }

  get participants(): readonly Participant[] {
    return this.#participants.map(({ participant }) => participant);
  }

  get jvms(): readonly JvmParticipant[] {
    return this.participants.filter((one) => one instanceof JvmParticipant);
  }

  get hasApplications(): boolean {
    return this.#applications.length > 0;
  }

  /** Present memory that is disposable now. */
  get disposableBytes(): number {
    return this.#participants.reduce((sum, one) => sum + one.presentBytes, 0);
  }

  /** Of that, what is still to be zeroed once all stand still. */
  get lateScrubBytes(): number {
    const spared = this.jvms.reduce((sum, jvm) => {
      const input = earlyScrubInput(jvm);
      return sum + input.disposableBytes - lateScrubBytes(input);
    }, 0);
    return Math.max(0, this.disposableBytes - spared);
  }

  /** How long zeroing just before all are held takes, about, for which the switch-over waits; 0: it is not done. */
  get hastyScrubMs(): number {
    const inputs = this.jvms.map(earlyScrubInput);
    const hasty = inputs.filter((input) => earlyScrubWay(input) === "hasty");
    return hasty.reduce((sum, input) => sum + earlyScrubMs(input, "hasty"), 0);
  }

  /** How long `scrubEarly` takes when it is patient, about; 0: it would do nothing. */
  earlyScrubMs(linkBytesPerMs: number): number {
    const isLast = this.goingOn(linkBytesPerMs) === "rounds";
    const times = this.jvms.filter(scrubsPatiently).map((jvm) => {
      const collectionMs = isLast && jvm.vm.collector === "g1" ? periodicMs : 0;
      return earlyScrubMs(earlyScrubInput(jvm), "patient") + collectionMs;
    });
    return times.reduce((sum, ms) => sum + ms, 0);
  }

  async #find(): Promise<void> {
    const processes = await this.agent.processes(library);
    const all: Participant[] = [];
    // One after the other: each may take some MiB of memory here while it is looked at.
    for (const process of processes.slice(0, jvmsMax)) {
      const jvm = await this.#openJvm(process);
      if (jvm !== undefined) all.push(jvm);
    }
    const [next] = processes.slice(jvmsMax);
    if (next !== undefined) {
      // One line for all: the guest says how many there are.
      const name = `${processes.length - jvmsMax} more Java VMs`;
      const unsupported = `${jvmsMax} are looked at`;
      this.#unsupported.push({ kind: "young", pid: next.pid, name, unsupported });
    }
    this.#participants = all.map((one) => new ParticipantFrames(this.agent, one));
    await this.#refreshApplications();
  }

  get #applications(): readonly ApplicationParticipant[] {
    return this.participants.filter((one) => one instanceof ApplicationParticipant);
  }

  async #openJvm(process: AgentProcess): Promise<JvmParticipant | undefined> {
    try {
      return await JvmParticipant.open(this.agent, process, this.#clock);
    } catch (error) {
      if (!(error instanceof GodwitError) || error.code === "AGENT_LOST") throw error;
      const { pid, command: name } = process;
      this.#unsupported.push({ kind: "young", pid, name, unsupported: error.message });
      return undefined;
    }
  }

  /** Tells registered programs that a migration begins. */
  async begin(): Promise<void> {
    this.#began = true;
    await this.agent.announce("begin");
  }

  /** What is disposable now; undefined when nothing changed since the last time. */
  async refresh(): Promise<readonly DisposableFrames[] | undefined> {
    await this.#refreshApplications();
    const changes = await Promise.all(this.#participants.map((one) => this.#refreshOne(one)));
    if (!changes.includes(true)) return undefined;
    return this.#participants.flatMap(({ participant: { kind }, runs }) =>
      runs === undefined ? [] : [{ kind, runs }],
    );
  }

  /**
   * Looks at heaps for how fast they fill, and at nothing else: a few ms each. Whoever looks seldom sees collections only, and
   * G1's often come long before eden is full.
   */
  async lookAtHeaps(): Promise<void> {
    await Promise.all(
      this.jvms.map(async (jvm) => {
        try {
          await jvm.look();
        } catch (error) {
          // What is to become of this one is decided when it is refreshed.
          if (!(error instanceof GodwitError) || !isAboutTheProcess(error)) throw error;
        }
      }),
    );
  }

  async #refreshApplications(): Promise<void> {
    const connections = await this.agent.applications();
    for (const connection of connections) {
      if (this.#refused.has(connection.pid)) continue;
      if (this.#applications.some((one) => one.owns(connection))) continue;
      const participant = new ApplicationParticipant(connection);
      this.#participants.push(new ParticipantFrames(this.agent, participant));
    }
    for (const one of this.#applications) {
      one.update(connections.filter((connection) => one.owns(connection)));
    }
  }

  /** A process that ended, or whose heap can no longer be read, takes part no more: the others do. */
  async #refreshOne(one: ParticipantFrames): Promise<boolean> {
    try {
      return await one.refresh(this.#memoryBytes * declaredShareMax);
    } catch (error) {
      if (!(error instanceof GodwitError) || !isAboutTheProcess(error)) throw error;
      this.#leave(one, error.message);
      return true;
    }
  }

  #leave(one: ParticipantFrames, unsupported: string): void {
    const { kind, name, process } = one.participant;
    if (this.#refused.has(process.pid)) return;
    this.#refused.add(process.pid);
    this.#unsupported.push({ kind, pid: process.pid, name, unsupported });
    this.#participants = this.#participants.filter((other) => other !== one);
  }

  /**
   * Zeroes what Java VMs that allocate slowly do not use, in short standstills, so that the long one is shorter. What cannot
   * be done so is done then. `patient`: nobody waits for it. Fails only when the agent does.
   */
  async scrubEarly(given: ScrubEarlyOptions, patient: boolean): Promise<void> {
    this.#pending = true;
    const untilMs = this.#clock.nowMs() + given.timeoutMs * (patient ? 1 : earlyShare);
    // A periodic collection begins a concurrent cycle, and until that has ended no other can be had: only when none will be
    // needed.
    const isLast = this.goingOn(given.linkBytesPerMs) === "rounds";
    const how = { watchFree: false, patient: patient && isLast };
    const options = { ...this.#holdJvmOptions(given, untilMs), ...how };
    for (const jvm of this.jvms) {
      try {
        const clean = await scrubEarly(this.agent, jvm, options, this.#clean.get(jvm));
        if (clean !== undefined) this.#clean.set(jvm, clean);
      } catch (error) {
        if (!(error instanceof GodwitError) || error.code === "AGENT_LOST") throw error;
      }
    }
  }

  #holdJvmOptions(given: ScrubEarlyOptions, untilMs: number): Omit<HoldJvmOptions, "watchFree"> {
    const { gc, linkBytesPerMs, promotedBytesMax, pauseMsMax } = given;
    const { signal } = this.#holding;
    const limits = { untilMs, holdMs, linkBytesPerMs, promotedBytesMax, pauseMsMax };
    return { clock: this.#clock, gc, signal, sendsRunning: false, ...limits };
  }

  /**
   * Brings all to a stop, their disposable memory zeroed. Fails, after everything was let go again, when that cannot be done
   * in time: a Java VM that cannot be held, an agent that is gone.
   */
  async hold(options: HoldOptions): Promise<HoldReport> {
    this.#pending = true;
    try {
      return await withDeadline(
        this.#clock,
        options.timeoutMs + 2_000,
        "holding the applications",
        this.#hold(options),
      );
    } catch (error) {
      await this.release().catch(() => {});
      throw error;
    }
  }

  async #hold(given: HoldOptions): Promise<HoldReport> {
    const { timeoutMs } = given;
    const clock = this.#clock;
    const startMs = clock.nowMs();
    const untilMs = startMs + timeoutMs;
    await this.#prepareApplications(timeoutMs * readyShare);
    const readyMs = clock.nowMs() - startMs;
    // Before collections are provoked that say little of how fast eden fills.
    const goes = this.goingOn(given.linkBytesPerMs);
    let judgedFromMs: number | undefined;
    const soon = (): void => {
      // Whoever goes on gives QEMU time to hear of it later.
      if (judgedFromMs !== undefined || goes !== "arrived") return;
      judgedFromMs = clock.nowMs();
      given.soon();
    };
    const isShort = this.lateScrubBytes <= lastScrubBytes;
    const options = {
      ...this.#holdJvmOptions(given, untilMs),
      ...(isShort ? { soon } : {}),
      // What lives on travels in rounds, however much it is.
      ...(goes === "rounds"
        ? { promotedBytesMax: Number.POSITIVE_INFINITY, sendsRunning: true }
        : {}),
    };
    const held = await Promise.all(
      this.jvms.map((jvm) =>
        holdJvm(this.agent, jvm, { ...options, watchFree: this.#clean.has(jvm) }),
      ),
    );
    await this.agent.extend(holdMs);
    const applicationsHeldMs = clock.nowMs();
    const applications = await this.#holdApplications(held, untilMs);
    // A program may have declared areas meanwhile: it is not let go before the VM has moved.
    const goesOn = applications.length === 0 ? goes : "arrived";
    const letGo = goesOn !== "arrived";
    const travelling = given.held(await this.#deadFrames(held, applications), goesOn);
    // Looked at below.
    travelling.catch(() => {});
    const scrubStartMs = clock.nowMs();
    let scrubbedPages = await this.#scrubDead(held, soon);
    for (const one of applications) scrubbedPages += await this.#scrubAreas(one);
    const scrubbedMs = clock.nowMs();
    await travelling;
    if (letGo) await this.agent.thaw();
    const endMs = clock.nowMs();
    // The guest's clock stands still while the VM is stopped. What is left of this when it runs again is waited for by the
    // agent alone; to be told by its host there takes longer in a guest that has just arrived.
    const judgedMs = Math.max(0, (judgedFromMs ?? endMs) + judgeMs - endMs);
    if (!letGo) await this.agent.extend(Math.ceil(judgedMs + stopMsMax));
    return {
      waitMs: Math.max(0, standstillMs(held, applicationsHeldMs) - startMs),
      readyMs,
      gcMs: Math.max(0, ...held.map((one) => one.gcMs)),
      freezeMs: Math.max(0, ...held.map((one) => one.freezeMs)),
      scrubMs: scrubbedMs - scrubStartMs,
      standstillMs: endMs - standstillMs(held, applicationsHeldMs),
      scrubbedPages,
      promotedBytes: held.reduce((sum, one) => sum + one.promotedBytes, 0),
      survivorBytes: held.reduce((sum, { heap }) => sum + heap.survivorUsedBytes, 0),
      edenBytes: held.reduce((sum, { heap }) => sum + heap.edenUsedBytes, 0),
      jvms: held.map(({ jvm, how, gcMs, attempts }) => ({ name: jvm.name, how, gcMs, attempts })),
      applicationCount: applications.length,
      goesOn,
    };
  }

  /** When those go on that are held. Registered programs are not to touch what they gave up before the VM has moved. */
  goingOn(linkBytesPerMs: number): GoingOn {
    const givesUp = this.#applications.some(({ areas }) => areas.length > 0);
    if (this.jvms.length === 0 || givesUp) return "arrived";
    let bytesPerMs = 0;
    for (const { allocation } of this.jvms) {
      bytesPerMs += allocation.bytesPerMs ?? Number.POSITIVE_INFINITY;
    }
    return goingOn(bytesPerMs, linkBytesPerMs);
  }

  /** `soon` is called when it will not take long any more. */
  async #scrubDead(held: readonly HeldJvm[], soon: () => void): Promise<number> {
    const works = held.map((one) => ({
      process: one.jvm.process,
      ranges: dirtyDead(one, this.#clean.get(one.jvm)),
    }));
    let leftBytes = works.reduce((sum, { ranges }) => sum + totalBytes(ranges), 0);
    let zeroedPages = 0;
    for (const { process, ranges } of works) {
      leftBytes -= totalBytes(ranges);
      const late = lastOf(ranges, lastScrubBytes - leftBytes);
      const early = subtractRanges(ranges, late);
      if (early.length > 0) zeroedPages += (await this.agent.scrub(process, early)).zeroedPages;
      if (late.length === 0) continue;
      soon();
      zeroedPages += (await this.agent.scrub(process, late)).zeroedPages;
    }
    soon();
    return zeroedPages;
  }

  async #deadFrames(
    held: readonly HeldJvm[],
    applications: readonly ApplicationParticipant[],
  ): Promise<DisposableFrames[]> {
    const young = held.map(
      ({ jvm, heap }) => ({ kind: "young", process: jvm.process, ranges: heap.dead }) as const,
    );
    const areas = applications.map(
      ({ process, areas: ranges }) => ({ kind: "area", process, ranges }) as const,
    );
    const found = await Promise.all(
      [...young, ...areas].map(async ({ kind, process, ranges }) => ({
        kind,
        runs: ranges.length === 0 ? undefined : await this.agent.frames(process, ranges),
      })),
    );
    return found.flatMap(({ kind, runs }) => (runs === undefined ? [] : [{ kind, runs }]));
  }

  /** Asks registered programs to give their areas up; those that do not answer in time keep them, and they travel. */
  async #prepareApplications(timeoutMs: number): Promise<void> {
    if (!this.hasApplications) return;
    await this.agent.announce("prepare", timeoutMs);
    await this.agent.awaitReady(timeoutMs);
  }

  /**
   * What counts is what a program says once it stands still: until then it may have withdrawn what it needs, or have lost its
   * connection, heard nothing more, and gone on.
   */
  async #holdApplications(
    jvms: readonly HeldJvm[],
    untilMs: number,
  ): Promise<ApplicationParticipant[]> {
    if (!this.hasApplications) return [];
    await this.#refreshApplications();
    const timeoutMs = Math.max(100, untilMs - this.#clock.nowMs());
    // A Java program may have declared memory of its own as well.
    const isHeldJvm = ({ process }: ApplicationParticipant): boolean =>
      jvms.some(({ jvm }) => jvm.process.pid === process.pid);
    const held: ApplicationParticipant[] = [];
    this.#beyond.clear();
    for (const application of this.#applications) {
      const { process, isReady, areas } = application;
      if (!isReady || areas.length === 0) continue;
      if (held.length >= applicationsHeldMax) {
        this.#beyond.add(application);
        continue;
      }
      try {
        const wait = { timeoutMs, holdMs };
        if (!isHeldJvm(application)) await this.agent.hold(process, wait, this.#holding.signal);
        held.push(application);
      } catch (error) {
        // It has ended, or somebody stopped or traces it: its areas travel.
        if (!isAgentsRefusal(error)) throw error;
      }
    }
    await this.#refreshApplications();
    for (const application of held) {
      if (application.isReady || isHeldJvm(application)) continue;
      await this.agent.thaw(application.process);
    }
    return held.filter(({ isReady, areas }) => isReady && areas.length > 0);
  }

  /** What the agent will not zero, because it is no longer what it was declared to be, travels. */
  async #scrubAreas({ process, areas }: ApplicationParticipant): Promise<number> {
    try {
      return (await this.agent.scrub(process, areas)).zeroedPages;
    } catch (error) {
      if (!isAgentsRefusal(error)) throw error;
      return 0;
    }
  }

  /** Lets everything go: the VM stays. Does nothing when nothing was begun. */
  async release(): Promise<void> {
    this.#holding.abort();
    if (!this.#began && !this.#pending) return;
    this.#began = false;
    this.#pending = false;
    await this.agent.thaw();
    await this.agent.announce("abort");
  }

  report(): ParticipantReport[] {
    const taking = this.#participants.map(({ participant, presentBytes }) => {
      const { kind, name, process } = participant;
      const one = { kind, pid: process.pid, name, disposableBytes: presentBytes };
      if (!this.#beyond.has(participant)) return one;
      return { ...one, unsupported: `${applicationsHeldMax} programs are held already` };
    });
    return [...taking, ...this.#unsupported];
  }

  /** Closing the port makes the agent let go of everything by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent[Symbol.asyncDispose]();
  }
}

/** In either way. */
export function scrubsEarly(jvm: JvmParticipant): boolean {
  return wayOf(jvm) !== undefined;
}

/** While the first round ends, as it allocates slowly. */
export function scrubsPatiently(jvm: JvmParticipant): boolean {
  return wayOf(jvm) === "patient";
}

function wayOf(jvm: JvmParticipant): EarlyScrubWay | undefined {
  return earlyScrubWay(earlyScrubInput(jvm));
}

function isAgentsRefusal(error: unknown): boolean {
  return error instanceof GodwitError && error.code === "AGENT_FAILED";
}

function isAboutTheProcess({ code, details }: GodwitError): boolean {
  if (code === "ASSIST_UNSUPPORTED") return true;
  return (
    code === "AGENT_FAILED" &&
    ["GONE", "UNREADABLE", "DENIED"].includes(String(details["agentCode"]))
  );
}

/** When the first application came to stand still; a collection is part of it. */
function standstillMs(held: readonly HeldJvm[], otherwiseMs: number): number {
  const starts = held.map(({ heldAtMs, gcMs, freezeMs }) => heldAtMs - gcMs - freezeMs);
  return Math.min(otherwiseMs, ...starts);
}
