/**
 * The source's side of a migration as a pure machine: `step(state, event)` answers the next state and the effects, which
 * the session carries out in the order given. docs/protocols/migrate.md tells the whole protocol.
 *
 *   idle ─▶ setup ─▶ rounds ─▶ preparing ─▶ switchover ─▶ (verifying) ─▶ handover ─▶ done
 *             │         │          │             │              │            └─▶ unconfirmed
 *             └─────────┴──────────┴─────────────┴──────────────┴─▶ aborting ─▶ failed | cancelled
 *
 * The one instant that matters is the entry into `handover`: there the session writes SHUT 0 to the source QEMU's return
 * path. Before it, the source QEMU holds its VM ready to run and resumes it by itself as soon as the stream's socket
 * closes, even if this process is killed. After it, QEMU has let go of the VM and nothing here ever starts it again.
 */
import { type ErrorRecord, unreachable } from "../../base/index.ts";
import { type Round, type RoundOptions, RoundPlanner, type RoundStatus } from "../rounds.ts";

export type SourcePhase =
  | "idle"
  | "setup"
  | "rounds"
  | "preparing"
  | "switchover"
  | "verifying"
  | "handover"
  | "aborting"
  | "done"
  | "unconfirmed"
  | "failed"
  | "cancelled";

/** Every legal move; `to` throws on any other. */
export const sourceMoves: Readonly<Record<SourcePhase, readonly SourcePhase[]>> = {
  idle: ["setup", "cancelled"],
  setup: ["rounds", "aborting"],
  rounds: ["preparing", "switchover", "aborting"],
  preparing: ["switchover", "aborting"],
  switchover: ["verifying", "handover", "aborting"],
  verifying: ["handover", "aborting"],
  handover: ["done", "unconfirmed", "aborting"],
  aborting: ["failed", "cancelled"],
  done: [],
  unconfirmed: [],
  failed: [],
  cancelled: [],
};

export const sourceFinalPhases: readonly SourcePhase[] = [
  "done",
  "unconfirmed",
  "failed",
  "cancelled",
];

export type SourceDeadline = "setup" | "total" | "prepare" | "switchover" | "handover" | "abort";

export interface SourceOptions extends RoundOptions {
  readonly verify: boolean;
  /** 0 = none. */
  readonly timeoutMs: number;
  readonly timeoutAction: "cancel" | "switch-over";
  readonly setupMs: number;
  readonly prepareMs: number;
  /** From the decision until the destination has everything, verification included. */
  readonly switchoverMs: number;
  /** From SHUT until the destination runs. */
  readonly handoverMs: number;
  readonly abortMs: number;
}

export interface SourceState {
  readonly phase: SourcePhase;
  readonly options: SourceOptions;
  readonly planner: RoundPlanner;
  /** Why the migration is being or was given up. */
  readonly error: ErrorRecord | undefined;
  readonly cancelled: boolean;
  /** In `handover`: QEMU confirmed that it let go. */
  readonly letGo: boolean;
  /** In `handover`: the connection over which to say so is gone. */
  readonly peerLost: boolean;
}

export type SourceEvent =
  | { readonly type: "start" }
  /** The destination's QEMU waits. */
  | { readonly type: "peer-ready" }
  /** The head of the stream has arrived and is carried. */
  | { readonly type: "stream-began" }
  | { readonly type: "round"; readonly round: Round; readonly bytesPerMs: number }
  | { readonly type: "prepared" }
  /** QEMU stopped the VM, decided or by itself when nothing was left to send. */
  | { readonly type: "vm-stopped" }
  | { readonly type: "peer-loaded" }
  | { readonly type: "verified" }
  /** QEMU's migration state is `completed`: it will not run the VM again by itself. */
  | { readonly type: "qemu-completed" }
  /** QEMU's migration state is `failed` or `cancelled`: it runs the VM again. */
  | { readonly type: "qemu-failed"; readonly error: ErrorRecord }
  /** The source QEMU's process is known to be dead. */
  | { readonly type: "qemu-gone" }
  | { readonly type: "peer-running" }
  /** The stream, a file, a QMP command, a hash: whatever makes it impossible to go on. */
  | { readonly type: "failed"; readonly error: ErrorRecord }
  | { readonly type: "peer-lost"; readonly error: ErrorRecord }
  | { readonly type: "cancel" }
  | { readonly type: "deadline"; readonly name: SourceDeadline }
  /** In `aborting`: the source VM is seen in the run state it had before. */
  | { readonly type: "source-resumed" };

