import type { World } from "../world.ts";
import type { Checker } from "./checker.ts";

/** What the result says to the user about the two VMs is so, then and at the end. */
export const promises: Checker = {
  name: "promises",
  atEnd(world: World): string | undefined {
    return sourcePromise(world) ?? destinationPromise(world) ?? noFault(world);
  },
};

function sourcePromise(world: World): string | undefined {
  const { sourceQemu, outcomes } = world;
  const outcome = outcomes.source;
  switch (outcome?.result) {
    case "done":
      return world.destinationRuns || world.destination.qemu?.killed === true
        ? undefined
        : "the source says done, and the destination VM does not run";
    case "failed":
    case "cancelled":
      if (world.destinationStarted) return `the source says ${outcome.result}, the VM has moved`;
      if (sourceQemu.vmRuns || !sourceQemu.alive) return undefined;
      return `the source says ${outcome.result}, and its VM does not run`;
    case "unconfirmed":
      // A QEMU that hangs may still run its VM later: nobody can know then.
      if (outcome.undecided || !sourceQemu.vmRuns) return undefined;
      return "unconfirmed, and the source VM runs";
    default:
      return undefined;
  }
}

function destinationPromise(world: World): string | undefined {
  const outcome = world.outcomes.destination;
  if (outcome?.result === "done" && !outcome.destinationRuns) {
    return world.destination.qemu?.killed === true ? undefined : "done, and the VM does not run";
  }
  if (outcome?.result === "failed" && world.destinationRuns) return "failed, and the VM runs";
  if (outcome?.result === "uncertain" && outcome.destinationRuns) {
    return "uncertain, and the VM runs already";
  }
  return undefined;
}

/** Without a fault there is no reason but the user's own options not to be done. */
function noFault(world: World): string | undefined {
  if (world.faults.length > 0) return undefined;
  const { source } = world.outcomes;
  if (source?.result === "done") return undefined;
  const code = source?.error?.code;
  const { whenStalled, timeoutMs } = world.options.source;
  if (code === "CANCELLED" && whenStalled !== "switch-over") return undefined;
  if (code === "TIMEOUT" && timeoutMs > 0) return undefined;
  return `no fault, and the result is ${source?.result ?? "none"}`;
}
