import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ErrorRecord } from "../../base/index.ts";
import {
  initialSourceState,
  type SourceDeadline,
  type SourceEffect,
  type SourceEvent,
  type SourceOptions,
  type SourcePhase,
  type SourceState,
  type SourceStep,
  sourceFinalPhases,
  sourceMoves,
  stepSource,
} from "./machine.ts";

const options: SourceOptions = {
  downtimeLimitMs: 300,
  whenStalled: "switch-over",
  fixedMs: 20,
  verify: false,
  timeoutMs: 0,
  timeoutAction: "cancel",
  setupMs: 60_000,
  prepareMs: 5000,
  switchoverMs: 120_000,
  handoverMs: 60_000,
  abortMs: 30_000,
};

const error: ErrorRecord = { code: "IO", message: "something broke" };
const deadlines: readonly SourceDeadline[] = [
  "setup",
  "total",
  "prepare",
  "switchover",
  "handover",
  "abort",
];
const events: readonly SourceEvent[] = [
  { type: "start" },
  { type: "peer-ready" },
  { type: "stream-began" },
  { type: "round", round: { index: 1, dirtyBytes: 1 << 30, startMs: 0 }, bytesPerMs: 1000 },
  { type: "round", round: { index: 2, dirtyBytes: 1000, startMs: 900 }, bytesPerMs: 1000 },
  { type: "round", round: { index: 3, dirtyBytes: 1 << 30, startMs: 999 }, bytesPerMs: 0 },
  { type: "prepared" },
  { type: "unprepared" },
  { type: "vm-stopped" },
  { type: "peer-loaded" },
  { type: "verified" },
  { type: "qemu-completed" },
  { type: "qemu-failed", error },
  { type: "qemu-gone" },
  { type: "peer-running" },
  { type: "failed", error },
  { type: "peer-lost", error },
  { type: "cancel" },
  ...deadlines.map((name) => ({ type: "deadline", name }) as const),
  { type: "source-resumed" },
];
const phases = Object.keys(sourceMoves) as SourcePhase[];

function isFinal(phase: SourcePhase): boolean {
  return sourceFinalPhases.includes(phase);
}

function types(effects: readonly SourceEffect[]): string[] {
  return effects.map((effect) =>
    "name" in effect ? `${effect.type} ${effect.name}` : effect.type,
  );
}

function stateIn(phase: SourcePhase, changes: Partial<SourceState> = {}): SourceState {
  return { ...initialSourceState(options), phase, ...changes };
}

/** What has to hold for every step that there is. */
function checkStep(before: SourceState, event: SourceEvent, { state, effects }: SourceStep): void {
  const what = `${event.type} in ${before.phase}`;
  const names = effects.map((effect) => effect.type);
  const moved = state.phase !== before.phase;
  if (isFinal(before.phase)) assert.deepEqual({ state, effects }, { state: before, effects: [] });
  const ends = moved && isFinal(state.phase);
  assert.equal(names.filter((name) => name === "finish").length, ends ? 1 : 0, what);
  if (ends) assert.equal(names.at(-1), "finish", what);
  if (ends && state.phase !== "done") assert.notEqual(state.error?.message ?? "", "", what);
  assert.equal(names.includes("hand-over"), moved && state.phase === "handover", what);
  if (names.includes("tell-abort")) assert.equal(before.letGo, false, what);
  if (names.includes("stop-stream")) assert.equal(before.letGo, false, what);
  if (names.includes("tell-handed-over") || names.includes("resolve-handed-over")) {
    assert.ok(state.letGo && state.phase === "handover", what);
  }
  for (const effect of effects) {
    if (effect.type === "set-deadline") assert.ok(Number.isFinite(effect.ms) && effect.ms > 0);
  }
}

