import type { World } from "../world.ts";
import type { Checker } from "./checker.ts";

/** Never do both VMs run, and none is ever started from a state that the other has run past. */
export const oneRuns: Checker = {
  name: "one runs",
  afterEvent(world: World): string | undefined {
    if (world.sourceQemu.vmRuns && world.destinationRuns) return "both VMs run";
    if (world.staleStart) return "the destination VM was started from an old state";
    return undefined;
  },
};
