/**
 * One migration between two hosts in virtual time, everything drawn from one seed: options, guest, network, faults and the
 * length of every operation. The two machines are the real ones; what surrounds them is modelled on what was measured.
 */
import { type ErrorRecord, Prng } from "../../src/base/index.ts";
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationOptions,
  stepDestination,
} from "../../src/migrate/destination/machine.ts";
import {
  type SourceEffect,
  type SourceEvent,
  type SourceOptions,
  stepSource,
} from "../../src/migrate/source/machine.ts";
import { type Checker, checkers } from "./checkers/index.ts";
import { VirtualClock } from "./clock.ts";
import { DestinationDaemon } from "./destination.ts";
import { drawFaults, type Fault, type FaultKind, type Side } from "./faults.ts";
import { Guest } from "./guest.ts";
import { Network } from "./network.ts";
import { SourceQemu } from "./qemu.ts";
import { SourceDaemon } from "./source.ts";

export interface Machines {
  readonly stepSource: typeof stepSource;
  readonly stepDestination: typeof stepDestination;
}
export const realMachines: Machines = { stepSource, stepDestination };

export interface WorldOptions {
  readonly source: SourceOptions;
  readonly destination: DestinationOptions;
  /** Whether the destination notes that a VM is its own before it starts it: nothing may depend on it. */
  readonly destinationJournal: boolean;
}

export interface SideOutcome {
  readonly result: string;
  readonly error: ErrorRecord | undefined;
  readonly atMs: number;
  /** The truth at that moment. */
  readonly sourceRuns: boolean;
  readonly destinationRuns: boolean;
  readonly letGo: boolean;
  /** The source QEMU had not said yet whether it lets go. */
  readonly undecided: boolean;
}

export interface TraceLine {
  readonly atMs: number;
  readonly who: string;
  readonly text: string;
  readonly effects: string;
}

/** A fault that happened, and where the two machines stood. */
export interface Hit {
  readonly fault: Fault;
  readonly source: string;
  readonly destination: string;
}

/** More events than any seed needs: a loop without end. */
const eventCountMax = 200_000;

export class World {
  readonly prng: Prng;
  readonly machines: Machines;
  readonly clock = new VirtualClock();
  readonly options: WorldOptions;
  readonly guest: Guest;
  readonly network: Network;
  readonly sourceQemu: SourceQemu;
  readonly source: SourceDaemon;
  readonly destination: DestinationDaemon;
  readonly faults: readonly Fault[];
  readonly hits: Hit[] = [];
  /** Of the faults that wait for an operation, those that found one. */
  readonly struck: FaultKind[] = [];
  readonly outcomes: { source?: SideOutcome; destination?: SideOutcome } = {};
  readonly violations: string[] = [];
  /** Undefined: nobody reads it. */
  readonly lines: TraceLine[] | undefined;
  readonly #checkers: readonly Checker[];
  readonly #planned: Set<Fault>;
  /** Faults that wait for the next operation that they can spoil. */
  readonly #armed = new Set<FaultKind>();
  #slowMs = 0;
  destinationStarted = false;
  /** The destination VM was started although the source VM had run on. */
  staleStart = false;

  constructor(seed: number, options: { trace?: boolean; machines?: Machines } = {}) {
    this.prng = new Prng(seed);
    this.machines = options.machines ?? realMachines;
    this.lines = options.trace === true ? [] : undefined;
    this.#checkers = checkers;
    this.faults = drawFaults(this.prng);
    this.#planned = new Set(this.faults);
    this.guest = new Guest(this.prng);
    this.options = drawOptions(this.prng, this.faults);
    this.network = new Network(this);
    this.sourceQemu = new SourceQemu(this);
    this.source = new SourceDaemon(this);
    this.destination = new DestinationDaemon(this);
  }

