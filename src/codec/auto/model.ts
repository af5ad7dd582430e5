/**
 * Which of two neighbours carries more: the least of what this thread encodes, what the link takes at the method's ratio, and
 * what the source delivers. Pure. All rates are bytes of records per ms.
 */
import type { Step } from "./estimate.ts";

/** Records per byte sent, and time to encode per byte of records: of this thread, and of others. */
export interface Carrying {
  readonly ratio: number;
  readonly msPerByte: number;
  readonly besideMsPerByte: number;
}

export interface Around {
  /** Of bodies. */
  readonly link: { readonly bytesPerMs: number };
  readonly sourceBytesPerMs: number;
  readonly overheadMsPerByte: number;
  /** How many other threads there are to help. */
  readonly besideCount: number;
}

/** Besides encoding at least so much is spent on a byte of records, until it is measured. */
const overheadMsPerByteMin = 1 / 4_000_000;

/** What counts as equally fast. */
const speedEqual = 0.015;
/** A core's time, that of the VM's host, is worth so much speed: a tenth of a core 0.3 %. */
const coreWorth = 0.03;
/** Share of the bytes that is worth a change where both are equally fast, */
const bodyShareWorth = 0.9;
/** if the thread is so much faster than what it has to do. */
const roomWorth = 2;
const roomLeast = 1.4;
/** What saves less than this and takes more than so much of a core is given up. */
const bodyShareWaste = 0.97;
const coreWaste = 0.25;

/** By one step of the ladder, up (1) or down (-1). */
export function stepFrom(one: Carrying, step: Step, by: 1 | -1): Carrying {
  return {
    ratio: one.ratio / step.bodyShare ** by,
    msPerByte: Math.max(0, one.msPerByte + step.msPerByte * by),
    besideMsPerByte: Math.max(0, one.besideMsPerByte + step.besideMsPerByte * by),
  };
}

/** Of two neighbours: which is worth a change from the other one; "either": neither. */
export function verdict(
  below: Carrying,
  above: Carrying,
  around: Around,
): "below" | "above" | "either" {
  const [slow, fast] = [rateOf(below, around), rateOf(above, around)];
  const extraCores = Math.max(0, msOf(above) - msOf(below)) * fast;
  const gain = fast / slow - 1 - extraCores * coreWorth;
  if (gain >= speedEqual) return "above";
  if (fast / slow < 1 - speedEqual) return "below";
  const room = threadRate(above, around) / fast;
  const bodyShare = below.ratio / above.ratio;
  if (bodyShare <= bodyShareWorth && room >= roomWorth) return "above";
  const isWaste = bodyShare > bodyShareWaste && extraCores > coreWaste;
  return isWaste || (room < roomLeast && gain < 0) ? "below" : "either";
}

function rateOf(one: Carrying, around: Around): number {
  return Math.min(
    threadRate(one, around),
    around.link.bytesPerMs * one.ratio,
    around.sourceBytesPerMs,
  );
}

/** This thread, or those that help it. */
function threadRate(one: Carrying, { overheadMsPerByte, besideCount }: Around): number {
  const here = Math.max(overheadMsPerByteMin, overheadMsPerByte) + one.msPerByte;
  return 1 / Math.max(here, one.besideMsPerByte / besideCount);
}

function msOf({ msPerByte, besideMsPerByte }: Carrying): number {
  return msPerByte + besideMsPerByte;
}
