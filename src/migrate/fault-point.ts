/**
 * A place at which a test wants the world to stand still: just after a machine entered a phase (`phase:handover`) or just
 * before an effect is carried out (`effect:tell-handed-over`). The process stops itself (SIGSTOP); the test sees that in
 * /proc, kills or cuts what it likes, and lets go on with SIGCONT. Nothing of this is reachable from a command line.
 */
export type FaultPoint = `phase:${string}` | `effect:${string}`;

/** Calls `stop` at the first arrival at `wanted`. */
export class FaultPoints {
  #wanted: FaultPoint | undefined;

  constructor(wanted: FaultPoint | undefined) {
    this.#wanted = wanted;
  }

  arrived(point: FaultPoint): void {
    if (point !== this.#wanted) return;
    this.#wanted = undefined;
    process.kill(process.pid, "SIGSTOP");
  }
}
