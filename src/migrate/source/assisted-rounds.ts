/**
 * What applications' help changes in the course of rounds: hints are kept fresh, what is owed is sent, QEMU is paced and kept
 * from ending, and before the switch-over applications are held. Decisions about whether and when are the machine's and
 * `Assistance`'s.
 */
import { toErrorRecord } from "../../base/index.ts";
import { type HoldReport, reserveMs } from "../../assist/index.ts";
import { type Clock, sleep } from "../../io/index.ts";
import type { RamBlock } from "../../qemu/stream/index.ts";
import type { Round } from "../rounds.ts";
import type { SkipMap } from "../skip-map.ts";
import type { Assistance } from "./assistance.ts";
import type { SourcePhase } from "./machine.ts";
import type { SourcePump } from "./pump.ts";
import type { SourceQemu } from "./qemu.ts";

/** A round with applications' help takes at least this long. */
const roundMsMin = 250;
/** With more pages than this that travel after all, they are sent while the VM runs. */
const owedPagesMax = 256;
/** How often what is owed is sent before applications are held all the same. */
const settlingsMax = 4;
/** No pass is waited for longer than this. */
const passMsMax = 10_000;
/**
 * Once applications go on after having been held: how much may be left for the VM to be stopped, in shares of the downtime
 * limit, and how long that is waited for before the next one. Rounds shrink, as little is written that has to travel, but
 * seldom from each one to the next.
 */
const rests = [
  { share: 0.3, patienceMs: 320 },
  { share: 0.6, patienceMs: 960 },
  { share: 1, patienceMs: 2_000 },
] as const;
/** QEMU looks at its limits ten times a second. */
const restLookMs = 160;
/** Between two looks at heaps. */
const lookMs = 400;

export interface AssistedRoundsOptions {
  readonly clock: Clock;
  readonly assistance: Assistance;
  readonly pump: SourcePump;
  readonly skip: SkipMap;
  readonly qemu: () => SourceQemu | undefined;
  readonly phase: () => SourcePhase;
  /** What the link carries of memory, as measured lately; 0: not known. */
  readonly bytesPerMs: () => number;
  /** Runs what nobody waits for; its failure is the migration's. */
  readonly start: (work: Promise<void>) => void;
  readonly say: (text: string) => void;
}

export class AssistedRounds {
  readonly #options: AssistedRoundsOptions;
  #passStartMs = 0;
  #beganMs = 0;
  #pageCount = 0;
  #early: Promise<void> | undefined;
  #began = false;
  #decided = false;
  /** Applications stand still: from here on every pass is as short as it can be. */
  #holds = false;
  /** What was left out follows when so many more passes have begun. */
  #rest: PromiseWithResolvers<void> | undefined;
  #restPasses = 0;
  #timers: (() => void)[] = [];

  constructor(options: AssistedRoundsOptions) {
    this.#options = options;
  }

  /** The stream has begun. What is sent is watched from the start, even if nothing can be left out yet. */
  began(blocks: readonly RamBlock[]): void {
    const { assistance, clock, pump, skip } = this.#options;
    if (!assistance.isActive && !assistance.isLooking) return;
    for (const block of blocks) skip.hints(block);
    pump.useSkip(skip);
    assistance.attach(blocks);
    this.#began = true;
    this.#beganMs = clock.nowMs();
    this.#pageCount = blocks.reduce((sum, { pageCount }) => sum + pageCount, 0);
    this.#go();
  }

