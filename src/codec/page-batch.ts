/**
 * What a codec works on: a batch of page records of one block (qemu/stream/records.ts), at most a few hundred pages, lying in
 * pieces wherever they were received.
 */
export interface PageBatch {
  readonly block: number;
  readonly pieces: readonly Uint8Array[];
  /** Sum of the pieces. */
  readonly bytes: number;
  readonly pageCount: number;
  readonly zeroCount: number;
}

/** Largest batch, as records: the bound of a pages frame (docs/formats/frame.md). */
export const batchBytesMax = 512 << 10;

/** How much longer than its records a body may be that is of use for later batches. */
export const bodyGrowthBytesMax = 1 << 10;

/** Records in one piece of memory that stays unchanged until what `hold` answers is called. */
export interface RecordRange {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
  hold(): () => void;
}

/** What the link does at the moment, for encoders that choose by it. */
export interface LinkState {
  /** What it carried lately; 0: not known yet. */
  readonly bytesPerMs: number;
  /** Share of the time since the last call in which there was something to send and no room for it, from 0 to 1. */
  readonly waitingShare: number;
  /** Share of that time in which nothing was read because too many batches were with other threads; default 0. */
  readonly besideShare?: number;
  /** Share of that time in which the destination had nothing to do, for want of bytes; default 1. */
  readonly destinationIdleShare?: number;
}

/** A batch as it goes out. */
export interface Encoded {
  readonly id: number;
  /** Stays unchanged until the frame is sent. */
  readonly body: readonly Uint8Array[];
  /** To be called once, when the body is needed no more: it is used again then. */
  readonly done?: (() => void) | undefined;
}

/** One way to write a batch. An encoder may keep state from batch to batch; its decoder then keeps the same. */
export interface BatchEncoder {
  /** Goes into the frame of the batch that was encoded last: an encoder may leave a batch as it is. */
  readonly id: number;
  readonly name: string;
  /** Answers the frame's body in pieces, which must stay unchanged until the frame is sent. */
  encode(batch: PageBatch): readonly Uint8Array[];
  /**
   * As `encode`, by an encoder that can leave a part of the work to other threads: the caller's has done its part when this
   * returns, and needs the batch no more when that is a promise. Batches may come to be done in any order, and must be sent in the order of the
   * calls. Undefined: there is nothing to leave.
   */
  later?(batch: PageBatch): Encoded | Promise<Encoded>;
  /** Memory in bytes that is kept from batch to batch. */
  readonly memoryBytes: number;
  /** Forgets all earlier batches; the next one makes the decoder forget them too. Nothing to do without state. */
  reset(): void;
  /** Told some times a second. */
  link?(state: LinkState): void;
  /** Told whenever batches have arrived: how many of all that were encoded, in their order. */
  arrived?(batchCount: number): void;
  /** More is not to be in flight just now, as the encoder wants to see how fast it arrives; default: as much as is useful. */
  readonly inFlightBytesMax?: number;
  /** The first copy of all memory is over: from now on pages were sent before. */
  endBulk?(): void;
  /** The VM is about to stop, every millisecond counts: an encoder that tries things now does no more. */
  settle?(): void;
  /** Pages of which the encoder remembered an earlier version, and those of which it did not. */
  readonly counts?: { readonly hits: number; readonly misses: number } | undefined;
  /** What each of several methods did so far, for encoders that have a choice. */
  usage?(): readonly MethodUsage[];
}

export interface MethodUsage {
  readonly name: string;
  readonly batchCount: number;
  readonly pageCount: number;
  /** Records, and what became of them. */
  readonly rawBytes: number;
  readonly bodyBytes: number;
  readonly encodeMs: number;
}

export interface BatchDecoder {
  readonly id: number;
  /**
   * The inverse of `encode`. `rawBytes` is what the frame claims to hold and already checked against the bound of a batch;
   * a body that decodes to anything else is refused (FRAME_INVALID). Trusts nothing in `body`.
   */
  decode(body: RecordRange, rawBytes: number): RecordRange;
}
