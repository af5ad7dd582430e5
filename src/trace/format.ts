/**
 * The trace file, version 1. Byte layout, with the meaning of every field: docs/formats/trace.md. All integers are big endian.
 *
 *   preamble   "GDWTRACE" | u16 version | u8 compression | u8 window log2 | u32 header bytes | u32 CRC32C of all before and header
 *   header     JSON
 *   frames     in one zstd frame: header (32 bytes) | body
 *   header      0 u8 type     1 u8 0         2 u16 block       4 u32 epoch       8 u32 at ms     12 u32 pages
 *              16 u32 zero   20 u32 body    24 u32 dirty pages               28 u32 CRC32C of header[0, 28) and body
 */
import type { PageBatch } from "../codec/index.ts";
import { pageBytes } from "../qemu/stream/index.ts";

export const traceMagic = "GDWTRACE";
export const traceVersion = 1;
export const tracePreambleBytes = 20;
export const compressionZstd = 1;
/** zstd's own least; the most is 128 MiB. */
export const windowLogMin = 10;
export const windowLogMax = 27;
export const headerBytesMax = 512 << 10;

export const traceFrameBytes = 32;
/** Of records, in one batch. */
export const traceBatchBytesMax = 256 << 10;

export const TraceFrameType = { batch: 1, epoch: 2, end: 3 } as const;

export interface TraceBlock {
  readonly name: string;
  /** A multiple of the page size. */
  readonly lengthBytes: number;
}

export interface TraceHeader {
  readonly vmName: string;
  /** What ran in the VM, in a word or two. */
  readonly workload: string;
  readonly qemuVersion: string;
  readonly accelerator: string;
  /** In the order of QEMU's stream; a batch names its block by index. */
  readonly blocks: readonly TraceBlock[];
  /** Sum of all blocks. */
  readonly memoryBytes: number;
  /** What was asked for; `atMs` of the epochs tells what became of it. */
  readonly intervalMs: number;
  /** What epoch 0 holds. touched: the pages that later epochs write, and a sample of the others. */
  readonly base: "full" | "touched" | "none";
  /** One of so many pages of the later epochs, and of the base's other pages; undefined: all. */
  readonly sampled?: { readonly pages: number; readonly base: number } | undefined;
  /** True: pages that a later epoch has with what they held already are left out of it. */
  readonly changedOnly?: boolean | undefined;
  readonly note: string;
}

/** Records of one epoch: each is a batch of pages of one block. Epoch 0 is the base image. */
export interface TraceBatch {
  readonly epoch: number;
  /** Since the first page was read. */
  readonly atMs: number;
  /** One piece of memory, which nobody changes any more. */
  readonly batch: PageBatch;
}

/** Ends an epoch, which may be empty. */
export interface TraceEpoch {
  readonly epoch: number;
  readonly atMs: number;
  readonly pageCount: number;
  readonly zeroCount: number;
  /** Pages that the epoch had before any were left out by sampling. */
  readonly dirtyCount: number;
}

/** The last frame: how many epochs there are. */
export interface TraceEnd {
  readonly epochCount: number;
  readonly atMs: number;
}

export type TraceFrame =
  | ({ readonly type: "batch" } & TraceBatch)
  | ({ readonly type: "epoch" } & TraceEpoch)
  | ({ readonly type: "end" } & TraceEnd);

export function pageCountOf(block: TraceBlock): number {
  return block.lengthBytes / pageBytes;
}
