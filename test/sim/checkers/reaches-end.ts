import type { World } from "../world.ts";
import type { Checker } from "./checker.ts";

/** All deadlines of one side in a row, and the rounds of the longest seed. */
const endMsMax = 1_500_000;

/** No worker waits for ever: each reached a final phase, or was killed, and none took too long. */
export const reachesEnd: Checker = {
  name: "reaches the end",
  atEnd(world: World): string | undefined {
    for (const side of ["source", "destination"] as const) {
      const worker = world[side].worker;
      if (worker?.alive === true) return `the ${side} hangs in ${worker.state.phase}`;
      const atMs = world.outcomes[side]?.atMs ?? 0;
      if (atMs > endMsMax) return `the ${side} took ${atMs} ms`;
    }
    return undefined;
  },
};
