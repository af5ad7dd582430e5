import type { SideOutcome, World } from "../world.ts";
import type { Checker } from "./checker.ts";

/** Whoever survives says something, and the two sides do not contradict each other. */
export const consistentOutcomes: Checker = {
  name: "consistent outcomes",
  atEnd(world: World): string | undefined {
    const { source, destination } = world.outcomes;
    const silent = withoutWords("source", source) ?? withoutWords("destination", destination);
    if (silent !== undefined) return silent;
    const givenUp = source?.result === "failed" || source?.result === "cancelled";
    if (givenUp && destination?.result === "done") return `${source.result} and done`;
    if (source?.result === "done" && destination?.result === "failed") return "done and failed";
    if (source?.result === "unconfirmed" && !source.letGo && !source.undecided) {
      return "unconfirmed, and it is known that the source VM stays";
    }
    return undefined;
  },
};

function withoutWords(side: string, outcome: SideOutcome | undefined): string | undefined {
  if (outcome === undefined || outcome.result === "done") return undefined;
  return (outcome.error?.message ?? "") === ""
    ? `${side}: ${outcome.result} without a reason`
    : undefined;
}