test("every event in every phase gives a sane step, and the same one twice (all combinations)", () => {
  let count = 0;
  for (const phase of phases) {
    for (let bits = 0; bits < 64; bits++) {
      const flag = (bit: number): boolean => ((bits >> bit) & 1) === 1;
      const inHandover = phase === "handover";
      const changes = {
        letGo: inHandover && flag(0),
        peerLost: inHandover && flag(1),
        stopped: inHandover && flag(2),
        cancelled: flag(3),
        error: ["handover", "aborting"].includes(phase) || isFinal(phase) ? error : undefined,
        options: {
          ...options,
          verify: flag(4),
          timeoutMs: 1000,
          timeoutAction: flag(5) ? "switch-over" : "cancel",
        } as const,
      };
      for (const event of events) {
        const before = stateIn(phase, changes);
        const step = stepSource(before, event);
        checkStep(before, event, step);
        const again = stepSource(stateIn(phase, changes), event);
        assert.deepEqual(again.effects, step.effects);
        count++;
      }
    }
  }
  assert.equal(count, phases.length * 64 * events.length);
});

test("any order of events keeps the promises (random walks)", () => {
  const walk = fc.array(fc.constantFrom(...events), { maxLength: 40 });
  const property = fc.property(walk, fc.boolean(), fc.boolean(), (list, verify, timeout) => {
    let state = initialSourceState({ ...options, verify, timeoutMs: timeout ? 1000 : 0 });
    const open = new Set<string>();
    for (const event of list) {
      const step = stepSource(state, event);
      checkStep(state, event, step);
      if (state.letGo) assert.ok(!["aborting", "failed", "cancelled"].includes(step.state.phase));
      state = step.state;
      for (const effect of step.effects) {
        if (effect.type === "set-deadline") open.add(effect.name);
        if (effect.type === "clear-deadline") open.delete(effect.name);
      }
      if (event.type === "deadline") open.delete(event.name);
      if (isFinal(state.phase)) assert.deepEqual([...open], [], "a timer is left over");
      // A real timer fires only while it runs, so only walks without deadlines prove this.
      const waits = !isFinal(state.phase) && state.phase !== "idle" && state.phase !== "rounds";
      const deadlineSeen = list.some(({ type }) => type === "deadline");
      if (waits && !deadlineSeen) assert.ok(open.size > 0, `${state.phase} without a deadline`);
    }
  });
  fc.assert(property, { numRuns: 3000 });
});

test("the table of moves has no dead end and no phase that nothing reaches", () => {
  const reached = new Set<SourcePhase>(["idle"]);
  for (const phase of reached) for (const next of sourceMoves[phase]) reached.add(next);
  assert.deepEqual([...reached].toSorted(), phases.toSorted());
  for (const phase of phases) assert.equal(sourceMoves[phase].length === 0, isFinal(phase));
});

/** Feeds events one after the other; answers the last step. */
function feed(state: SourceState, ...list: readonly SourceEvent[]): SourceStep {
  let step: SourceStep = { state, effects: [] };
  for (const event of list) step = stepSource(step.state, event);
  return step;
}

const toHandover: readonly SourceEvent[] = [
  { type: "start" },
  { type: "peer-ready" },
  { type: "stream-began" },
  { type: "vm-stopped" },
  { type: "peer-loaded" },
];
const handover = (): SourceState => feed(initialSourceState(options), ...toHandover).state;
const letGo = (): SourceState => feed(handover(), { type: "qemu-completed" }).state;

test("a migration without trouble ends as done", () => {
  const round = (index: number, dirtyBytes: number): SourceEvent => {
    return { type: "round", round: { index, dirtyBytes, startMs: index * 1000 }, bytesPerMs: 1e6 };
  };
  const { state } = feed(
    initialSourceState({ ...options, verify: true }),
    { type: "start" },
    { type: "peer-ready" },
    { type: "stream-began" },
    round(1, 1e9),
    round(2, 1e6),
    { type: "prepared" },
    { type: "vm-stopped" },
    { type: "peer-loaded" },
    { type: "verified" },
    { type: "qemu-completed" },
    { type: "peer-running" },
  );
  assert.equal(state.phase, "done");
  assert.equal(state.error, undefined);
});

test("the destination is told to start only after the source QEMU has let go", () => {
  const loaded = feed(initialSourceState(options), ...toHandover);
  assert.deepEqual(types(loaded.effects).slice(-2), ["set-deadline handover", "hand-over"]);
  const completed = stepSource(loaded.state, { type: "qemu-completed" });
  assert.deepEqual(types(completed.effects), ["tell-handed-over"]);
});

