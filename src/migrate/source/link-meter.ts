/**
 * What the link did lately, as acknowledgements show it, for encoders that choose by it. Pure: time comes as an argument.
 *
 * Time begins with the first acknowledgement: what passes until then is the way there and back.
 */
import type { LinkState } from "../../codec/index.ts";

/** The first look comes early, and every further one after so many times the time, up to this. */
const everyMsFirst = 5;
const everyGrowth = 1.5;
const everyMsMax = 50;

/** Who may wait: whoever reads from QEMU, and whoever sends pages that were left out. */
type Sender = "reader" | "owed";

export class LinkMeter {
  readonly #waiting = new Set<Sender>();
  #everyMs = everyMsFirst;
  #startMs: number | undefined;
  #startBytes = 0;
  #startIdleMs = 0;
  /** Waiting in the current span: until then, and since when. */
  #waitedMs = 0;
  #waitsSinceMs: number | undefined;
  /** The same for other threads. */
  #besideMs = 0;
  #besideSinceMs: number | undefined;

  /** There is something to send from here on, but no room for it; `who` waits. */
  waits(nowMs: number, who: Sender = "reader"): void {
    this.#waiting.add(who);
    this.#waitsSinceMs ??= nowMs;
  }

  goesOn(nowMs: number, who: Sender = "reader"): void {
    this.#waiting.delete(who);
    if (this.#waiting.size === 0) this.#count(nowMs);
  }

  #count(nowMs: number): void {
    this.#waitedMs += nowMs - (this.#waitsSinceMs ?? nowMs);
    this.#waitsSinceMs = undefined;
  }

  /** Nothing is read from here on, until other threads have done their part. */
  waitsBeside(nowMs: number): void {
    this.#besideSinceMs ??= nowMs;
  }

  goesOnBeside(nowMs: number): void {
    this.#besideMs += nowMs - (this.#besideSinceMs ?? nowMs);
    this.#besideSinceMs = undefined;
  }

  /**
   * `totalBytes`: arrived so far. `idleMs`: how long the destination had nothing to do, as it says; it is believed as far as it can
   * be true. Answers what to tell the encoder when it is time to.
   */
  acknowledged(totalBytes: number, idleMs: number, nowMs: number): LinkState | undefined {
    if (this.#startMs === undefined) {
      this.#begin(totalBytes, idleMs, nowMs);
      return undefined;
    }
    const ms = nowMs - this.#startMs;
    if (ms < this.#everyMs) return undefined;
    const waitsBeside = this.#besideSinceMs !== undefined;
    this.#count(nowMs);
    this.goesOnBeside(nowMs);
    const state = {
      bytesPerMs: (totalBytes - this.#startBytes) / ms,
      waitingShare: Math.min(1, this.#waitedMs / ms),
      besideShare: Math.min(1, this.#besideMs / ms),
      destinationIdleShare: Math.min(1, Math.max(0, idleMs - this.#startIdleMs) / ms),
    };
    this.#everyMs = Math.min(everyMsMax, this.#everyMs * everyGrowth);
    this.#begin(totalBytes, idleMs, nowMs);
    if (this.#waiting.size > 0) this.#waitsSinceMs = nowMs;
    if (waitsBeside) this.waitsBeside(nowMs);
    return state;
  }

  #begin(totalBytes: number, idleMs: number, nowMs: number): void {
    this.#startIdleMs = idleMs;
    this.#startMs = nowMs;
    this.#startBytes = totalBytes;
    this.#waitedMs = 0;
    this.#besideMs = 0;
    if (this.#besideSinceMs !== undefined) this.#besideSinceMs = nowMs;
    if (this.#waitsSinceMs !== undefined) this.#waitsSinceMs = nowMs;
  }
}
