/**
 * What may go wrong, by name. A plan ties each fault to the moment at which one of the two machines enters a phase, plus a
 * delay on the scale of that phase: so the short phases, where everything is decided, are hit as often as the long ones.
 */
import type { Prng } from "../../src/base/index.ts";
import {
  type DestinationPhase,
  destinationFinalPhases,
  destinationMoves,
} from "../../src/migrate/destination/machine.ts";
import {
  type SourcePhase,
  sourceFinalPhases,
  sourceMoves,
} from "../../src/migrate/source/machine.ts";

export const faultKinds = [
  "kill-source-worker",
  /** The daemon and its worker, at one blow. */
  "kill-source-daemon",
  /** The daemon alone: its worker notices. */
  "restart-source-daemon",
  "kill-source-qemu",
  "kill-destination-worker",
  "kill-destination-daemon",
  "restart-destination-daemon",
  "kill-destination-qemu",
  "cut-network",
  "stall-network",
  "corrupt-frame",
  "verify-mismatch",
  "source-qemu-refuses",
  "destination-qemu-refuses",
  "journal-fails",
  "slow",
  "cancel",
] as const;
export type FaultKind = (typeof faultKinds)[number];

export type Side = "source" | "destination";

export interface Fault {
  readonly kind: FaultKind;
  readonly side: Side;
  readonly phase: SourcePhase | DestinationPhase;
  /** After the machine entered the phase, or after the fault before this one in the plan. */
  readonly delayMs: number;
  readonly afterPrevious: boolean;
  /** How long the network is away, the daemon is down, or one operation takes more; infinite = for ever. */
  readonly durationMs: number;
}

export const sourcePhases = (Object.keys(sourceMoves) as SourcePhase[]).filter(
  (phase) => !sourceFinalPhases.includes(phase),
);
export const destinationPhases = (Object.keys(destinationMoves) as DestinationPhase[]).filter(
  (phase) => !destinationFinalPhases.includes(phase),
);

/** About how long a phase lasts. */
const scaleMs: Readonly<Record<string, number>> = {
  "source idle": 2,
  "source setup": 600,
  "source rounds": 10_000,
  "source preparing": 100,
  "source switchover": 300,
  "source verifying": 300,
  "source handover": 30,
  "source aborting": 3,
  "destination idle": 20,
  "destination preparing": 500,
  "destination receiving": 10_000,
  "destination loaded": 30,
  "destination starting": 20,
  "destination discarding": 20,
};

export function drawFaults(prng: Prng): readonly Fault[] {
  const count = prng.pick([0, 1, 1, 1, 2, 2, 2, 3, 3, 4]);
  const faults: Fault[] = [];
  for (let i = 0; i < count; i++) faults.push(drawFault(prng, i > 0 && prng.chance(0.3)));
  // These phases follow a failure only.
  if (faults.some((fault) => fault.phase === "aborting" || fault.phase === "discarding")) {
    faults.push({ ...drawFault(prng, false), kind: "cancel" });
  }
  return faults;
}

function drawFault(prng: Prng, afterPrevious: boolean): Fault {
  const { side, phase } = drawPlace(prng);
  // Troubles come in company: 0.1 ms to 30 s later.
  const delayMs = afterPrevious
    ? 10 ** (-1 + 5.5 * prng.fraction())
    : drawDelayMs(prng, side, phase);
  const durationMs = drawDurationMs(prng);
  return { kind: prng.pick(faultKinds), side, phase, delayMs, afterPrevious, durationMs };
}

/** Half of all strike where everything is decided. */
function drawPlace(prng: Prng): Pick<Fault, "side" | "phase"> {
  const side = prng.pick(["source", "destination"] as const);
  const critical = prng.chance(0.5);
  if (side === "source") return { side, phase: prng.pick(critical ? lateSource : sourcePhases) };
  return { side, phase: prng.pick(critical ? lateDestination : destinationPhases) };
}

const lateSource: readonly SourcePhase[] = ["switchover", "verifying", "handover"];
const lateDestination: readonly DestinationPhase[] = ["loaded", "starting"];

function drawDelayMs(prng: Prng, side: Side, phase: string): number {
  if (prng.chance(0.2)) return 0;
  return prng.fraction() * prng.pick([0.1, 0.5, 1, 2]) * (scaleMs[`${side} ${phase}`] as number);
}

/** From 10 ms to 6 minutes, each order of magnitude as often; one time in five for ever. */
function drawDurationMs(prng: Prng): number {
  return prng.chance(0.2) ? Number.POSITIVE_INFINITY : 10 ** (1 + 4.6 * prng.fraction());
}
