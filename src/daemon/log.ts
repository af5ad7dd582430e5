/** Structured logs on stderr. */
import { destination, type Logger, pino } from "pino";

export type { Logger } from "pino";

export function createLog(level: string): Logger {
  // Synchronous: the last lines before a crash are the ones that matter.
  return pino({ level, base: null }, destination({ fd: 2, sync: true }));
}