test("verification comes before the hand-over, and a mismatch leaves the VM at the source", () => {
  const verifying = feed(initialSourceState({ ...options, verify: true }), ...toHandover);
  assert.equal(verifying.state.phase, "verifying");
  const mismatch = stepSource(verifying.state, { type: "failed", error });
  assert.equal(mismatch.state.phase, "aborting");
  assert.equal(stepSource(mismatch.state, { type: "source-resumed" }).state.phase, "failed");
});

test("a connection lost during the hand-over is made again once QEMU has let go (lost before)", () => {
  const lost = stepSource(handover(), { type: "peer-lost", error });
  assert.deepEqual(types(lost.effects), ["stop-stream", "set-deadline handover"]);
  const completed = stepSource(lost.state, { type: "qemu-completed" });
  assert.deepEqual(types(completed.effects), ["resolve-handed-over"]);
});

test("a connection lost before SHUT was read leaves the VM at the source", () => {
  const lost = stepSource(handover(), { type: "peer-lost", error });
  const kept = feed(lost.state, { type: "qemu-failed", error }, { type: "source-resumed" });
  assert.equal(kept.state.phase, "failed");
});

test("a connection lost during the hand-over is made again at once (lost after QEMU let go)", () => {
  const lost = stepSource(letGo(), { type: "peer-lost", error });
  assert.deepEqual(types(lost.effects), ["resolve-handed-over"]);
  assert.equal(stepSource(lost.state, { type: "peer-running" }).state.phase, "done");
});

test("QEMU that gave up before SHUT reached it keeps the VM at the source", () => {
  const step = stepSource(handover(), { type: "qemu-failed", error });
  assert.equal(step.state.phase, "aborting");
  assert.ok(types(step.effects).includes("tell-abort"));
});

// Found by the simulator: it used to end as `unconfirmed`, while QEMU resumed the VM.
test("a failure before SHUT closes the stream and lets QEMU say who has the VM (note not written)", () => {
  const step = stepSource(handover(), { type: "failed", error });
  assert.equal(step.state.phase, "handover");
  assert.deepEqual(types(step.effects), ["stop-stream", "set-deadline handover"]);
  const resumed = feed(step.state, { type: "qemu-failed", error }, { type: "source-resumed" });
  assert.equal(resumed.state.phase, "failed");
  assert.deepEqual(resumed.state.error, error);
  const completed = stepSource(step.state, { type: "qemu-completed" });
  assert.deepEqual(types(completed.effects), ["tell-handed-over"]);
});

// Found by the simulator: as above.
test("the hand-over's deadline asks QEMU first, and gives up only the second time", () => {
  const deadline: SourceEvent = { type: "deadline", name: "handover" };
  const first = stepSource(handover(), deadline);
  assert.equal(first.state.phase, "handover");
  assert.deepEqual(types(first.effects), ["stop-stream", "set-deadline handover"]);
  assert.equal(stepSource(first.state, deadline).state.phase, "unconfirmed");
  assert.equal(stepSource(letGo(), deadline).state.phase, "unconfirmed");
});

// Found by the simulator: the destination's copy would be older than what the source VM has done since.
test("a QEMU that dies after its stream was closed is not taken for one that let go", () => {
  const stopped = stepSource(handover(), { type: "failed", error }).state;
  const step = stepSource(stopped, { type: "qemu-gone" });
  assert.equal(step.state.phase, "unconfirmed");
  assert.ok(!types(step.effects).includes("tell-handed-over"));
});

test("a QEMU that dies in the hand-over has let go: the destination has the whole state", () => {
  const step = stepSource(handover(), { type: "qemu-gone" });
  assert.deepEqual(types(step.effects), ["tell-handed-over"]);
});

// Found by the simulator: the source said `unconfirmed` at once, and the destination VM ran a moment later.
test("a failure told by the destination ends the wait only as the answer to resolve", () => {
  const told = stepSource(letGo(), { type: "failed", error });
  assert.equal(told.state.phase, "handover");
  assert.equal(stepSource(told.state, { type: "peer-running" }).state.phase, "done");
  const answered = feed(told.state, { type: "peer-lost", error }, { type: "failed", error });
  assert.equal(answered.state.phase, "unconfirmed");
});

test("a destination that runs before it was told to is not believed", () => {
  assert.equal(stepSource(handover(), { type: "peer-running" }).state.phase, "handover");
});

