/**
 * Decides when to switch over. Pure: rounds go in with the time at which they began, a decision comes out.
 *
 * QEMU is told to iterate for ever (docs/protocols/migrate.md); at the start of each round it knows exactly how much is
 * dirty. What would be left to send if the VM stopped now, divided by the rate at which the link has really carried bytes,
 * is the downtime to expect. Rounds that stop shrinking will not get better: waiting then only costs traffic.
 */

/** One pre-copy pass, as known at its start. */
export interface Round {
  /** QEMU's dirty-sync-count: 1 is the first copy of all memory. */
  readonly index: number;
  /** Memory found dirty at the start of the round: what this round has to send. */
  readonly dirtyBytes: number;
  /** When the round began, in the clock of the session. */
  readonly startMs: number;
}

export type StallAction = "switch-over" | "continue" | "cancel";

export interface RoundOptions {
  readonly downtimeLimitMs: number;
  /** What to do when rounds stop shrinking although the rest does not fit the downtime limit. */
  readonly whenStalled: StallAction;
  /** Device state, last bitmap, start: what a switch-over costs beside the pages, in ms. */
  readonly fixedMs: number;
}

/** No VM is stopped for longer than this because rounds stall: half of the switch-over's deadline. */
const stallDowntimeMsMax = 60_000;
/**
 * QEMU also looks for dirty pages when it believes to be nearly done, and counts that as a round: one that begins before this
 * share of the last was sent says nothing about whether rounds shrink.
 */
const wholeRoundShare = 0.5;
/** When QEMU stops the VM by itself, what is in flight (src/migrate/flight-window.ts) has to drain as well. */
const inFlightMs = 40;
/** Rounds that must fail to shrink before it is called a stall: one alone may be a burst. */
const stallRounds = 2;
/**
 * A round "shrinks" when it has at most this share of the smallest before it: the count of failures starts again. One that
 * only shrinks against the round before it is the way back from a burst, and is not counted at all.
 */
const shrinkShare = 0.9;

export type Decision =
  /** `restBytes`: what would fit the limit; QEMU may stop as soon as no more is left, in the middle of a round too. */
  | { readonly type: "go-on"; readonly restBytes: number }
  | { readonly type: "switch-over"; readonly reason: "fits" | "stalled"; readonly text: string }
  | { readonly type: "cancel"; readonly text: string };

export interface RoundStatus {
  readonly decision: Decision;
  readonly expectedDowntimeMs: number;
  /** Bytes that the guest dirties in a second, over the round that just ended; undefined before the second round. */
  readonly dirtyBytesPerSecond: number | undefined;
  readonly stalled: boolean;
}

export class RoundPlanner {
  readonly #options: RoundOptions;
  #last: Round | undefined;
  #smallestDirtyBytes = Number.POSITIVE_INFINITY;
  #roundsWithoutShrinking = 0;

  constructor(options: RoundOptions) {
    this.#options = options;
  }

  /** Called once at the start of each round; `bytesPerMs` is what the link carried lately (0 when unknown). */
  roundBegan(round: Round, bytesPerMs: number): RoundStatus {
    const last = this.#last;
    const expectedDowntimeMs = this.expectedDowntimeMs(round.dirtyBytes, bytesPerMs);
    if (last !== undefined && last.index >= 2 && this.#isCutShort(last, round, bytesPerMs)) {
      return this.#cutShort(round, bytesPerMs);
    }
    this.#last = round;
    if (round.index < 2) {
      return {
        decision: { type: "go-on", restBytes: 0 },
        expectedDowntimeMs,
        dirtyBytesPerSecond: undefined,
        stalled: false,
      };
    }
    // QEMU may tell of its first round before the stream has begun here: then the second is the first that is known.
    const roundMs = last === undefined ? undefined : Math.max(1, round.startMs - last.startMs);
    const dirtyBytesPerSecond =
      roundMs === undefined ? undefined : (round.dirtyBytes / roundMs) * 1000;
    const shrank = round.dirtyBytes <= this.#smallestDirtyBytes * shrinkShare;
    const recovers = last !== undefined && round.dirtyBytes <= last.dirtyBytes * shrinkShare;
    if (shrank) this.#roundsWithoutShrinking = 0;
    else if (!recovers) this.#roundsWithoutShrinking++;
    this.#smallestDirtyBytes = Math.min(this.#smallestDirtyBytes, round.dirtyBytes);
    const stalled = this.#roundsWithoutShrinking >= stallRounds;
    return {
      decision: this.#decide(round, expectedDowntimeMs, dirtyBytesPerSecond, bytesPerMs, stalled),
      expectedDowntimeMs,
      dirtyBytesPerSecond,
      stalled,
    };
  }

  #isCutShort(last: Round, round: Round, bytesPerMs: number): boolean {
    return (round.startMs - last.startMs) * bytesPerMs < last.dirtyBytes * wholeRoundShare;
  }

  /** Only whether the rest fits. */
  #cutShort(round: Round, bytesPerMs: number): RoundStatus {
    const expectedDowntimeMs = this.expectedDowntimeMs(round.dirtyBytes, bytesPerMs);
    return {
      decision: this.#decide(round, expectedDowntimeMs, undefined, bytesPerMs, false),
      expectedDowntimeMs,
      dirtyBytesPerSecond: undefined,
      stalled: false,
    };
  }

  /** Infinite while the rate is unknown. */
  expectedDowntimeMs(dirtyBytes: number, bytesPerMs: number): number {
    if (dirtyBytes === 0) return this.#options.fixedMs;
    if (bytesPerMs <= 0) return Number.POSITIVE_INFINITY;
    return dirtyBytes / bytesPerMs + this.#options.fixedMs;
  }

  #goOn(bytesPerMs: number): Decision {
    const pagesMs = this.#options.downtimeLimitMs - this.#options.fixedMs - inFlightMs;
    const restBytes = Math.max(0, Math.floor(pagesMs * bytesPerMs));
    return { type: "go-on", restBytes };
  }

  #decide(
    round: Round,
    expectedMs: number,
    dirtyBytesPerSecond: number | undefined,
    bytesPerMs: number,
    stalled: boolean,
  ): Decision {
    const limitMs = this.#options.downtimeLimitMs;
    const rest = `${mebibytes(round.dirtyBytes)} MiB are left, about ${Math.round(expectedMs)} ms`;
    if (expectedMs <= limitMs) {
      return {
        type: "switch-over",
        reason: "fits",
        text: `${rest}: within the limit of ${limitMs} ms`,
      };
    }
    if (!stalled || this.#options.whenStalled === "continue") return this.#goOn(bytesPerMs);
    // A link that carries next to nothing is no time to stop the VM, whatever was asked.
    if (expectedMs > stallDowntimeMsMax && this.#options.whenStalled === "switch-over") {
      return this.#goOn(bytesPerMs);
    }
    const why =
      `rounds no longer shrink: the guest dirties ${mebibytes(dirtyBytesPerSecond ?? 0)} MiB/s and the link carries ` +
      `${mebibytes(bytesPerMs * 1000)} MiB/s; ${rest}, more than the limit of ${limitMs} ms`;
    if (this.#options.whenStalled === "cancel") return { type: "cancel", text: why };
    return { type: "switch-over", reason: "stalled", text: why };
  }
}

function mebibytes(bytes: number): string {
  const value = bytes / (1 << 20);
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}
