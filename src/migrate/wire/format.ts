/**
 * godwit frame protocol, version 1: what two godwits say to each other during a migration. Byte layout and the meaning of
 * every message: docs/formats/frame.md; the order of messages: docs/protocols/migrate.md.
 *
 * Each side first sends a preamble, then frames. All integers are big endian.
 *
 *   preamble   "godwit\r\n" | u16 newest version | u16 oldest version | u32 0
 *   frame      header (32 bytes) | body
 *   header      0 u32 magic "GDWF"       4 u8 type        5 u8 codec       6 u16 block index
 *               8 u32 body bytes        12 u32 sequence  16 u32 pages     20 u32 zero pages
 *              24 u32 bytes before encoding              28 u32 CRC32C of header[0, 28) and body
 */

export const preambleBytes = 16;
/** The line end shows a transfer that "helpfully" translated text, as in PNG's signature. */
export const preambleText = "godwit\r\n";
export const protocolVersion = 1;
export const protocolVersionOldest = 1;

export const frameMagic = 0x47445746;
export const frameHeaderBytes = 32;

export const FrameType = {
  /** JSON, one of `SourceMessage` or `DestinationMessage`. */
  control: 1,
  /** The stream's head, verbatim. */
  head: 2,
  /** A batch of page records of one block. */
  pages: 3,
  /** u16 command and its data, between RAM sections. */
  command: 4,
  /** No page follows. */
  ramEnd: 5,
  /** Device state, verbatim. */
  tail: 6,
  /** u64: body bytes of stream frames (head to tail) that QEMU has taken, in all. */
  ack: 7,
  /** Keep-alive; answered by nothing, any frame shows life. */
  alive: 8,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export const frameTypeNames: Readonly<Record<number, string>> = {
  1: "control",
  2: "head",
  3: "pages",
  4: "command",
  5: "ram-end",
  6: "tail",
  7: "ack",
  8: "alive",
};

/** What the destination says of the stream, since the beginning. */
export interface Acknowledgement {
  /** Body bytes of stream frames that QEMU has taken. */
  readonly takenBytes: number;
  /** Time in which it had nothing to do, as nothing had come. */
  readonly idleMs: number;
}

export const ackBodyBytes = 16;

/** Largest body of each type; a frame that claims more is refused before a byte of it is read. */
export const bodyBytesMax: Readonly<Record<number, number>> = {
  1: 512 << 10,
  2: 512 << 10,
  3: 512 << 10,
  4: 8 << 10,
  5: 0,
  6: 512 << 10,
  7: ackBodyBytes,
  8: 0,
};

/** A batch is closed at this size, so that a frame stays small beside a slab and the cache. */
export const batchBytesTarget = 256 << 10;

export interface FrameHeader {
  type: FrameType;
  codec: number;
  block: number;
  bodyBytes: number;
  sequence: number;
  pageCount: number;
  zeroCount: number;
  rawBytes: number;
}
