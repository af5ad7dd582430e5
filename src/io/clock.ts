/** Time as a value that is handed in: only `io/` reads the machine's clock, so everything else can be simulated. */
export interface Clock {
  /** Milliseconds from an arbitrary start, never going backwards. */
  nowMs(): number;
  /** Milliseconds since 1970, for people and logs; may jump. */
  wallMs(): number;
  /** Resolves after `ms`; the returned function ends the wait early without resolving. */
  after(ms: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Time in which this thread had nothing to do, since whenever. */
export function threadIdleMs(): number {
  return performance.eventLoopUtilization().idle;
}

/** A wait of `ms` on the given clock; it ends early when the signal says so. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const wake = (): void => {
      cancel();
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const cancel = clock.after(ms, wake);
    signal?.addEventListener("abort", wake, { once: true });
  });
}