export type SourceEffect =
  | { readonly type: "offer" }
  | { readonly type: "start-stream" }
  | { readonly type: "report-round"; readonly round: Round; readonly status: RoundStatus }
  | { readonly type: "say"; readonly text: string }
  /** Asks applications to get ready (assistance); answers `prepared`, at once when there are none. */
  | { readonly type: "prepare" }
  | { readonly type: "force-switchover" }
  | { readonly type: "verify" }
  /** Durable note "about to hand over", then SHUT 0 to QEMU. */
  | { readonly type: "hand-over" }
  | { readonly type: "tell-handed-over" }
  /** The connection is gone: reach the destination again to say that the VM is its own. Answers `peer-running`. */
  | { readonly type: "resolve-handed-over" }
  | { readonly type: "tell-abort"; readonly error: ErrorRecord }
  /** Closes the stream's socket: QEMU gives the migration up and resumes the VM. */
  | { readonly type: "stop-stream" }
  /** Watches until the source VM has its old run state again; answers `source-resumed`. */
  | { readonly type: "ensure-resumed" }
  | { readonly type: "set-deadline"; readonly name: SourceDeadline; readonly ms: number }
  | { readonly type: "clear-deadline"; readonly name: SourceDeadline }
  | { readonly type: "finish" };

export interface SourceStep {
  readonly state: SourceState;
  readonly effects: readonly SourceEffect[];
}

export function initialSourceState(options: SourceOptions): SourceState {
  return {
    phase: "idle",
    options,
    planner: new RoundPlanner(options),
    error: undefined,
    cancelled: false,
    letGo: false,
    peerLost: false,
  };
}

/** Pure but for the planner's memory of past rounds, which belongs to the state that is handed on. */
export function stepSource(state: SourceState, event: SourceEvent): SourceStep {
  switch (state.phase) {
    case "idle":
      return idle(state, event);
    case "setup":
    case "rounds":
    case "preparing":
    case "switchover":
    case "verifying":
      return beforeHandover(state, event);
    case "handover":
      return inHandover(state, event);
    case "aborting":
      return inAborting(state, event);
    case "done":
    case "unconfirmed":
    case "failed":
    case "cancelled":
      return stay(state);
    default:
      return unreachable(state.phase);
  }
}

function idle(state: SourceState, event: SourceEvent): SourceStep {
  if (event.type === "cancel") return move(state, "cancelled", [{ type: "finish" }]);
  if (event.type !== "start") return stay(state);
  const { setupMs, timeoutMs } = state.options;
  const effects: SourceEffect[] = [{ type: "set-deadline", name: "setup", ms: setupMs }];
  if (timeoutMs > 0) effects.push({ type: "set-deadline", name: "total", ms: timeoutMs });
  effects.push({ type: "offer" });
  return move(state, "setup", effects);
}

/** All that may happen while the source VM can still simply go on. */
function beforeHandover(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case "peer-ready":
      return state.phase === "setup"
        ? stay(state, [{ type: "start-stream" }])
        : disorder(state, event);
    case "stream-began":
      if (state.phase !== "setup") return disorder(state, event);
      return move(state, "rounds", [{ type: "clear-deadline", name: "setup" }]);
    case "round":
      return roundBegan(state, event);
    case "prepared":
      return state.phase === "preparing" ? switchOver(state) : stay(state);
    case "vm-stopped":
      return vmStopped(state);
    case "peer-loaded":
      return peerLoaded(state, event);
    case "verified":
      return state.phase === "verifying" ? handOver(state) : disorder(state, event);
    case "deadline":
      return deadline(state, event.name);
    case "cancel":
      return abort(
        { ...state, cancelled: true },
        { code: "CANCELLED", message: "cancelled by the user" },
      );
    case "failed":
    case "peer-lost":
    case "qemu-failed":
      return abort(state, event.error);
    case "qemu-gone":
      return abort(state, {
        code: "QEMU_EXITED",
        message: "the source QEMU ended: its VM is lost there",
      });
    case "qemu-completed":
    case "peer-running":
      return disorder(state, event);
    case "start":
    case "source-resumed":
      return stay(state);
    default:
      return unreachable(event);
  }
}