  /** Whether help pays is known. */
  decided(): void {
    this.#decided = true;
    if (!this.#options.assistance.isActive) this.#options.pump.allowSwitchover();
    this.#go();
  }

  #go(): void {
    const { assistance, pump, start } = this.#options;
    if (!this.#began || !this.#decided || !assistance.isActive) return;
    start(pump.sendBlank());
    this.#keepFresh();
  }

  /**
   * Once little is dirty QEMU would look again every 20 ms and send the same pages each time: it is kept from going on before
   * a sensible time has passed.
   *
   * Answers a promise when what help left out follows now: what QEMU says of this pass then tells too little.
   */
  passBegan(startMs: number): Promise<void> | undefined {
    const { assistance, clock, pump } = this.#options;
    const waitMs = roundMsMin - (startMs - this.#passStartMs);
    this.#passStartMs = startMs;
    this.#restPasses--;
    const rest = this.#restPasses > 0 ? undefined : this.#sendRest();
    const isEarly = this.#options.phase() === "rounds" || this.#options.phase() === "preparing";
    if (!assistance.isActive || waitMs <= 0 || !isEarly || this.#holds) return rest;
    pump.hold("round");
    clock.after(waitMs, () => pump.unhold("round"));
    return rest;
  }

  /** What became ordinary memory again travels now rather than at the end. */
  async refresh(): Promise<void> {
    const { assistance, pump, skip } = this.#options;
    try {
      await assistance.refresh();
    } catch (error) {
      return await this.#withdraw("failed", toErrorRecord(error).message);
    }
    if (!assistance.isActive) return;
    await pump.sendBlank();
    if (skip.owedCount >= owedPagesMax) await pump.sendOwed();
  }

  /** Besides at each round's begin, as long as disposable memory still comes into being; if not, only how fast it is used. */
  #keepFresh(): void {
    const { assistance, clock, phase, start } = this.#options;
    clock.after(lookMs, () => {
      const isEarly = phase() === "rounds" || phase() === "setup";
      if (!assistance.isActive || !isEarly) return;
      this.#scrubInTime();
      const looked = assistance.grows ? this.refresh() : this.#lookAtHeaps();
      start(looked.then(() => this.#keepFresh()));
    });
  }

  async #lookAtHeaps(): Promise<void> {
    try {
      await this.#options.assistance.lookAtHeaps();
    } catch (error) {
      await this.#withdraw("failed", toErrorRecord(error).message);
    }
  }

  /** What can be zeroed before applications are held is zeroed while the first round ends. */
  #scrubInTime(): void {
    const { assistance, bytesPerMs, clock, pump, skip } = this.#options;
    const takesMs = assistance.earlyScrubMs(bytesPerMs());
    if (takesMs === 0 || this.#early !== undefined) return;
    const { blankCount, pageCount, zeroCount } = pump;
    // QEMU sends what was announced as blank, too.
    const seen = pageCount + zeroCount - blankCount + skip.droppedCount;
    const leftMs = ((clock.nowMs() - this.#beganMs) * (this.#pageCount - seen)) / Math.max(1, seen);
    if (leftMs > takesMs + lookMs) return;
    this.#early = this.#scrubEarly();
    // Looked at when applications are prepared.
    this.#early.catch(() => {});
  }

  async #scrubEarly(): Promise<void> {
    const { assistance, bytesPerMs } = this.#options;
    // How fast heaps fill has to be known well: at the beginning they were seen for a moment only.
    await this.refresh();
    await assistance.scrubEarly(bytesPerMs(), true);
  }

  /** After the first round: answers whether help was given up because it does not pay. */
  async reconsider(round: Round, bytesPerMs: number): Promise<boolean> {
    // A heap seen twice, a round apart, tells how fast it fills.
    await this.refresh();
    const why = this.#options.assistance.reconsider(round, bytesPerMs);
    if (why === undefined) return false;
    await this.#withdraw("unused", why);
    return true;
  }

  /** Answers whether applications are held, or none take part; false: they were given up, and rounds go on without. */
  async prepare(bytesPerMs: number): Promise<boolean> {
    const { assistance, pump, say, start } = this.#options;
    if (assistance.isLooking) {
      await assistance.giveUp("unused", "the migration was quicker than the guest's answers");
    }
    if (!assistance.isActive) return true;
    try {
      await this.#early;
      await this.#settle();
      await assistance.scrubEarly(bytesPerMs, false);
      if (!assistance.isActive) return false;
      await this.#settle();
      let isSoon = false;
      const soon = (): void => {
        isSoon = true;
        pump.unhold("round");
        start(this.#allowToEnd());
      };
      const holding = assistance.hold(bytesPerMs, soon, async (goesOn) => {
        this.#holds = true;
        // To look for zeroed pages while others are zeroed would take the processor from that.
        // Nor once help was given up, as nobody would let it go on.
        if (goesOn === "arrived" && !isSoon && assistance.isActive) pump.hold("round");
        else pump.unhold("round");
        // Most of it was written by the collection just now: QEMU sends it in the round that follows.
        if (goesOn === "arrived") await pump.sendOwed();
      });
      // Whatever became of it: help may have been given up meanwhile.
      const held = await holding.finally(() => pump.unhold("round"));
      say(heldText(held));
      return true;
    } catch (error) {
      await this.#withdraw("failed", toErrorRecord(error).message);
      return false;
    }
  }

  /** What has come to live on, such as promoted objects, travels while the applications still work. */
  async #settle(): Promise<void> {
    const { assistance, pump, skip } = this.#options;
    for (let i = 0; i < settlingsMax; i++) {
      await assistance.refresh();
      if (skip.owedCount < owedPagesMax) return;
      await pump.sendOwed();
    }
  }

  /** QEMU gets to know beforehand that it may stop the VM once it is let: it looks at its limits ten times a second only. */
  async #allowToEnd(): Promise<void> {
    const { phase, qemu } = this.#options;
    if (phase() === "preparing") await qemu()?.forceSwitchover();
  }

  /** After `prepare`: lets QEMU stop the VM, at once, after one round, or when little is left. */
  async end(bytesPerMs: number, downtimeLimitMs: number, isStopped: () => boolean): Promise<void> {
    const { assistance, phase, pump, qemu } = this.#options;
    const isOver = (): boolean => phase() !== "switchover" || isStopped();
    const { goesOn } = assistance;
    if (goesOn === "rounds" || goesOn === "oneRound") await this.#roundAfterHold();
    if (goesOn === "rounds") await this.#converge(bytesPerMs, downtimeLimitMs, isOver);
    if (isOver()) return;
    pump.allowSwitchover();
    pump.liftBandwidth();
    await qemu()?.forceSwitchover();
  }

  /** The pass under way may have begun before the collection: the next one brings what that wrote, and the zeroes. */
  async #roundAfterHold(): Promise<void> {
    // However slowly what is owed may be sent, the switch-over has a deadline.
    this.#after(passMsMax, () => this.#options.pump.liftBandwidth());
    await this.#restSent(2);
  }

  /** Ordinary rounds: returns when the VM is stopped, or when another round would leave no less. */
  async #converge(
    bytesPerMs: number,
    downtimeLimitMs: number,
    isOver: () => boolean,
  ): Promise<void> {
    const { clock, qemu } = this.#options;
    const restMs = Math.max(reserveMs, downtimeLimitMs - reserveMs);
    for (const { share, patienceMs } of rests) {
      if (isOver()) return;
      const canBeArmed = await qemu()?.arm(Math.round(bytesPerMs * restMs * share));
      if (canBeArmed !== true) return;
      for (let ms = 0; ms < patienceMs && !isOver(); ms += restLookMs) {
        await sleep(clock, restLookMs);
      }
    }
    if (isOver()) return;
    // A pass is not cut short: what is left of it would travel while the VM stands still.
    const { ram } = (await qemu()?.query()) ?? {};
    const leftMs = (ram?.remaining ?? 0) / Math.max(1, bytesPerMs) - restMs;
    for (let ms = 0; ms < Math.min(passMsMax, leftMs) && !isOver(); ms += restLookMs) {
      await sleep(clock, restLookMs);
    }
  }

  /** Resolves when what was left out was sent, unless QEMU did in the passes of which so many have yet to begin. */
  #restSent(passCount: number): Promise<void> {
    this.#rest ??= Promise.withResolvers<void>();
    this.#restPasses = passCount;
    const { promise } = this.#rest;
    this.#after(passMsMax, () => void this.#sendRest());
    return promise;
  }

