/**
 * What may break, where a migration may stand when it does, and what must come of it.
 *
 * A worker stops itself at a point (src/migrate/fault-point.ts), then something breaks, then the worker goes on. Points of
 * one stage have one outcome:
 *
 *   early    the destination has not everything: the VM stays at the source, the destination throws its copy away
 *   loaded   the destination has everything, the source has not let go: the VM stays, a copy without a source is kept stopped
 *   handing  just before SHUT: a destination that is lost now keeps the VM here if the loss is noticed before SHUT is read
 *   given    the source has let go: only the destination may run the VM
 *   giving up  after a cancel: the VM stays
 */
import { unreachable } from "../../src/base/index.ts";
import type { FaultPoint, MigrationOutcome } from "../../src/migrate/index.ts";

export type Stage = "early" | "loaded" | "handing" | "given" | "giving up";

export interface Stop {
  readonly side: "source" | "destination";
  readonly point: FaultPoint;
  readonly stage: Stage;
}

export const stops: readonly Stop[] = [
  { side: "source", point: "effect:start-stream", stage: "early" },
  { side: "source", point: "phase:rounds", stage: "early" },
  { side: "source", point: "phase:preparing", stage: "early" },
  { side: "source", point: "phase:switchover", stage: "early" },
  { side: "source", point: "phase:verifying", stage: "loaded" },
  { side: "source", point: "effect:hand-over", stage: "handing" },
  { side: "source", point: "effect:tell-handed-over", stage: "given" },
  { side: "source", point: "phase:aborting", stage: "giving up" },
  { side: "destination", point: "phase:preparing", stage: "early" },
  { side: "destination", point: "phase:receiving", stage: "early" },
  { side: "destination", point: "phase:loaded", stage: "loaded" },
  { side: "destination", point: "effect:start-vm", stage: "given" },
  { side: "destination", point: "effect:tell-running", stage: "given" },
  { side: "destination", point: "phase:discarding", stage: "giving up" },
];

export type Fault =
  | "the source's worker is killed"
  | "the destination's worker is killed"
  | "the source's QEMU is killed"
  | "the destination's QEMU is killed"
  | "the network is cut"
  | "the network falls silent"
  | "a bit flips on the way to the destination"
  | "a bit flips on the way to the source"
  | "the user cancels at the source"
  | "the user cancels at the destination"
  | "the source's daemon dies"
  | "the destination's daemon dies";

type Result = MigrationOutcome["result"];
type Code = string | undefined;

/** Undefined where the side cannot tell (killed, or nobody listens); a list where timing decides. */
export interface Expected {
  readonly runs: readonly ("source" | "destination" | "nowhere")[];
  readonly source?: readonly [Result, Code][];
  readonly destination?: readonly [Result, Code][];
}

const done: readonly [Result, Code][] = [["done", undefined]];
const lost: readonly [Result, Code][] = [["failed", "PEER_LOST"]];
const kept: readonly [Result, Code][] = [["uncertain", "PEER_LOST"]];
const cancelled: readonly [Result, Code][] = [["cancelled", "CANCELLED"]];
const failedCancelled: readonly [Result, Code][] = [["failed", "CANCELLED"]];
const exited: readonly [Result, Code][] = [["failed", "QEMU_EXITED"]];
const damaged: readonly [Result, Code][] = [
  ["failed", "FRAME_CHECKSUM"],
  ["failed", "FRAME_INVALID"],
];
const lostWhileHanding: Expected = { runs: ["source", "destination"], source: [...lost, ...done] };
const arrives: Expected = { runs: ["destination"], source: done, destination: done };
const givenUp: Expected = { runs: ["source"], source: cancelled, destination: failedCancelled };

/** Undefined: cannot happen there, or there is nothing to be seen. */
export function expectedOf(stop: Stop, fault: Fault): Expected | undefined {
  const { stage, side, point } = stop;
  // The destination's QEMU is asked for in `preparing`.
  const noQemuYet = side === "destination" && point === "phase:preparing";
  if (noQemuYet && fault === "the destination's QEMU is killed") return undefined;
  switch (fault) {
    case "the source's worker is killed":
      return {
        early: { runs: ["source"], destination: lost },
        loaded: { runs: ["source"], destination: kept },
        handing: { runs: ["source"], destination: kept },
        given:
          side === "source"
            ? { runs: ["nowhere"], destination: kept }
            : { runs: ["destination"], destination: done },
        "giving up": { runs: ["source"] },
      }[stage] as Expected;
    case "the destination's worker is killed":
      return {
        early: { runs: ["source"], source: lost },
        loaded: { runs: ["source"], source: lost },
        handing: lostWhileHanding,
        given: { runs: ["destination"], source: done },
        "giving up": { runs: ["source"], source: cancelled },
      }[stage] as Expected;
    case "the source's QEMU is killed":
      return sourceQemuKilled(stop);
    case "the destination's QEMU is killed":
      return destinationQemuKilled(stop);
    case "the network is cut":
    case "the network falls silent":
      return networkLost(stop);
    case "a bit flips on the way to the destination":
    case "a bit flips on the way to the source":
      return bitFlipped(stop, fault);
    case "the user cancels at the source":
      return stage === "handing" || stage === "given" ? arrives : givenUp;
    case "the source's daemon dies": {
      const { runs, destination } = stage === "handing" || stage === "given" ? arrives : givenUp;
      return { runs, ...(destination === undefined ? {} : { destination }) };
    }
    case "the user cancels at the destination":
      return cancelledThere(stop);
    case "the destination's daemon dies": {
      const { runs, source } = cancelledThere(stop);
      return { runs, ...(source === undefined ? {} : { source }) };
    }
    default:
      return unreachable(fault);
  }
}

