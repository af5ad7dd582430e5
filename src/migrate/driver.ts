/**
 * Runs a pure machine: feeds it one event at a time, has its effects carried out in the order given, and keeps its deadlines.
 * An event that comes while effects are carried out waits its turn. The same for both ends; what effects mean is the
 * sessions' affair.
 */
import type { Clock } from "../io/index.ts";
import { type FaultPoint, FaultPoints } from "./fault-point.ts";

/** What every machine's effects may include; the driver carries these out itself. */
interface DeadlineEffect {
  readonly type: "set-deadline" | "clear-deadline";
  readonly name: string;
  readonly ms?: number;
}

export interface DriverOptions<State, Event, Effect> {
  readonly clock: Clock;
  readonly state: State;
  readonly step: (state: State, event: Event) => { state: State; effects: readonly Effect[] };
  readonly finalPhases: readonly string[];
  readonly stopAt: FaultPoint | undefined;
  /** After a change of phase, before the effects. */
  readonly entered: () => void;
  readonly perform: (effect: Effect) => void;
}

export class Driver<
  State extends { readonly phase: string },
  Event extends { readonly type: string },
  Effect extends { readonly type: string },
> {
  state: State;
  readonly #options: DriverOptions<State, Event, Effect>;
  readonly #faults: FaultPoints;
  readonly #timers = new Map<string, () => void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly #events: Event[] = [];
  #dispatching = false;

  constructor(options: DriverOptions<State, Event, Effect>) {
    this.#options = options;
    this.state = options.state;
    this.#faults = new FaultPoints(options.stopAt);
  }

  /** Resolves when a final phase is reached, or by `finish`. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  dispatch(event: Event): void {
    this.#events.push(event);
    if (this.#dispatching) return;
    this.#dispatching = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        this.#step(next);
      }
    } finally {
      this.#dispatching = false;
    }
  }

  setDeadline(name: string, ms: number): void {
    this.clearDeadline(name);
    // Every machine has this event; its names are the machine's own.
    const event = { type: "deadline", name } as unknown as Event;
    this.#timers.set(
      name,
      this.#options.clock.after(ms, () => this.dispatch(event)),
    );
  }

  clearDeadline(name: string): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }

  /** For an end outside the machine. */
  finish(): void {
    this.#ended.resolve();
  }

  /** No deadline passes after this. */
  close(): void {
    for (const stop of this.#timers.values()) stop();
    this.#timers.clear();
  }

  #step(event: Event): void {
    const { step, entered, finalPhases } = this.#options;
    const { state, effects } = step(this.state, event);
    const changed = state.phase !== this.state.phase;
    this.state = state;
    if (changed) {
      entered();
      this.#faults.arrived(`phase:${state.phase}`);
    }
    for (const effect of effects) {
      this.#faults.arrived(`effect:${effect.type}`);
      this.#perform(effect);
    }
    if (finalPhases.includes(state.phase)) this.#ended.resolve();
  }

  #perform(effect: Effect): void {
    if (isDeadline(effect)) {
      if (effect.type === "set-deadline") this.setDeadline(effect.name, effect.ms ?? 0);
      else this.clearDeadline(effect.name);
    } else this.#options.perform(effect);
  }
}

function isDeadline(effect: { readonly type: string }): effect is DeadlineEffect {
  return effect.type === "set-deadline" || effect.type === "clear-deadline";
}
