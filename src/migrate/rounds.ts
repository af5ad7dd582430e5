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
/** Beyond this share of a round its end, at which what is dirty is known exactly, is worth waiting for. */
const midRoundShareMax = 0.6;
/** The dirty rate of a long round is an underestimate: pages written twice count once. */
const dirtyRateMargin = 1.5;
/** Rounds that must fail to shrink before it is called a stall: one alone may be a burst. */
const stallRounds = 2;
/**
 * A round "shrinks" when it has at most this share of the smallest before it: the count of failures starts again. One that
 * only shrinks against the round before it is the way back from a burst, and is not counted at all.
 */
const shrinkShare = 0.9;

export type Decision =
  /** `fitsInMs`: the rest is expected to fit the limit so long before this round ends that it is worth stopping then. */
  | { readonly type: "go-on"; readonly fitsInMs?: number }
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
    this.#last = round;
    const expectedDowntimeMs = this.expectedDowntimeMs(round.dirtyBytes, bytesPerMs);
    if (round.index < 2) {
      return {
        decision: { type: "go-on" },
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

  /** Infinite while the rate is unknown. */
  expectedDowntimeMs(dirtyBytes: number, bytesPerMs: number): number {
    if (dirtyBytes === 0) return this.#options.fixedMs;
    if (bytesPerMs <= 0) return Number.POSITIVE_INFINITY;
    return dirtyBytes / bytesPerMs + this.#options.fixedMs;
  }

  /** What is left shrinks by the link's rate less the guest's: when does it reach what fits? */
  #fitsInMs(
    round: Round,
    dirtyBytesPerSecond: number | undefined,
    bytesPerMs: number,
  ): number | undefined {
    if (dirtyBytesPerSecond === undefined || bytesPerMs <= 0) return undefined;
    const shrinksBytesPerMs = bytesPerMs - (dirtyBytesPerSecond / 1000) * dirtyRateMargin;
    const fitBytes = (this.#options.downtimeLimitMs - this.#options.fixedMs) * bytesPerMs;
    if (shrinksBytesPerMs <= 0 || fitBytes <= 0) return undefined;
    const inMs = Math.ceil((round.dirtyBytes - fitBytes) / shrinksBytesPerMs);
    return inMs <= (round.dirtyBytes / bytesPerMs) * midRoundShareMax ? inMs : undefined;
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
    if (!stalled || this.#options.whenStalled === "continue") {
      const fitsInMs = this.#fitsInMs(round, dirtyBytesPerSecond, bytesPerMs);
      return fitsInMs === undefined ? { type: "go-on" } : { type: "go-on", fitsInMs };
    }
    // A link that carries next to nothing is no time to stop the VM, whatever was asked.
    if (expectedMs > stallDowntimeMsMax && this.#options.whenStalled === "switch-over") {
      return { type: "go-on" };
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
