/**
 * Whether both sides of a first copy have time to remember pages. Pure: time comes as an argument.
 *
 * They have when half of their time is left, what this one encodes in apart, for 50 ms in a row: where processors bound, what it
 * takes is what the migration takes longer, on both sides. They have it no more after three looks in a row, usually 150 ms, at a
 * side that had next to none left while the link had room; the next time has to be much longer. A link that carries about what it
 * can has no room, though nobody waits for it. (An idle guest has a third less to send with a history from the beginning.)
 */
import { isFull, type Seen } from "./surroundings.ts";

const leftShareMin = 0.5;
const leftMsFirst = 50;
const leftMsNext = 1_000;
const leftMsGrowth = 4;
const busyLooksMin = 3;
const busyShareMax = 0.1;

export class SpareTime {
  #isThere = false;
  /** Both have had it since then; undefined: not at the latest look. */
  #sinceMs: number | undefined;
  #msMin = leftMsFirst;
  /** In a row. */
  #busyLooks = 0;

  get isThere(): boolean {
    return this.#isThere;
  }

  /** `encodeShare`: of this side's time since the latest look. `isLinkUsed`: it carried about what it is known to carry. */
  look(seen: Seen, encodeShare: number, isLinkUsed: boolean, nowMs: number): void {
    const { idleShare, besideShare, destinationIdleShare } = seen;
    const ownShare = idleShare + besideShare;
    const isLeft = Math.min(ownShare + encodeShare, destinationIdleShare) >= leftShareMin;
    this.#sinceMs = isLeft ? (this.#sinceMs ?? nowMs) : undefined;
    const hasRoom = !isFull(seen) && !isLinkUsed;
    const isBusy = hasRoom && Math.min(ownShare, destinationIdleShare) < busyShareMax;
    this.#busyLooks = isBusy ? this.#busyLooks + 1 : 0;
    if (this.#isThere && this.#busyLooks >= busyLooksMin) {
      this.#isThere = false;
      this.#sinceMs = undefined;
      this.#msMin = Math.max(leftMsNext, this.#msMin * leftMsGrowth);
    }
    if (nowMs - (this.#sinceMs ?? nowMs) >= this.#msMin) this.#isThere = true;
  }
}