// Found by the simulator: there was no reason in the outcome.
test("a cancelled migration has a reason, even before it began", () => {
  const { state } = stepSource(initialSourceState(options), { type: "cancel" });
  assert.deepEqual([state.phase, state.error?.code], ["cancelled", "CANCELLED"]);
});

test("it is too late to cancel once the hand-over has begun", () => {
  const step = stepSource(handover(), { type: "cancel" });
  assert.equal(step.state.phase, "handover");
  assert.deepEqual(types(step.effects), ["say"]);
});

test("a source QEMU that died is not waited for", () => {
  const rounds = feed(initialSourceState(options), ...toHandover.slice(0, 3)).state;
  const step = stepSource(rounds, { type: "qemu-gone" });
  assert.deepEqual([step.state.phase, step.state.error?.code], ["failed", "QEMU_EXITED"]);
  assert.ok(!types(step.effects).includes("ensure-resumed"));
});

test("an idle VM may stop before the head of its stream was looked at", () => {
  const setup = feed(initialSourceState(options), { type: "start" }, { type: "peer-ready" }).state;
  const stopped = stepSource(setup, { type: "vm-stopped" });
  assert.ok(types(stopped.effects).includes("set-deadline switchover"));
  const { state } = feed(stopped.state, { type: "stream-began" }, { type: "peer-loaded" });
  assert.equal(state.phase, "handover");
});

test("a timer that fires as its phase ends has no meaning", () => {
  const rounds = feed(initialSourceState(options), ...toHandover.slice(0, 3)).state;
  for (const name of ["setup", "prepare", "switchover", "handover", "abort"] as const) {
    assert.equal(stepSource(rounds, { type: "deadline", name }).state.phase, "rounds");
  }
});

test("the timeout switches over, once, when it was told to", () => {
  const own = { ...options, timeoutMs: 1000, timeoutAction: "switch-over" } as const;
  const rounds = feed(initialSourceState(own), ...toHandover.slice(0, 3)).state;
  const step = stepSource(rounds, { type: "deadline", name: "total" });
  assert.equal(step.state.phase, "preparing");
  const again = stepSource(step.state, { type: "deadline", name: "total" });
  assert.equal(again.state.phase, "preparing");
});

test("applications that do not answer in time are let go, and rounds go on without them", () => {
  const preparing = stateIn("preparing");
  const { state, effects } = stepSource(preparing, { type: "deadline", name: "prepare" });
  assert.equal(state.phase, "rounds");
  assert.deepEqual(types(effects), ["give-up", "clear-deadline prepare"]);
});

test("the time for the whole passes while applications get ready: after that nothing is waited for", () => {
  const preparing = stateIn("preparing", { options: { ...options, timeoutAction: "switch-over" } });
  const overdue = stepSource(preparing, { type: "deadline", name: "total" });
  assert.equal(overdue.state.phase, "preparing");
  const { state, effects } = stepSource(overdue.state, { type: "deadline", name: "prepare" });
  assert.equal(state.phase, "switchover");
  assert.equal(effects[0]?.type, "give-up");
  assert.ok(types(effects).includes("force-switchover"));
});

test("a VM that is not seen to run again is said to be so", () => {
  const aborting = stateIn("aborting", { error });
  const { state } = stepSource(aborting, { type: "deadline", name: "abort" });
  assert.equal(state.phase, "failed");
  assert.match(state.error?.message ?? "", /not seen to run again/);
});

test("applications that cannot be prepared: rounds go on without them, with a planner that knows nothing yet", () => {
  const before = stateIn("preparing");
  const { state, effects } = stepSource(before, { type: "unprepared" });
  assert.equal(state.phase, "rounds");
  assert.deepEqual(types(effects), ["clear-deadline prepare"]);
  assert.notEqual(state.planner, before.planner);
});

test("applications that cannot be prepared after the time for the whole has passed: the switch-over all the same", () => {
  const overdue = stepSource(
    stateIn("rounds", { options: { ...options, timeoutAction: "switch-over" } }),
    {
      type: "deadline",
      name: "total",
    },
  );
  assert.equal(overdue.state.phase, "preparing");
  const { state } = stepSource(overdue.state, { type: "unprepared" });
  assert.equal(state.phase, "switchover");
});
