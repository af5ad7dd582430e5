import { GodwitError } from "../base/index.ts";
import type { Clock } from "./clock.ts";

/**
 * Every wait has a deadline. Rejects with TIMEOUT when `promise` has not settled after `ms`; `what` completes the
 * sentence "… did not happen within N ms". The promise itself goes on; its late failure is swallowed.
 */
export function withDeadline<T>(
  clock: Clock,
  ms: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = clock.after(ms, () => {
      reject(new GodwitError("TIMEOUT", `${what} did not happen within ${Math.round(ms)} ms`));
    });
    promise.then(
      (value) => {
        stop();
        resolve(value);
      },
      (error: unknown) => {
        stop();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
