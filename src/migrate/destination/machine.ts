/**
 * The destination's side of a migration as a pure machine. docs/protocols/migrate.md tells the whole protocol.
 *
 *   idle ─▶ preparing ─▶ receiving ─▶ loaded ─▶ starting ─▶ done
 *              │             │          │ │         ├─▶ failed (this QEMU died)
 *              └─────────────┴──────────┘ └─────────┴─▶ uncertain
 *                      discarding ─▶ failed
 *
 * The VM here is started on one word only, "handed-over", which the source says after its own QEMU has let go. From
 * "loaded" on it may be the only copy, and nobody here can know: so it is thrown away on the source's word "abort" only.
 * Whatever else goes wrong, it is kept, stopped (`uncertain`), until the source or an operator decides. Before "loaded"
 * the answer is always: throw it away.
 */
import { type ErrorRecord, unreachable } from "../../base/index.ts";

export type DestinationPhase =
  | "idle"
  | "preparing"
  | "receiving"
  | "loaded"
  | "starting"
  | "discarding"
  | "done"
  | "uncertain"
  | "failed";

export const destinationMoves: Readonly<Record<DestinationPhase, readonly DestinationPhase[]>> = {
  idle: ["preparing", "failed"],
  preparing: ["receiving", "discarding"],
  receiving: ["loaded", "discarding"],
  loaded: ["starting", "discarding", "uncertain"],
  starting: ["done", "uncertain", "failed"],
  discarding: ["failed"],
  done: [],
  uncertain: [],
  failed: [],
};

export const destinationFinalPhases: readonly DestinationPhase[] = ["done", "uncertain", "failed"];

export type DestinationDeadline = "prepare" | "idle" | "decide" | "start" | "discard";

export interface DestinationOptions {
  readonly prepareMs: number;
  /** From "loaded" until the source decides, verification included. */
  readonly decideMs: number;
  readonly startMs: number;
  readonly discardMs: number;
}

export interface DestinationState {
  readonly phase: DestinationPhase;
  readonly options: DestinationOptions;
  readonly error: ErrorRecord | undefined;
}

export type DestinationEvent =
  | { readonly type: "offer" }
  | { readonly type: "vm-prepared" }
  /** The destination QEMU has loaded everything and says so on its return path. */
  | { readonly type: "qemu-loaded" }
  | { readonly type: "verify" }
  | { readonly type: "handed-over" }
  | { readonly type: "vm-started" }
  | { readonly type: "qemu-gone"; readonly error: ErrorRecord }
  | { readonly type: "failed"; readonly error: ErrorRecord }
  | { readonly type: "abort"; readonly error: ErrorRecord }
  | { readonly type: "peer-lost"; readonly error: ErrorRecord }
  | { readonly type: "deadline"; readonly name: DestinationDeadline }
  | { readonly type: "discarded" };

export type DestinationEffect =
  | { readonly type: "prepare-vm" }
  | { readonly type: "tell-ready" }
  | { readonly type: "tell-loaded" }
  | { readonly type: "hash" }
  /** Durable note that this VM is now ours, then `cont`. */
  | { readonly type: "start-vm" }
  | { readonly type: "tell-running" }
  | { readonly type: "tell-failed"; readonly error: ErrorRecord }
  /** Ends the QEMU that was started for this; one that was adopted is left alone, its stream closed. */
  | { readonly type: "discard-vm" }
  | { readonly type: "set-deadline"; readonly name: DestinationDeadline; readonly ms: number }
  | { readonly type: "clear-deadline"; readonly name: DestinationDeadline }
  | { readonly type: "finish" };

export interface DestinationStep {
  readonly state: DestinationState;
  readonly effects: readonly DestinationEffect[];
}

export function initialDestinationState(options: DestinationOptions): DestinationState {
  return { phase: "idle", options, error: undefined };
}

export function stepDestination(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (state.phase) {
    case "idle":
      return idle(state, event);
    case "preparing":
    case "receiving":
    case "loaded":
      return beforeStart(state, event);
    case "starting":
      return starting(state, event);
    case "discarding":
      if (event.type !== "discarded" && event.type !== "deadline") return stay(state);
      return move(state, "failed", [
        { type: "clear-deadline", name: "discard" },
        { type: "finish" },
      ]);
    case "done":
    case "uncertain":
    case "failed":
      return stay(state);
    default:
      return unreachable(state.phase);
  }
}

function idle(state: DestinationState, event: DestinationEvent): DestinationStep {
  if (event.type === "offer") {
    return move(state, "preparing", [
      { type: "set-deadline", name: "prepare", ms: state.options.prepareMs },
      { type: "prepare-vm" },
    ]);
  }
  if (event.type === "deadline")
    return refuse(state, { code: "TIMEOUT", message: deadlineTexts.idle });
  if (event.type === "failed" || event.type === "peer-lost" || event.type === "abort") {
    return refuse(state, event.error);
  }
  return stay(state);
}

function refuse(state: DestinationState, error: ErrorRecord): DestinationStep {
  return move({ ...state, error }, "failed", [{ type: "tell-failed", error }, { type: "finish" }]);
}

