/** What the process that makes an advice is given (advise-main.ts), as JSON. */
import type { Constraints } from "../advise/index.ts";

export interface AdviceJob {
  /** Of a trace file. */
  readonly path: string;
  /** Undefined: as recorded, or 100 ms where that is shorter. */
  readonly intervalMs?: number | undefined;
  readonly constraints: Constraints;
}
