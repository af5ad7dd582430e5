/**
 * How much may be in flight: sent, and not yet taken by the destination's QEMU. Pure: time comes as an argument.
 *
 * Enough to keep the link busy (rate x round trip), plus a queue of `queueMs`, and no more: whatever is queued when the VM
 * stops has to drain before it can run again. Kernels buffer megabytes for one connection, which on a slow link is a second.
 * The same idea as TCP Vegas and BBR: the smallest round trip seen is the empty path's.
 *
 * While the VM is far from being stopped the queue may be longer: QEMU passes over zero pages, and threads wait for a processor, for
 * longer than a short queue lasts. Longer still with compression: what shrinks to nothing on the wire takes the destination's QEMU its
 * time, and the link is to have something to carry meanwhile.
 */

const queueMs = { bulk: 160, compressedBulk: 320, usual: 40 };
const bytesMin = 512 << 10;
/** Bounds memory as well: docs/formats/frame.md. */
const bytesMax = 16 << 20;

export class FlightWindow {
  /** Round trip being measured: sent at, and complete when this many bytes are acknowledged. */
  #probe: { readonly bytes: number; readonly sentMs: number } | undefined;
  #roundTripMsMin = Number.POSITIVE_INFINITY;
  #bytes = 4 << 20;
  sentBytes = 0;
  ackedBytes = 0;
  /** Of the first copy of all memory. */
  isBulk = true;
  readonly #bulkQueueMs: number;

  constructor(isCompressed = false) {
    this.#bulkQueueMs = isCompressed ? queueMs.compressedBulk : queueMs.bulk;
  }

  get isFull(): boolean {
    return this.sentBytes - this.ackedBytes > this.#bytes;
  }

  /** True when enough has drained to go on: a quarter, so that reading does not stutter. */
  get hasRoom(): boolean {
    return this.sentBytes - this.ackedBytes <= this.#bytes * 0.75;
  }

  sent(bytes: number, nowMs: number): void {
    this.sentBytes += bytes;
    this.#probe ??= { bytes: this.sentBytes, sentMs: nowMs };
  }

  /** `bytesPerMs`: what the link carried lately. Answers false when the acknowledgement is impossible. */
  acknowledged(totalBytes: number, nowMs: number, bytesPerMs: number): boolean {
    if (totalBytes < this.ackedBytes || totalBytes > this.sentBytes) return false;
    this.ackedBytes = totalBytes;
    if (this.#probe !== undefined && totalBytes >= this.#probe.bytes) {
      this.#roundTripMsMin = Math.min(this.#roundTripMsMin, nowMs - this.#probe.sentMs);
      this.#probe = undefined;
    }
    if (Number.isFinite(this.#roundTripMsMin) && bytesPerMs > 0) {
      const queue = this.isBulk ? this.#bulkQueueMs : queueMs.usual;
      const wanted = bytesPerMs * (this.#roundTripMsMin + queue);
      this.#bytes = Math.min(bytesMax, Math.max(bytesMin, wanted));
    }
    return true;
  }
}