function beforeStart(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case "vm-prepared":
      if (state.phase !== "preparing") return disorder(state, event);
      return move(state, "receiving", [
        { type: "clear-deadline", name: "prepare" },
        { type: "tell-ready" },
      ]);
    case "qemu-loaded":
      if (state.phase !== "receiving") return disorder(state, event);
      return move(state, "loaded", [
        { type: "set-deadline", name: "decide", ms: state.options.decideMs },
        { type: "tell-loaded" },
      ]);
    case "verify":
      return state.phase === "loaded" ? stay(state, [{ type: "hash" }]) : disorder(state, event);
    case "handed-over":
      if (state.phase !== "loaded") return disorder(state, event);
      return move({ ...state, error: undefined }, "starting", [
        { type: "clear-deadline", name: "decide" },
        { type: "set-deadline", name: "start", ms: state.options.startMs },
        { type: "start-vm" },
      ]);
    case "peer-lost":
      return state.phase === "loaded" ? uncertain(state, event.error) : discard(state, event.error);
    case "deadline":
      return deadline(state, event.name);
    case "failed":
      return state.phase === "loaded" ? complain(state, event.error) : discard(state, event.error);
    case "abort":
    case "qemu-gone":
      return discard(state, event.error);
    case "offer":
      return disorder(state, event);
    case "vm-started":
    case "discarded":
      return stay(state);
    default:
      return unreachable(event);
  }
}

function deadline(state: DestinationState, name: DestinationDeadline): DestinationStep {
  const error: ErrorRecord = { code: "TIMEOUT", message: deadlineTexts[name] };
  // A timer may fire in the instant in which its phase ends: then it has no meaning any more.
  switch (name) {
    case "prepare":
      return state.phase === "preparing" ? discard(state, error) : stay(state);
    case "idle":
      return state.phase === "loaded" ? uncertain(state, error) : discard(state, error);
    case "decide":
      return state.phase === "loaded" ? uncertain(state, error) : stay(state);
    case "start":
    case "discard":
      return stay(state);
    default:
      return unreachable(name);
  }
}

const deadlineTexts: Readonly<Record<DestinationDeadline, string>> = {
  prepare: "the destination QEMU was not ready in time",
  idle: "the source sent nothing for too long",
  decide: "the source did not say whether it handed over",
  start: "the VM did not start in time",
  discard: "the destination QEMU did not end in time",
};

function uncertain(state: DestinationState, error: ErrorRecord): DestinationStep {
  return move({ ...state, error: state.error ?? error }, "uncertain", [
    { type: "clear-deadline", name: "decide" },
    { type: "finish" },
  ]);
}

/** In `loaded` a failure is told, once, but the source decides what becomes of the VM. */
function complain(state: DestinationState, error: ErrorRecord): DestinationStep {
  if (state.error !== undefined) return stay(state);
  return stay({ ...state, error }, [{ type: "tell-failed", error }]);
}

function starting(state: DestinationState, event: DestinationEvent): DestinationStep {
  switch (event.type) {
    case "vm-started":
      return move(state, "done", [
        { type: "clear-deadline", name: "start" },
        { type: "tell-running" },
        { type: "finish" },
      ]);
    case "qemu-gone":
      return notStarted(state, "failed", event.error);
    // The only copy: kept, so that the next "resolve", or an operator, tries again. Nobody can cancel it any more.
    case "failed":
      if (event.error.code === "CANCELLED") return stay(state);
      return notStarted(state, "uncertain", event.error);
    case "deadline":
      if (event.name !== "start") return stay(state);
      return notStarted(state, "uncertain", { code: "TIMEOUT", message: deadlineTexts.start });
    default:
      // The source has let go, so a lost connection changes nothing.
      return stay(state);
  }
}

function notStarted(
  state: DestinationState,
  phase: "uncertain" | "failed",
  error: ErrorRecord,
): DestinationStep {
  return move({ ...state, error }, phase, [
    { type: "clear-deadline", name: "start" },
    { type: "tell-failed", error },
    { type: "finish" },
  ]);
}

function discard(state: DestinationState, error: ErrorRecord): DestinationStep {
  return move({ ...state, error: state.error ?? error }, "discarding", [
    { type: "clear-deadline", name: "prepare" },
    { type: "clear-deadline", name: "decide" },
    { type: "set-deadline", name: "discard", ms: state.options.discardMs },
    { type: "tell-failed", error },
    { type: "discard-vm" },
  ]);
}

function disorder(state: DestinationState, event: DestinationEvent): DestinationStep {
  const error: ErrorRecord = {
    code: "PROTOCOL_ORDER",
    message: `"${event.type}" while the destination is in phase ${state.phase}`,
  };
  return state.phase === "loaded" ? complain(state, error) : discard(state, error);
}

function stay(
  state: DestinationState,
  effects: readonly DestinationEffect[] = [],
): DestinationStep {
  return { state, effects };
}

function move(
  state: DestinationState,
  phase: DestinationPhase,
  effects: readonly DestinationEffect[],
): DestinationStep {
  if (!destinationMoves[state.phase].includes(phase)) {
    throw new Error(`the destination machine cannot move from ${state.phase} to ${phase}`);
  }
  return { state: { ...state, phase }, effects };
}
