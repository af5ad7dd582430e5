/** How the guest writes to its memory: what a pass of so many milliseconds leaves dirty. */
import type { Prng } from "../../src/base/index.ts";

const guestKinds = ["idle", "converging", "busy", "bursts"] as const;

export class Guest {
  readonly kind: (typeof guestKinds)[number];
  readonly memoryBytes: number;
  readonly bytesPerMs: number;
  readonly #prng: Prng;
  readonly #dirtyBytesPerMs: number;

  constructor(prng: Prng) {
    this.#prng = prng;
    this.kind = prng.pick(guestKinds);
    this.memoryBytes = prng.integer(64, 8192) * 2 ** 20;
    this.bytesPerMs = this.memoryBytes / prng.integer(500, 40_000);
    const share = { idle: 0, converging: 0.1 + 0.7 * prng.fraction(), busy: 2, bursts: 0.4 };
    this.#dirtyBytesPerMs = share[this.kind] * this.bytesPerMs;
  }

  dirtied(passMs: number): number {
    const factor = this.kind === "bursts" && this.#prng.chance(0.2) ? 5 : 1;
    const bytes = Math.floor(passMs * factor * this.#dirtyBytesPerMs);
    return Math.min(this.memoryBytes / 2, bytes);
  }
}
