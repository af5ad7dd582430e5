/**
 * The source's side of a migration as a pure machine: `step(state, event)` answers the next state and the effects, which
 * the session carries out in the order given. docs/protocols/migrate.md tells the whole protocol.
 *
 *   idle ─▶ setup ─▶ rounds ─▶ preparing ─▶ switchover ─▶ (verifying) ─▶ handover ─▶ done
 *             │         │  ◀───────┤             │              │            └─▶ unconfirmed
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
  setup: ["rounds", "switchover", "aborting"],
  rounds: ["preparing", "switchover", "aborting"],
  preparing: ["rounds", "switchover", "aborting"],
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
  /** The time for the whole migration has passed, and the switch-over was asked for. */
  readonly overdue: boolean;
  /** In `handover`: QEMU confirmed that it let go. */
  readonly letGo: boolean;
  /** In `handover`: the connection over which to say so is gone. */
  readonly peerLost: boolean;
  /** In `handover`: the stream was closed so that QEMU decides, and says, which of the two it is. */
  readonly stopped: boolean;
}

export type SourceEvent =
  | { readonly type: "start" }
  /** The destination's QEMU waits. */
  | { readonly type: "peer-ready" }
  /** The head of the stream has arrived and is carried. */
  | { readonly type: "stream-began" }
  | { readonly type: "round"; readonly round: Round; readonly bytesPerMs: number }
  | { readonly type: "prepared" }
  /** Applications could not be prepared: rounds go on without them. */
  | { readonly type: "unprepared" }
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
  /** They have not answered in time: all of them are let go. */
  | { readonly type: "give-up" }
  /** QEMU may stop the VM by itself as soon as at most `restBytes` are left; 0: only when nothing is. */
  | { readonly type: "arm"; readonly restBytes: number }
  | { readonly type: "force-switchover" }
  | { readonly type: "verify" }
  /** Durable note "about to hand over", then SHUT 0 to QEMU, unless the stream was closed meanwhile. */
  | { readonly type: "hand-over" }
  | { readonly type: "tell-handed-over" }
  /**
   * The connection is gone: reach the destination again, as often as it takes, to say that the VM is its own. Answers
   * `peer-running`, or `failed` when the destination answers that it cannot run it.
   */
  | { readonly type: "resolve-handed-over" }
  | { readonly type: "tell-abort"; readonly error: ErrorRecord }
  /** Closes the stream's socket: QEMU gives the migration up and resumes the VM. */
  | { readonly type: "stop-stream" }
  /** Watches until the source VM has its old run state again; answers `source-resumed` or `qemu-gone`. */
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
    overdue: false,
    letGo: false,
    peerLost: false,
    stopped: false,
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
  if (event.type === "cancel") {
    return move({ ...state, cancelled: true, error: cancelledByUser }, "cancelled", [
      { type: "finish" },
    ]);
  }
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
      if (state.phase !== "setup") return stay(state);
      return move(state, "rounds", [{ type: "clear-deadline", name: "setup" }]);
    case "round":
      return roundBegan(state, event);
    case "prepared":
      return state.phase === "preparing" ? switchOver(state) : stay(state);
    case "unprepared":
      return state.phase === "preparing" ? unprepared(state) : stay(state);
    case "vm-stopped":
      return vmStopped(state);
    case "peer-loaded":
      return peerLoaded(state, event);
    case "verified":
      return state.phase === "verifying" ? handOver(state) : disorder(state, event);
    case "deadline":
      return deadline(state, event.name);
    case "cancel":
      return abort({ ...state, cancelled: true }, cancelledByUser);
    case "failed":
    case "peer-lost":
    case "qemu-failed":
      return abort(state, event.error);
    case "qemu-gone": {
      const { state: aborting, effects } = abort(state, qemuEnded);
      const step = inAborting(aborting, event);
      // Nothing is left that could run again.
      const given = effects.filter((effect) => effect.type !== "ensure-resumed");
      return { state: step.state, effects: [...given, ...step.effects] };
    }
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

const qemuEnded: ErrorRecord = {
  code: "QEMU_EXITED",
  message: "the source QEMU ended: its VM is lost there",
};

const cancelledByUser: ErrorRecord = { code: "CANCELLED", message: "cancelled by the user" };

