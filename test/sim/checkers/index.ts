import type { Checker } from "./checker.ts";
import { consistentOutcomes } from "./consistent-outcomes.ts";
import { oneCopy } from "./one-copy.ts";
import { oneRuns } from "./one-runs.ts";
import { promises } from "./promises.ts";
import { reachesEnd } from "./reaches-end.ts";

export type { Checker } from "./checker.ts";
export const checkers: readonly Checker[] = [
  oneRuns,
  oneCopy,
  promises,
  consistentOutcomes,
  reachesEnd,
];
