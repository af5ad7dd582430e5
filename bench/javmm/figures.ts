/** Beats and moments → what the application noticed. */
import type { Moments } from "../migrate/case.ts";
import type { Beat } from "./beat-reader.ts";

export interface Noticed {
  /** Longest time between two beats during the migration, without the bench's own comparison of memories. */
  readonly appDowntimeMs: number;
  /** From the VM's stop at the source until that longest time ended; undefined when the VM was not stopped. */
  readonly appDowntimeEndMs: number | undefined;
  /** The same before the migration: what the application does to itself. */
  readonly usualGapMs: number;
  /** Before the migration. */
  readonly operationsPerSecond: number;
  /** What it would have done at that rate from the command to the end, less what it did. */
  readonly opsLost: number;
}

/** `beats` from `beforeMs` before the command until some time after the end. */
export function noticed(beats: readonly Beat[], moments: Moments, beforeMs: number): Noticed {
  const { startMs, stopMs, resumeMs, heldMs, endMs } = moments;
  const fromMs = startMs - beforeMs;
  const usual = gapsOf(beats).filter((gap) => gap.fromMs >= fromMs && gap.toMs <= startMs);
  const during = gapsOf(beats).filter((gap) => gap.toMs > startMs && gap.fromMs < endMs);
  const middleMs =
    stopMs === undefined || resumeMs === undefined ? undefined : (stopMs + resumeMs) / 2;
  let appDowntimeMs = Number.NEGATIVE_INFINITY;
  let lastMs = startMs;
  for (const gap of during) {
    const stands = middleMs !== undefined && gap.fromMs <= middleMs && middleMs <= gap.toMs;
    const ms = gap.toMs - gap.fromMs - (stands ? heldMs : 0);
    if (ms <= appDowntimeMs) continue;
    appDowntimeMs = ms;
    lastMs = gap.toMs - (stands ? heldMs : 0);
  }
  const rate = (operationsAt(beats, startMs) - operationsAt(beats, fromMs)) / beforeMs;
  const done = operationsAt(beats, endMs) - operationsAt(beats, startMs);
  return {
    appDowntimeMs,
    appDowntimeEndMs: stopMs === undefined ? undefined : lastMs - stopMs,
    usualGapMs: Math.max(...usual.map((gap) => gap.toMs - gap.fromMs)),
    operationsPerSecond: rate * 1000,
    opsLost: rate * (endMs - startMs - heldMs) - done,
  };
}

/** The rate of the last `windowMs` differs by less than a twentieth from that of the `windowMs` before. */
export function isSteady(beats: readonly Beat[], nowMs: number, windowMs: number): boolean {
  const [now, middle, start] = [0, 1, 2].map((i) => operationsAt(beats, nowMs - i * windowMs)) as [
    number,
    number,
    number,
  ];
  const firstMs = beats[0]?.[0] ?? nowMs;
  const late = now - middle;
  return firstMs <= nowMs - 2 * windowMs && Math.abs(late - (middle - start)) < late / 20;
}

interface Gap {
  readonly fromMs: number;
  readonly toMs: number;
}

function gapsOf(beats: readonly Beat[]): Gap[] {
  return beats.slice(1).map(([toMs], i) => ({ fromMs: (beats[i] as Beat)[0], toMs }));
}

/** Of the last beat until then. */
function operationsAt(beats: readonly Beat[], wallMs: number): number {
  return beats.findLast(([atMs]) => atMs <= wallMs)?.[1] ?? beats[0]?.[1] ?? Number.NaN;
}
