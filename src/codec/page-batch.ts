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

/** Records in one piece of memory that stays unchanged until what `hold` answers is called. */
export interface RecordRange {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
  hold(): () => void;
}

/** One way to write a batch. An encoder may keep state from batch to batch; its decoder then keeps the same. */
export interface BatchEncoder {
  /** Goes into the frame of the batch that was encoded last: an encoder may leave a batch as it is. */
  readonly id: number;
  readonly name: string;
  /** Answers the frame's body in pieces, which must stay unchanged until the frame is sent. */
  encode(batch: PageBatch): readonly Uint8Array[];
}

export interface BatchDecoder {
  readonly id: number;
  /**
   * The inverse of `encode`. `rawBytes` is what the frame claims to hold and already checked against the bound of a batch;
   * a body that decodes to anything else is refused (FRAME_INVALID). Trusts nothing in `body`.
   */
  decode(body: RecordRange, rawBytes: number): RecordRange;
}