function roundBegan(
  state: SourceState,
  event: Extract<SourceEvent, { type: "round" }>,
): SourceStep {
  // QEMU counts its last pass, made while the VM is stopped, as a round too: nothing to decide any more.
  if (state.phase !== "rounds") return stay(state);
  const status = state.planner.roundBegan(event.round, event.bytesPerMs);
  const report: SourceEffect = { type: "report-round", round: event.round, status };
  const { decision } = status;
  if (decision.type === "go-on") return stay(state, [report]);
  if (decision.type === "cancel") {
    const step = abort(
      { ...state, cancelled: true },
      { code: "CANCELLED", message: decision.text },
    );
    return { state: step.state, effects: [report, ...step.effects] };
  }
  return prepare(state, [report, { type: "say", text: decision.text }]);
}

function prepare(state: SourceState, before: readonly SourceEffect[]): SourceStep {
  return move(state, "preparing", [
    ...before,
    { type: "set-deadline", name: "prepare", ms: state.options.prepareMs },
    { type: "prepare" },
  ]);
}

function switchOver(state: SourceState): SourceStep {
  return move(state, "switchover", [
    { type: "clear-deadline", name: "prepare" },
    { type: "set-deadline", name: "switchover", ms: state.options.switchoverMs },
    { type: "force-switchover" },
  ]);
}

/** Also without our decision: QEMU ends by itself when a pass leaves nothing dirty at all. */
function vmStopped(state: SourceState): SourceStep {
  if (state.phase !== "rounds" && state.phase !== "preparing") return stay(state);
  return move(state, "switchover", [
    { type: "clear-deadline", name: "prepare" },
    { type: "set-deadline", name: "switchover", ms: state.options.switchoverMs },
  ]);
}

function peerLoaded(state: SourceState, event: SourceEvent): SourceStep {
  // The event of the VM's stop and the peer's word come on different sockets: either may be first.
  if (state.phase === "rounds" || state.phase === "preparing") {
    const stopped = vmStopped(state);
    const loaded = peerLoaded(stopped.state, event);
    return { state: loaded.state, effects: [...stopped.effects, ...loaded.effects] };
  }
  if (state.phase !== "switchover") return disorder(state, event);
  if (state.options.verify) return move(state, "verifying", [{ type: "verify" }]);
  return handOver(state);
}

function handOver(state: SourceState): SourceStep {
  return move(state, "handover", [
    { type: "clear-deadline", name: "switchover" },
    { type: "clear-deadline", name: "total" },
    { type: "set-deadline", name: "handover", ms: state.options.handoverMs },
    { type: "hand-over" },
  ]);
}

function deadline(state: SourceState, name: SourceDeadline): SourceStep {
  if (name === "prepare") return state.phase === "preparing" ? switchOver(state) : stay(state);
  if (name === "total") {
    if (state.options.timeoutAction === "switch-over" && state.phase === "rounds") {
      return prepare(state, [{ type: "say", text: "the timeout passed: switching over now" }]);
    }
    if (state.options.timeoutAction === "switch-over" && state.phase !== "setup")
      return stay(state);
  }
  const ms = name === "total" ? state.options.timeoutMs : state.options.switchoverMs;
  const shown = name === "setup" ? state.options.setupMs : ms;
  return abort(state, {
    code: "TIMEOUT",
    message: `${deadlineNames[name]} took longer than ${shown} ms`,
  });
}

const deadlineNames: Readonly<Record<SourceDeadline, string>> = {
  setup: "setting up the migration",
  total: "the migration",
  prepare: "preparing the applications",
  switchover: "the switch-over",
  handover: "the hand-over",
  abort: "giving up",
};