  run(): this {
    this.source.start();
    // A busy guest with `continue` never ends by itself: that is what was asked for.
    this.clock.after(300_000, () => this.source.worker?.dispatch({ type: "cancel" }));
    let eventCount = 0;
    while (this.clock.step()) {
      for (const checker of this.#checkers) this.#report(checker, checker.afterEvent?.(this));
      if (++eventCount > eventCountMax) this.claim(false, "the events never end");
      if (this.violations.length > 0) return this;
    }
    for (const checker of this.#checkers) this.#report(checker, checker.atEnd?.(this));
    return this;
  }

  /** An operation of the world, of uncertain length. */
  after(minimumMs: number, maximumMs: number, run: () => void): void {
    const ms = minimumMs + this.prng.fraction() * (maximumMs - minimumMs) + this.#slowMs;
    this.#slowMs = 0;
    this.clock.after(ms, run);
  }

  /** A monitor command to one of the two QEMUs. */
  command(side: Side, minMs: number, maxMs: number, answer: (accepted: boolean) => void): void {
    this.after(minMs, maxMs, () => {
      const refused = this.take(`${side}-qemu-refuses`);
      const dead = side === "source" && !this.sourceQemu.alive;
      answer(!refused && !dead);
    });
  }

  /** Whether this fault was waiting; it strikes once. */
  take(kind: FaultKind): boolean {
    if (!this.#armed.delete(kind)) return false;
    this.struck.push(kind);
    this.note("fault", `${kind}, now`);
    return true;
  }

  get destinationRuns(): boolean {
    return this.destination.qemu?.state === "running";
  }

  destinationStarts(): void {
    this.destinationStarted = true;
    if (this.sourceQemu.resumed) this.staleStart = true;
    this.note("destination QEMU", "runs its VM");
  }

  /** A machine has entered a phase: the faults meant for it follow. */
  entered(side: Side, phase: string): void {
    if (this.#planned.size === 0) return;
    for (const fault of this.#planned) {
      if (fault.afterPrevious || fault.side !== side || fault.phase !== phase) continue;
      this.#plan(fault);
    }
  }

  outcome(side: Side, result: string, error: ErrorRecord | undefined): void {
    this.claim(this.outcomes[side] === undefined, `${side} ended twice`);
    this.outcomes[side] = {
      result,
      error,
      atMs: this.clock.nowMs,
      sourceRuns: this.sourceQemu.vmRuns,
      destinationRuns: this.destinationRuns,
      letGo: this.sourceQemu.state === "completed" || !this.sourceQemu.alive,
      undecided: this.sourceQemu.alive && this.sourceQemu.state === "device",
    };
    this.note(side, `outcome: ${result}${error === undefined ? "" : ` (${error.message})`}`);
  }

  /** What the model itself takes for granted. */
  claim(condition: boolean, text: string): void {
    if (!condition) this.violations.push(text);
  }

  note(who: string, text: string): void {
    this.lines?.push({ atMs: this.clock.nowMs, who, text, effects: "" });
  }

  trace(
    side: Side,
    before: string,
    after: string,
    event: SourceEvent | DestinationEvent,
    effects: readonly (SourceEffect | DestinationEffect)[],
  ): void {
    if (this.lines === undefined) return;
    const phase = before === after ? before : `${before} -> ${after}`;
    this.lines.push({
      atMs: this.clock.nowMs,
      who: side,
      text: `${describe(event)}: ${phase}`,
      effects: effects.map(describe).join(", "),
    });
  }

  #plan(fault: Fault): void {
    this.#planned.delete(fault);
    this.clock.after(fault.delayMs, () => {
      this.#inject(fault);
      const next = this.faults[this.faults.indexOf(fault) + 1];
      if (next?.afterPrevious === true) this.#plan(next);
    });
  }

  #report(checker: Checker, text: string | undefined): void {
    if (text !== undefined) this.violations.push(`${checker.name}: ${text}`);
  }

  #inject(fault: Fault): void {
    const source = this.source.worker;
    const destination = this.destination.worker;
    const at = {
      source: source?.alive === true ? source.state.phase : "ended",
      destination: destination?.alive === true ? destination.state.phase : "ended",
    };
    if (!this.#strike(fault)) return;
    this.hits.push({ fault, ...at });
    this.note("fault", `${fault.kind}, ${fault.durationMs} ms`);
  }

  /** False when there is nothing left to hit. */
  #strike(fault: Fault): boolean {
    const { kind, durationMs } = fault;
    const { qemu } = this.destination;
    switch (kind) {
      case "kill-source-worker":
        return strike(this.source.worker?.alive, () => this.source.worker?.kill());
      case "kill-source-daemon":
      case "restart-source-daemon":
        return strike(this.source.alive, () =>
          this.source.kill(kind === "kill-source-daemon", durationMs),
        );
      case "kill-source-qemu":
        return strike(this.sourceQemu.alive, () => this.sourceQemu.kill());
      case "kill-destination-worker":
        return strike(this.destination.worker?.alive, () => this.destination.worker?.kill());
      case "kill-destination-daemon":
      case "restart-destination-daemon":
        return strike(this.destination.alive, () =>
          this.destination.kill(kind === "kill-destination-daemon", durationMs),
        );
      case "kill-destination-qemu":
        return strike(qemu !== undefined && qemu.state !== "gone", () => {
          if (qemu !== undefined) qemu.killed = true;
          qemu?.end();
        });
      case "cut-network":
        return strike(true, () => this.network.cut(durationMs));
      case "stall-network":
        return strike(true, () => this.network.stall(durationMs));
      case "corrupt-frame":
        return strike(true, () => {
          this.network.corruptNext = true;
        });
      case "slow":
        return strike(true, () => {
          this.#slowMs = Math.min(durationMs, 400_000);
        });
      case "cancel":
        return strike(this.source.worker?.alive, () =>
          this.source.worker?.dispatch({ type: "cancel" }),
        );
      default:
        return strike(true, () => this.#armed.add(kind));
    }
  }
}

function strike(possible: boolean | undefined, run: () => void): boolean {
  if (possible !== true) return false;
  run();
  return true;
}

function describe(thing: { readonly type: string }): string {
  const { type, ...rest } = thing;
  const fields = JSON.stringify(rest);
  return fields === "{}" ? type : `${type} ${fields}`;
}

function drawOptions(prng: Prng, faults: readonly Fault[]): WorldOptions {
  const wantsVerify = faults.some(
    (fault) => fault.kind === "verify-mismatch" || fault.phase === "verifying",
  );
  return {
    source: {
      downtimeLimitMs: prng.pick([50, 300, 1000]),
      whenStalled: prng.pick(["switch-over", "switch-over", "continue", "cancel"] as const),
      fixedMs: 30,
      verify: wantsVerify || prng.chance(0.3),
      timeoutMs: prng.pick([0, 0, 5000, 60_000]),
      timeoutAction: prng.pick(["cancel", "switch-over"] as const),
      setupMs: 60_000,
      prepareMs: 5000,
      switchoverMs: 120_000,
      handoverMs: 60_000,
      abortMs: 30_000,
    },
    destination: { prepareMs: 60_000, decideMs: 300_000, startMs: 30_000, discardMs: 15_000 },
    destinationJournal: prng.chance(0.5),
  };
}
