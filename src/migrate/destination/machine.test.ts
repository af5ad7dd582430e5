import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ErrorRecord } from "../../base/index.ts";
import {
  type DestinationDeadline,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationOptions,
  type DestinationPhase,
  type DestinationState,
  type DestinationStep,
  destinationFinalPhases,
  destinationMoves,
  initialDestinationState,
  stepDestination,
} from "./machine.ts";

const options: DestinationOptions = {
  prepareMs: 60_000,
  decideMs: 300_000,
  startMs: 30_000,
  discardMs: 15_000,
};
const error: ErrorRecord = { code: "IO", message: "something broke" };
const deadlines: readonly DestinationDeadline[] = ["prepare", "idle", "decide", "start", "discard"];
const events: readonly DestinationEvent[] = [
  { type: "offer" },
  { type: "vm-prepared" },
  { type: "qemu-loaded" },
  { type: "verify" },
  { type: "handed-over" },
  { type: "vm-started" },
  { type: "qemu-gone", error },
  { type: "failed", error },
  { type: "failed", error: { code: "CANCELLED", message: "cancelled at the destination" } },
  { type: "abort", error },
  { type: "peer-lost", error },
  ...deadlines.map((name) => ({ type: "deadline", name }) as const),
  { type: "discarded" },
];
const phases = Object.keys(destinationMoves) as DestinationPhase[];

function isFinal(phase: DestinationPhase): boolean {
  return destinationFinalPhases.includes(phase);
}

function types(effects: readonly DestinationEffect[]): string[] {
  return effects.map((effect) =>
    "name" in effect ? `${effect.type} ${effect.name}` : effect.type,
  );
}

function stateIn(phase: DestinationPhase): DestinationState {
  return { ...initialDestinationState(options), phase };
}

/** What has to hold for every step that there is. */
function checkStep(before: DestinationState, event: DestinationEvent, step: DestinationStep): void {
  const { state, effects } = step;
  const what = `${event.type} in ${before.phase}`;
  const names = effects.map((effect) => effect.type);
  const moved = state.phase !== before.phase;
  if (isFinal(before.phase)) assert.deepEqual(step, { state: before, effects: [] });
  const ends = moved && isFinal(state.phase);
  assert.equal(names.filter((name) => name === "finish").length, ends ? 1 : 0, what);
  if (ends) assert.equal(names.at(-1), "finish", what);
  if (ends && state.phase !== "done") assert.notEqual(state.error?.message ?? "", "", what);
  const told = before.phase === "loaded" && event.type === "handed-over";
  assert.equal(names.includes("start-vm"), told, what);
  assert.equal(names.includes("tell-running"), moved && state.phase === "done", what);
  if (names.includes("discard-vm")) {
    assert.notEqual(before.phase, "starting", what);
    const mayBeTheOnlyCopy = before.phase === "loaded";
    if (mayBeTheOnlyCopy) assert.ok(event.type === "abort" || event.type === "qemu-gone", what);
  }
  for (const effect of effects) {
    if (effect.type === "set-deadline") assert.ok(Number.isFinite(effect.ms) && effect.ms > 0);
  }
}

test("every event in every phase gives a sane step, and the same one twice (all combinations)", () => {
  for (const phase of phases) {
    for (const known of [undefined, error]) {
      const before = { ...stateIn(phase), error: isFinal(phase) ? error : known };
      for (const event of events) {
        // An error stands in the state of a VM that is given up only.
        if (phase === "discarding" && known === undefined) continue;
        const step = stepDestination(before, event);
        checkStep(before, event, step);
        assert.deepEqual(stepDestination(before, event), step);
      }
    }
  }
});

test("any order of events keeps the promises (random walks)", () => {
  const walk = fc.array(fc.constantFrom(...events), { maxLength: 30 });
  const property = fc.property(walk, (list) => {
    let state = initialDestinationState(options);
    const open = new Set<string>();
    let handedOver = false;
    for (const event of list) {
      const step = stepDestination(state, event);
      checkStep(state, event, step);
      handedOver ||= state.phase === "loaded" && event.type === "handed-over";
      state = step.state;
      if (state.phase === "starting" || state.phase === "done") assert.ok(handedOver);
      for (const effect of step.effects) {
        if (effect.type === "set-deadline") open.add(effect.name);
        if (effect.type === "clear-deadline") open.delete(effect.name);
      }
      if (event.type === "deadline") open.delete(event.name);
      if (isFinal(state.phase)) assert.deepEqual([...open], [], "a timer is left over");
      const waits = ["preparing", "loaded", "starting", "discarding"].includes(state.phase);
      const deadlineSeen = list.some(({ type }) => type === "deadline");
      if (waits && !deadlineSeen) assert.ok(open.size > 0, `${state.phase} without a deadline`);
    }
  });
  fc.assert(property, { numRuns: 3000 });
});

