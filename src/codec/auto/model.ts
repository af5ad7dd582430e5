/**
 * What a method would carry: the least of what this thread encodes, what the link takes at the method's ratio, and what the
 * source delivers. Pure. All rates are bytes of records per ms.
 */

/** Records come in through one socket and bodies leave through another: measured without a codec, in this process. */
const receiveMsPerByte = 1 / 4_000_000;
const sendMsPerByte = 1 / 3_000_000;

export interface Surroundings {
  /** What the link takes of bodies; Infinity: not known. */
  readonly linkBytesPerMs: number;
  /** What the source delivers at most; Infinity: more than was asked of it. */
  readonly sourceBytesPerMs: number;
}

export interface Prediction {
  /** What this thread alone could do. */
  readonly cpuBytesPerMs: number;
  readonly bytesPerMs: number;
  readonly ratio: number;
}

/** What a method does: records per byte sent, and time to encode per byte of records. */
export interface Behaviour {
  readonly ratio: number;
  readonly msPerByte: number;
}

export function predict({ ratio, msPerByte }: Behaviour, around: Surroundings): Prediction {
  const cpuBytesPerMs = 1 / (receiveMsPerByte + sendMsPerByte / ratio + msPerByte);
  const bytesPerMs = Math.min(
    cpuBytesPerMs,
    around.linkBytesPerMs * ratio,
    around.sourceBytesPerMs,
  );
  return { cpuBytesPerMs, bytesPerMs, ratio };
}

/** Gain in speed that is worth a change. */
export const speedGainMin = 1.07;
/** What counts as equally fast. */
const speedEqual = 0.97;
/** Share of the bytes that is worth a change where both are equally fast. */
const bytesShareMax = 0.85;
/** The thread must be so much faster than what it has to do, for a method that only saves bytes. */
const cpuRoom = 1.5;

/** True when `other` is worth a change from `current`. */
export function isBetter(other: Prediction, current: Prediction): boolean {
  if (other.bytesPerMs >= current.bytesPerMs * speedGainMin) return true;
  return isEquallyFast(other, current) && other.ratio * bytesShareMax >= current.ratio;
}

/** True when nothing but bytes would change. */
export function isEquallyFast(other: Prediction, current: Prediction): boolean {
  return (
    other.bytesPerMs >= current.bytesPerMs * speedEqual &&
    other.cpuBytesPerMs >= current.bytesPerMs * cpuRoom
  );
}
