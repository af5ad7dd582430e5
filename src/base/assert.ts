/**
 * Two kinds of failure are kept apart. A *bug* of ours is an `AssertionError`: always on, it ends the job. A failure of
 * the *world* (a peer, a guest, a file, a timeout) is a `GodwitError` with a stable code: see errors.ts.
 */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/** Throws when `condition` does not hold: a bug in this program, never something a peer can cause. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** For the default branch of a switch over a union: a missing case does not compile. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable case: ${JSON.stringify(value)}`);
}