test("the table of moves has no dead end and no phase that nothing reaches", () => {
  const reached = new Set<DestinationPhase>(["idle"]);
  for (const phase of reached) for (const next of destinationMoves[phase]) reached.add(next);
  assert.deepEqual([...reached].toSorted(), phases.toSorted());
  for (const phase of phases) assert.equal(destinationMoves[phase].length === 0, isFinal(phase));
});

/** Feeds events one after the other; answers the last step. */
function feed(...list: readonly DestinationEvent[]): DestinationStep {
  let step: DestinationStep = { state: initialDestinationState(options), effects: [] };
  for (const event of list) step = stepDestination(step.state, event);
  return step;
}

const toLoaded: readonly DestinationEvent[] = [
  { type: "offer" },
  { type: "vm-prepared" },
  { type: "qemu-loaded" },
];

test("a migration without trouble ends as done", () => {
  const step = feed(...toLoaded, { type: "handed-over" }, { type: "vm-started" });
  assert.deepEqual([step.state.phase, step.state.error], ["done", undefined]);
  assert.deepEqual(types(step.effects), ["clear-deadline start", "tell-running", "finish"]);
});

test("the VM is started on the word handed-over, and not before", () => {
  assert.deepEqual(types(feed(...toLoaded).effects), ["set-deadline decide", "tell-loaded"]);
  assert.ok(types(feed(...toLoaded, { type: "handed-over" }).effects).includes("start-vm"));
});

test("a VM that is not whole is thrown away when the connection ends", () => {
  const step = feed(...toLoaded.slice(0, 2), { type: "peer-lost", error });
  assert.equal(step.state.phase, "discarding");
  assert.ok(types(step.effects).includes("discard-vm"));
});

test("a loaded VM is kept, stopped, when the connection ends: it may be the only copy", () => {
  assert.equal(feed(...toLoaded, { type: "peer-lost", error }).state.phase, "uncertain");
});

test("a loaded VM is kept when the source says nothing in time, or nothing at all", () => {
  for (const name of ["decide", "idle"] as const) {
    assert.equal(feed(...toLoaded, { type: "deadline", name }).state.phase, "uncertain");
  }
});

// Found by the simulator: the VM was thrown away while the source let go of it.
test("a failure after loaded is told, and the source decides (it handed over meanwhile)", () => {
  const failed = feed(...toLoaded, { type: "failed", error });
  assert.equal(failed.state.phase, "loaded");
  assert.deepEqual(types(failed.effects), ["tell-failed"]);
  const started = stepDestination(failed.state, { type: "handed-over" });
  assert.ok(types(started.effects).includes("start-vm"));
  const done = stepDestination(started.state, { type: "vm-started" });
  assert.deepEqual([done.state.phase, done.state.error], ["done", undefined]);
});

test("a failure after loaded is told, and the source decides (it gave up)", () => {
  const other = { code: "PEER_FAILED", message: "source: PEER_FAILED" } as const;
  const { state } = feed(...toLoaded, { type: "failed", error }, { type: "abort", error: other });
  assert.deepEqual([state.phase, state.error], ["discarding", error]);
});

test("a peer that breaks the order after loaded does not destroy the VM", () => {
  assert.equal(feed(...toLoaded, { type: "offer" }).state.phase, "loaded");
});

// Found by the simulator: the result was `failed`, and then the VM ran.
test("a VM that does not start in time, or is refused, is kept and not called failed", () => {
  const deadline: DestinationEvent = { type: "deadline", name: "start" };
  for (const event of [deadline, { type: "failed", error } as const]) {
    const { state, effects } = feed(...toLoaded, { type: "handed-over" }, event);
    assert.equal(state.phase, "uncertain");
    assert.deepEqual(types(effects), ["clear-deadline start", "tell-failed", "finish"]);
  }
});

test("nobody can cancel a VM that was handed over", () => {
  const cancelled = { code: "CANCELLED", message: "cancelled at the destination" } as const;
  const step = feed(...toLoaded, { type: "handed-over" }, { type: "failed", error: cancelled });
  assert.deepEqual([step.state.phase, step.effects], ["starting", []]);
});

test("a lost connection does not stop a VM that was handed over", () => {
  const step = feed(...toLoaded, { type: "handed-over" }, { type: "peer-lost", error });
  assert.deepEqual([step.state.phase, step.effects], ["starting", []]);
});

test("a connection that never makes an offer ends", () => {
  assert.equal(feed({ type: "deadline", name: "idle" }).state.phase, "failed");
});

test("a timer that fires as its phase ends has no meaning", () => {
  for (const name of ["prepare", "decide", "start", "discard"] as const) {
    const { state } = feed(...toLoaded.slice(0, 2), { type: "deadline", name });
    assert.equal(state.phase, "receiving");
  }
});

test("a QEMU that does not end in time does not keep the worker", () => {
  const { state } = feed(
    { type: "offer" },
    { type: "failed", error },
    { type: "deadline", name: "discard" },
  );
  assert.deepEqual([state.phase, state.error], ["failed", error]);
});