function roundBegan(
  state: SourceState,
  event: Extract<SourceEvent, { type: "round" }>,
): SourceStep {
  // QEMU counts its last pass, made while the VM is stopped, as a round too: nothing to decide any more.
  if (state.phase !== "rounds") return stay(state);
  const status = state.planner.roundBegan(event.round, event.bytesPerMs);
  const report: SourceEffect = { type: "report-round", round: event.round, status };
  const { decision } = status;
  if (decision.type === "go-on") {
    return stay(state, [report, { type: "arm", restBytes: decision.restBytes }]);
  }
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

/** What the planner learned was about rounds with applications' help. */
function unprepared(state: SourceState, before: readonly SourceEffect[] = []): SourceStep {
  if (state.overdue) {
    const step = switchOver(state);
    return { state: step.state, effects: [...before, ...step.effects] };
  }
  return move({ ...state, planner: new RoundPlanner(state.options) }, "rounds", [
    ...before,
    { type: "clear-deadline", name: "prepare" },
  ]);
}

function switchOver(state: SourceState): SourceStep {
  return move(state, "switchover", [
    { type: "clear-deadline", name: "prepare" },
    { type: "set-deadline", name: "switchover", ms: state.options.switchoverMs },
    { type: "force-switchover" },
  ]);
}

/**
 * Also without our decision: QEMU ends by itself when a pass leaves nothing dirty at all. An idle VM can be there before
 * the head of its stream was looked at: the two come on different sockets.
 */
function vmStopped(state: SourceState): SourceStep {
  if (state.phase === "switchover" || state.phase === "verifying") return stay(state);
  return move(state, "switchover", [
    { type: "clear-deadline", name: "setup" },
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
  const { phase, options } = state;
  // A timer may fire in the instant in which its phase ends: then it has no meaning any more.
  switch (name) {
    case "setup":
      return phase === "setup" ? timeout(state, name, options.setupMs) : stay(state);
    case "prepare":
      return phase === "preparing" ? unprepared(state, [{ type: "give-up" }]) : stay(state);
    case "switchover":
      if (phase !== "switchover" && phase !== "verifying") return stay(state);
      return timeout(state, name, options.switchoverMs);
    case "total":
      if (options.timeoutAction === "cancel" || phase === "setup") {
        return timeout(state, name, options.timeoutMs);
      }
      if (phase === "preparing") return stay({ ...state, overdue: true });
      if (phase !== "rounds") return stay(state);
      return prepare({ ...state, overdue: true }, [
        { type: "say", text: "the timeout passed: switching over now" },
      ]);
    case "handover":
    case "abort":
      return stay(state);
    default:
      return unreachable(name);
  }
}

function timeout(state: SourceState, name: SourceDeadline, ms: number): SourceStep {
  const message = `${deadlineNames[name]} took longer than ${ms} ms`;
  return abort(state, { code: "TIMEOUT", message });
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
      return letGo(state);
    case "qemu-gone":
      // A dead QEMU cannot run its VM either, and the destination has the whole state. But once its stream was closed it
      // may have run the VM again before it died: then the destination's copy is old, and a person has to decide.
      return state.stopped && !state.letGo
        ? end({ ...state, error: qemuGone }, "unconfirmed")
        : letGo(state);
    case "qemu-failed":
      // QEMU gave up before SHUT reached it, so it has resumed the VM, and nobody was told otherwise.
      return state.letGo ? stay(state) : abort(state, state.error ?? event.error);
    case "peer-running":
      // Before QEMU let go nobody was told to start the VM: a peer that says so is not to be believed.
      return state.letGo ? end(state, "done") : stay(state);
    case "peer-lost":
      return peerLostInHandover(state, event.error);
    case "failed":
      return failedInHandover(state, event.error);
    case "deadline":
      if (event.name !== "handover") return stay(state);
      if (!state.letGo && !state.stopped) return letQemuDecide(state, handoverTimeout);
      return end({ ...state, error: state.error ?? handoverTimeout }, "unconfirmed");
    case "cancel":
      return stay(state, [
        { type: "say", text: "too late to cancel: the VM is already handed over" },
      ]);
    case "start":
    case "peer-ready":
    case "stream-began":
    case "round":
    case "prepared":
    case "unprepared":
    case "vm-stopped":
    case "peer-loaded":
    case "verified":
    case "source-resumed":
      return stay(state);
    default:
      return unreachable(event);
  }
}

/**
 * Before SHUT was read the VM is better kept here than handed to somebody who cannot answer; after it, the destination is
 * told again over a new connection. QEMU knows which of the two it is.
 */
function peerLostInHandover(state: SourceState, lost: ErrorRecord): SourceStep {
  if (state.peerLost) return stay(state);
  // What the destination said before it closed the connection tells more than the loss.
  const next = { ...state, peerLost: true, error: state.error ?? lost };
  if (state.letGo) return stay(next, [{ type: "resolve-handed-over" }]);
  return state.stopped ? stay(next) : letQemuDecide(next, lost);
}

const qemuGone: ErrorRecord = {
  code: "QEMU_EXITED",
  message: "the source QEMU ended before it said whether it let go of the VM",
};

const handoverTimeout: ErrorRecord = {
  code: "TIMEOUT",
  message: "the destination did not confirm that the VM runs there",
};

/**
 * The destination, or something here, reports a failure. It ends the wait only as the answer to "resolve": otherwise the
 * destination may have said it before "handed-over" reached it, and starts the VM all the same.
 */
function failedInHandover(state: SourceState, error: ErrorRecord): SourceStep {
  if (!state.letGo) return state.stopped ? stay(state) : letQemuDecide(state, error);
  if (state.peerLost) return end({ ...state, error }, "unconfirmed");
  return stay({ ...state, error: state.error ?? error });
}

/**
 * Nobody here knows whether SHUT has reached QEMU. Closing the stream makes it answer: `completed` when it has, else
 * `failed`, and the VM runs again.
 */
function letQemuDecide(state: SourceState, error: ErrorRecord): SourceStep {
  return stay({ ...state, stopped: true, error: state.error ?? error }, [
    { type: "stop-stream" },
    { type: "set-deadline", name: "handover", ms: state.options.handoverMs },
  ]);
}

function end(state: SourceState, phase: "done" | "unconfirmed"): SourceStep {
  const error = phase === "done" ? undefined : state.error;
  return move({ ...state, error }, phase, [
    { type: "clear-deadline", name: "handover" },
    { type: "finish" },
  ]);
}

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
  const phase = state.cancelled ? "cancelled" : "failed";
  const finish: SourceEffect[] = [{ type: "clear-deadline", name: "abort" }, { type: "finish" }];
  if (event.type === "source-resumed") return move(state, phase, finish);
  if (event.type === "qemu-gone") {
    return move({ ...state, error: qemuEnded }, "failed", finish);
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