  /** What runs out with the migration. */
  #after(ms: number, run: () => void): void {
    this.#timers.push(this.#options.clock.after(ms, run));
  }

  /** The migration is over. */
  close(): void {
    for (const stop of this.#timers.splice(0)) stop();
    void this.#sendRest();
  }

  /** The time to prepare has passed. */
  async giveUp(text: string): Promise<void> {
    await this.#withdraw("failed", text);
  }

  /**
   * On without applications' help: what was left out for them follows while the VM runs, and QEMU may end by itself again. Not
   * waited for: it can take long.
   */
  async #withdraw(state: "failed" | "unused", text: string): Promise<void> {
    const { assistance, pump, start } = this.#options;
    if (!assistance.isActive) return;
    const letGo = assistance.giveUp(state, text);
    this.#holds = false;
    pump.unhold("round");
    start(this.#goOnPlain());
    await letGo;
  }

  async #goOnPlain(): Promise<void> {
    const { phase, qemu, start } = this.#options;
    // A switch-over may have been ordered meanwhile.
    const early: readonly SourcePhase[] = ["setup", "rounds", "preparing"];
    if (early.includes(phase())) await qemu()?.iterate();
    // Most of it QEMU knows to be dirty, and sends in the pass that is under way.
    start(this.#restSent(1));
  }

  #sendRest(): Promise<void> | undefined {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest === undefined) return undefined;
    const { pump } = this.#options;
    rest.resolve(pump.sendOwed().then(() => pump.allowSwitchover()));
    return rest.promise;
  }
}

function heldText({ gcMs, freezeMs, scrubMs, scrubbedPages, jvms }: HoldReport): string {
  const how = jvms.map(({ how: way }) => way).join(", ");
  const mebibytes = Math.round((scrubbedPages * 4096) / (1 << 20));
  const gc = jvms.length === 0 ? "" : `collection ${how} (${Math.round(gcMs)} ms), `;
  return `applications held: ${gc}freeze ${Math.round(freezeMs)} ms, ${mebibytes} MiB zeroed in ${Math.round(scrubMs)} ms`;
}