function inHandover(state: SourceState, event: SourceEvent): SourceStep {
  switch (event.type) {
    case "qemu-completed":
    // A dead QEMU cannot run its VM either, and the destination has the whole state.
    case "qemu-gone":
      return letGo(state);
    case "qemu-failed":
      // QEMU gave up before SHUT reached it, so it has resumed the VM, and nobody was told otherwise.
      return state.letGo ? stay(state) : abort(state, event.error);
    case "peer-running":
      return move(state, "done", [
        { type: "clear-deadline", name: "handover" },
        { type: "finish" },
      ]);
    case "peer-lost":
      if (state.peerLost) return stay(state);
      return stay(
        { ...state, peerLost: true, error: event.error },
        state.letGo ? [{ type: "resolve-handed-over" }] : [],
      );
    case "failed":
      return move({ ...state, error: event.error }, "unconfirmed", [{ type: "finish" }]);
    case "deadline":
      if (event.name !== "handover") return stay(state);
      return move({ ...state, error: state.error ?? handoverTimeout }, "unconfirmed", [
        { type: "finish" },
      ]);
    case "cancel":
      return stay(state, [
        { type: "say", text: "too late to cancel: the VM is already handed over" },
      ]);
    case "start":
    case "peer-ready":
    case "stream-began":
    case "round":
    case "prepared":
    case "vm-stopped":
    case "peer-loaded":
    case "verified":
    case "source-resumed":
      return stay(state);
    default:
      return unreachable(event);
  }
}

const handoverTimeout: ErrorRecord = {
  code: "TIMEOUT",
  message: "the destination did not confirm that the VM runs there",
};

function letGo(state: SourceState): SourceStep {
  if (state.letGo) return stay(state);
  return stay({ ...state, letGo: true }, [
    state.peerLost ? { type: "resolve-handed-over" } : { type: "tell-handed-over" },
  ]);
}

function abort(state: SourceState, error: ErrorRecord): SourceStep {
  return move({ ...state, error }, "aborting", [
    { type: "clear-deadline", name: "setup" },
    { type: "clear-deadline", name: "total" },
    { type: "clear-deadline", name: "prepare" },
    { type: "clear-deadline", name: "switchover" },
    { type: "clear-deadline", name: "handover" },
    { type: "set-deadline", name: "abort", ms: state.options.abortMs },
    { type: "tell-abort", error },
    { type: "stop-stream" },
    { type: "ensure-resumed" },
  ]);
}

function inAborting(state: SourceState, event: SourceEvent): SourceStep {
  const end = state.cancelled ? "cancelled" : "failed";
  const finish: SourceEffect[] = [{ type: "clear-deadline", name: "abort" }, { type: "finish" }];
  if (event.type === "source-resumed") return move(state, end, finish);
  if (event.type === "qemu-gone") {
    const message = "the source QEMU ended";
    return move({ ...state, error: { code: "QEMU_EXITED", message } }, "failed", finish);
  }
  if (event.type === "deadline" && event.name === "abort") {
    const message = `${state.error?.message ?? "failed"}; and the source VM was not seen to run again`;
    return move({ ...state, error: { code: "TIMEOUT", message } }, "failed", finish);
  }
  return stay(state);
}

/** A message that has no meaning now: the peer, or this program, is not what it says. */
function disorder(state: SourceState, event: SourceEvent): SourceStep {
  return abort(state, {
    code: "PROTOCOL_ORDER",
    message: `"${event.type}" while the source is in phase ${state.phase}`,
  });
}

function stay(state: SourceState, effects: readonly SourceEffect[] = []): SourceStep {
  return { state, effects };
}

function move(
  state: SourceState,
  phase: SourcePhase,
  effects: readonly SourceEffect[],
): SourceStep {
  if (!sourceMoves[state.phase].includes(phase)) {
    throw new Error(`the source machine cannot move from ${state.phase} to ${phase}`);
  }
  return { state: { ...state, phase }, effects };
}