function sourceQemuKilled({ stage, side }: Stop): Expected {
  switch (stage) {
    case "early":
    case "loaded":
      return { runs: ["nowhere"], source: exited };
    case "handing":
      // Whether the dead QEMU had run the VM again is known or not: it depends on what is noticed first.
      return {
        runs: ["destination", "nowhere"],
        source: [...done, ["unconfirmed", "QEMU_EXITED"], ["unconfirmed", "IO"]],
      };
    case "given":
      return arrives;
    case "giving up":
      return side === "source"
        ? { runs: ["nowhere"], source: exited }
        : { runs: ["nowhere"], source: [...exited, ...cancelled] };
    default:
      return unreachable(stage);
  }
}

function destinationQemuKilled({ stage, point }: Stop): Expected {
  switch (stage) {
    case "early":
    case "loaded":
      // Whatever was asked of it last fails first.
      return {
        runs: ["source"],
        source: [...exited, ["failed", "MIGRATION_FAILED"], ["failed", "QMP_CLOSED"]],
      };
    case "handing":
      return {
        runs: ["source", "nowhere"],
        source: [...exited, ["unconfirmed", "QEMU_EXITED"], ["unconfirmed", "PEER_FAILED"]],
      };
    case "given":
      // It was started before it died: that it did is for the destination's daemon to see.
      if (point === "effect:tell-running") return { runs: ["nowhere"], source: done };
      return {
        runs: ["nowhere"],
        source: [
          ["unconfirmed", "PEER_FAILED"],
          ["unconfirmed", "QEMU_EXITED"],
        ],
        destination: exited,
      };
    case "giving up":
      return { runs: ["source"], source: cancelled };
    default:
      return unreachable(stage);
  }
}

function networkLost({ stage, side, point }: Stop): Expected {
  switch (stage) {
    case "early":
      return { runs: ["source"], source: lost, destination: lost };
    case "loaded":
      return { runs: ["source"], source: lost, destination: kept };
    case "handing":
      return { ...lostWhileHanding, destination: kept };
    case "given":
      if (side === "source") return { runs: ["destination"], source: done, destination: kept };
      return { runs: ["destination"], source: done, destination: done };
    case "giving up":
      return point === "phase:aborting"
        ? { runs: ["source"], source: cancelled, destination: [...lost, ...failedCancelled] }
        : givenUp;
    default:
      return unreachable(stage);
  }
}

function bitFlipped({ stage, side }: Stop, fault: Fault): Expected | undefined {
  if (stage === "giving up") return undefined; // Nothing but the farewell passes.
  const toDestination = fault === "a bit flips on the way to the destination";
  switch (stage) {
    case "early":
      return { runs: ["source"], source: [...damaged, ...lost, ["failed", "PROTOCOL_VERSION"]] };
    case "loaded":
      return { runs: ["source"], source: [...damaged, ...lost] };
    case "handing":
      return { ...lostWhileHanding, source: [...lost, ...damaged, ...done] };
    case "given":
      return side === "source" || !toDestination
        ? { runs: ["destination"], source: done }
        : arrives;
    default:
      return unreachable(stage);
  }
}

function cancelledThere({ stage, side }: Stop): Expected {
  switch (stage) {
    case "early":
    case "loaded":
      return { runs: ["source"], source: failedCancelled, destination: failedCancelled };
    case "handing":
      return { runs: ["source", "destination"], source: [...done, ...failedCancelled] };
    case "given":
      return side === "source" ? { runs: ["destination"], source: done } : arrives;
    case "giving up":
      return givenUp;
    default:
      return unreachable(stage);
  }
}

/** By default each process dies, and the network is cut, at each point; the rest where it hurts most. */
export function isDefault(stop: Stop, fault: Fault): boolean {
  if (fault.endsWith("killed") || fault === "the network is cut") return true;
  if (fault.includes("at the source") || fault.startsWith("the source")) {
    return stop.side === "source";
  }
  if (fault.includes("at the destination") || fault.startsWith("the destination")) {
    return stop.side === "destination";
  }
  return ["phase:rounds", "effect:tell-handed-over", "phase:loaded"].includes(stop.point);
}

export const faults: readonly Fault[] = [
  "the source's worker is killed",
  "the destination's worker is killed",
  "the destination's QEMU is killed",
  "the source's QEMU is killed",
  "the network is cut",
  "the network falls silent",
  "a bit flips on the way to the destination",
  "a bit flips on the way to the source",
  "the user cancels at the source",
  "the user cancels at the destination",
  "the source's daemon dies",
  "the destination's daemon dies",
];
