/**
 * QEMU's migration stream, as far as godwit carries it. Full layout with offsets: docs/formats/qemu-stream.md (from
 * QEMU's migration/savevm.c and migration/ram.c, and measured on 7.2 and 10.0). Everything is big endian.
 *
 *   header | configuration | commands | RAM START | { RAM PART | commands } | RAM END | device state … EOF | vmdesc
 *   └────────────── head ──────────────────────┘ └────── pages ──────────┘            └──────── tail ────────────┘
 */

/** First word of every stream: "QEVM". */
export const streamMagic = 0x5145564d;
export const streamVersion = 3;

export const SectionType = {
  eof: 0x00,
  start: 0x01,
  part: 0x02,
  end: 0x03,
  full: 0x04,
  subsection: 0x05,
  vmDescription: 0x06,
  configuration: 0x07,
  command: 0x08,
  footer: 0x7e,
} as const;

/** Commands inside the stream (savevm.c, enum qemu_vm_cmd). */
export const StreamCommand = {
  openReturnPath: 1,
  ping: 2,
  postcopyAdvise: 3,
  switchoverStart: 11,
} as const;

/** The commands that are carried, with the length of their data; all others are refused by name. */
export const commandDataBytes: Readonly<Record<number, number>> = {
  [StreamCommand.openReturnPath]: 0,
  [StreamCommand.ping]: 4,
  [StreamCommand.switchoverStart]: 0,
};

export const commandNames: Readonly<Record<number, string>> = {
  1: "OPEN_RETURN_PATH",
  2: "PING",
  3: "POSTCOPY_ADVISE (capability postcopy-ram or dirty-bitmaps)",
  4: "POSTCOPY_LISTEN",
  5: "POSTCOPY_RUN",
  6: "POSTCOPY_RAM_DISCARD",
  7: "PACKAGED",
  8: "ENABLE_COLO (capability x-colo)",
  9: "POSTCOPY_RESUME",
  10: "RECV_BITMAP",
  11: "SWITCHOVER_START",
};

/** Low 12 bits of a RAM record's first word (ram.c, RAM_SAVE_FLAG_*); the rest is the page's address in its block. */
export const RamFlag = {
  zero: 0x02,
  memorySize: 0x04,
  page: 0x08,
  eos: 0x10,
  continue: 0x20,
  xbzrle: 0x40,
  hook: 0x80,
  compressed: 0x100,
  multifdFlush: 0x200,
} as const;

export const ramFlagNames: Readonly<Record<number, string>> = {
  0x40: "XBZRLE (capability xbzrle)",
  0x80: "HOOK (RDMA)",
  0x100: "COMPRESS (capability compress)",
  0x200: "MULTIFD_FLUSH (capability multifd)",
};

/** Messages on the return path, destination to source (migration.h, enum mig_rp_message_type). */
export const ReturnMessage = {
  shut: 1,
  pong: 2,
  requestPagesId: 3,
  requestPages: 4,
  switchoverAck: 7,
} as const;

export const pageBytes = 4096;
/** A page record inside a block: u64 address|flags, then the page. */
export const pageRecordBytes = 8 + pageBytes;
/** A zero-page record inside a block: u64 address|flags, then one byte 0. */
export const zeroRecordBytes = 9;

/** No item of a stream is longer: what a reader must be able to see in one piece. */
export const itemBytesMax = pageRecordBytes;

/** One block of guest memory as RAM START announces it. */
export interface RamBlock {
  readonly index: number;
  /** QEMU's name, 1-255 bytes of ASCII, e.g. "pc.ram". */
  readonly name: string;
  /** A multiple of the page size. */
  readonly lengthBytes: number;
  readonly pageCount: number;
}

/** What precedes the first page; `bytes` can be handed to a destination QEMU as it is. */
export interface StreamHead {
  readonly bytes: Uint8Array;
  /** Name of the machine type with its version, e.g. "pc-q35-10.0". */
  readonly machineType: string;
  /** Section id that this QEMU gave to "ram"; PART and END carry it. */
  readonly ramSectionId: number;
  readonly blocks: readonly RamBlock[];
  readonly hasReturnPath: boolean;
}

/** Bounds on what a stream may claim. A stream beyond them is refused by name, never followed. */
export interface StreamLimits {
  /** All that precedes the first page. */
  readonly headBytesMax: number;
  readonly blockCountMax: number;
  /** Sum of all blocks. */
  readonly memoryBytesMax: number;
  /** Device state and its description, all that follows RAM END. */
  readonly tailBytesMax: number;
}

export const defaultStreamLimits: StreamLimits = {
  headBytesMax: 512 << 10,
  blockCountMax: 1024,
  memoryBytesMax: 2 ** 44,
  tailBytesMax: 2 ** 30,
};
