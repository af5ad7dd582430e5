/** Machines with one mistake each. The checkers must catch every one of them: else they check nothing. */
import { stepDestination } from "../../src/migrate/destination/machine.ts";
import { stepSource } from "../../src/migrate/source/machine.ts";
import { type Machines, realMachines } from "./world.ts";

export interface Canary {
  /** The mistake. */
  readonly name: string;
  readonly machines: Machines;
  /** The violation that it has to cause, beside others. */
  readonly violation: RegExp;
}

export const canaries: readonly Canary[] = [
  {
    name: "the destination starts its VM as soon as it is loaded",
    violation: /one runs: both VMs run/,
    machines: {
      ...realMachines,
      stepDestination(state, event) {
        if (event.type !== "qemu-loaded") return stepDestination(state, event);
        const { state: loaded, effects } = stepDestination(state, event);
        const started = stepDestination(loaded, { type: "handed-over" });
        return { state: started.state, effects: [...effects, ...started.effects] };
      },
    },
  },
  {
    name: "the destination throws a loaded VM away when the connection ends",
    violation: /one copy: godwit threw the only copy/,
    machines: {
      ...realMachines,
      stepDestination(state, event) {
        const lost = state.phase === "loaded" && event.type === "peer-lost";
        return stepDestination(state, lost ? { type: "abort", error: event.error } : event);
      },
    },
  },
  {
    name: "the destination takes a damaged hand-over for a reason to give up",
    violation: /one copy: godwit threw the only copy/,
    machines: {
      ...realMachines,
      stepDestination(state, event) {
        const failed = state.phase === "loaded" && event.type === "failed";
        return stepDestination(state, failed ? { type: "abort", error: event.error } : event);
      },
    },
  },
  {
    name: "the source says that it handed over before its QEMU has let go",
    violation: /one runs: both VMs run/,
    machines: {
      ...realMachines,
      stepSource(state, event) {
        const step = stepSource(state, event);
        const handsOver = step.effects.some((effect) => effect.type === "hand-over");
        if (!handsOver) return step;
        return { ...step, effects: [...step.effects, { type: "tell-handed-over" }] };
      },
    },
  },
  {
    name: "the source takes a lost connection after SHUT for a failure",
    violation: /promises: the source says failed/,
    machines: {
      ...realMachines,
      stepSource(state, event) {
        const lost = state.phase === "handover" && event.type === "peer-lost";
        if (!lost) return stepSource(state, event);
        return stepSource(state, { type: "qemu-failed", error: event.error });
      },
    },
  },
  {
    name: "the source takes its QEMU's failure for the hand-over",
    violation: /one runs: both VMs run/,
    machines: {
      ...realMachines,
      stepSource(state, event) {
        const failed = state.phase === "handover" && event.type === "qemu-failed";
        return stepSource(state, failed ? { type: "qemu-completed" } : event);
      },
    },
  },
  {
    name: "the source waits for the destination without a deadline",
    violation: /reaches the end: the source hangs/,
    machines: {
      ...realMachines,
      stepSource(state, event) {
        const step = stepSource(state, event);
        const effects = step.effects.filter(
          (effect) => effect.type !== "set-deadline" || effect.name === "prepare",
        );
        return { ...step, effects };
      },
    },
  },
  {
    name: "the source gives no reason",
    violation: /consistent outcomes: source: (failed|cancelled) without a reason/,
    machines: {
      ...realMachines,
      stepSource(state, event) {
        const step = stepSource(state, event);
        return { ...step, state: { ...step.state, error: undefined } };
      },
    },
  },
];
