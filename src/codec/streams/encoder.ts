/**
 * Codec streams (docs/formats/codec.md), the sending side: each page becomes the least of what it takes to make it from what the
 * other side has, and what is left is compressed as one frame a batch.
 *
 * What both sides have is a history of pages in numbered slots. The encoder alone decides what lies where and says so in the
 * bodies; a batch that it does not send (because it would not shrink) is one whose slots it forgets. So both stay in step.
 */
import { randomInt } from "node:crypto";
import { assert } from "../../base/index.ts";
import { codecIds } from "../ids.ts";
import { type KernelBuild, layout } from "../kernels/index.ts";
import { lz4Compress } from "../lz4.ts";
import {
  type BatchEncoder,
  batchBytesMax,
  bodyGrowthBytesMax,
  type PageBatch,
} from "../page-batch.ts";
import { checksumAt, Pack, streamCount, streamsBytesMax, writeStreamsHeader } from "./body.ts";
import { countsOf, type StreamsCounts, zeroCounts } from "./counts.ts";
import { noSharedPages, type SharedPages } from "./shared-pages.ts";
import { tablesWithin, Workspace } from "./workspace.ts";
import { zstdCompressContext } from "./zstd-context.ts";

export type StreamsMethod = "zero" | "delta" | "similarity" | "hybrid";

export interface StreamsOptions {
  readonly method: StreamsMethod;
  /** How the split streams are compressed as one frame. Default: zstd for hybrid, none otherwise. */
  readonly pack?: "none" | "zstd" | "lz4";
  /** Of zstd; default 1. */
  readonly level?: number;
  /** Differences by words of 64 bits (default), or by runs of bytes as QEMU's XBZRLE. */
  readonly delta?: "word" | "xbzrle";
  /** Bound of everything kept: pages of the history and tables. Default 256 MiB. */
  readonly memoryBytes?: number;
  /** Pages of other VMs that the same sink holds. */
  readonly shared?: SharedPages;
  /** A page of which more 64-bit words changed goes as a whole; at most 480. */
  readonly deltaWordsMax?: number;
  /** The same for a page like another one. */
  readonly similarWordsMax?: number;
  /** Of the first state; chance by default. */
  readonly generation?: number;
  /** Which build of the loops; tests run both. */
  readonly kernels?: KernelBuild;
}

export const streamsMemoryBytesDefault = 256 << 20;

/** What a batch shrinks to at least, to be worth decoding, when nothing is lost by sending it as it is. */
const shareMax = 0.95;
/** Words changed from which on a page goes as a whole: a compressor does better with whole pages than with half of one. */
const deltaWordsMaxPacked = 384;
const deltaWordsMaxBare = 480;

const sampleCount = 8;
const sampleBytes = 1 << 10;
/** So many batches in a row are judged by their sample only. */
const samplesInRowMax = 16;

function methodBits({ method, delta, shared }: StreamsOptions): number {
  const bits = {
    zero: 0,
    delta: layout.useDelta,
    similarity: layout.useCopies | layout.useSimilar,
    hybrid: layout.useDelta | layout.useCopies | layout.useSimilar | layout.useSparse,
  }[method];
  const isShared = shared !== undefined && (method === "similarity" || method === "hybrid");
  return bits | (delta === "xbzrle" ? layout.useXbzrle : 0) | (isShared ? layout.useShared : 0);
}

export class StreamsEncoder implements BatchEncoder {
  id: number = codecIds.none;
  readonly name: string;
  readonly counts: StreamsCounts = zeroCounts();
  readonly #options: StreamsOptions;
  #pack: Pack;
  #level: number;
  readonly #workspace: Workspace;
  readonly #methods: number;
  readonly #slotCount: number;
  readonly #shared: SharedPages | undefined;
  /** Slots of shared pages that the batch at hand filled. */
  readonly #stored: number[] = [];
  readonly #sample = Buffer.allocUnsafeSlow(sampleCount * sampleBytes);
  #samplesInRow: number | undefined;
  #generation: number;
  #sequence = 0;
  #sharedGeneration = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.name = options.method;
    this.#pack = Pack[options.pack ?? (options.method === "hybrid" ? "zstd" : "none")];
    this.#level = options.level ?? 1;
    this.#methods = methodBits(options);
    this.#shared = (this.#methods & layout.useShared) === 0 ? undefined : options.shared;
    const tables = tablesWithin(
      options.method === "zero" ? 0 : (options.memoryBytes ?? streamsMemoryBytesDefault),
    );
    this.#slotCount = tables.slotCount;
    this.#workspace = new Workspace(
      tables.end,
      options.kernels ?? "simd",
      (workspace) => this.#shared?.host(workspace, this.#stored) ?? noSharedPages,
    );
    this.#generation = options.generation ?? randomInt(2 ** 32);
    this.#setUp(tables);
  }

  #setUp(tables: ReturnType<typeof tablesWithin>): void {
    const { control } = this.#workspace;
    const deltaWordsMax =
      this.#options.deltaWordsMax ??
      (this.#pack === Pack.none ? deltaWordsMaxBare : deltaWordsMaxPacked);
    const similarWordsMax = this.#options.similarWordsMax ?? deltaWordsMax;
    assert(deltaWordsMax <= 480 && similarWordsMax <= 480, "what the workspace has room for");
    control[layout.methods] = this.#methods;
    control[layout.slotCount] = tables.slotCount;
    control[layout.deltaWordsMax] = deltaWordsMax;
    control[layout.similarWordsMax] = similarWordsMax;
    control[layout.keysAt] = tables.keysAt;
    control[layout.tableAt] = tables.tableAt;
    control[layout.tableMask] = tables.tableMask;
    control[layout.marksAt] = tables.marksAt;
    control[layout.seenAt] = tables.seenAt;
    control[layout.seenMask] = tables.seenMask;
    control[layout.copiesAt] = tables.copiesAt;
    control[layout.copiesMask] = tables.copiesMask;
    control[layout.sketchesAt] = tables.sketchesAt;
    control[layout.sketchesMask] = tables.sketchesMask;
    control[layout.historyAt] = tables.historyAt;
  }

  /** How the batches to come are compressed; the history stays as it is, and each body says how it was made. */
  usePack(pack: "none" | "zstd" | "lz4", level = this.#level): void {
    this.#pack = Pack[pack];
    this.#level = level;
  }

  /** Of the batch that was encoded last: its streams, before they were compressed. */
  get streamsBytes(): number {
    const { control } = this.#workspace;
    const lengths = control.subarray(layout.lengths, layout.lengths + streamCount);
    return lengths.reduce((sum, length) => sum + length, 0);
  }

  /** What the batch that was encoded last would come to in another pack, in bytes. Nothing changes. */
  bytesWith(pack: "zstd" | "lz4", level: number): number {
    const { bytes, control } = this.#workspace;
    const from = (control[layout.streamsAt] as number) + layout.headerBytes;
    const streams = bytes.subarray(from, from + this.streamsBytes);
    const packed = this.#compress(streams, Pack[pack], level);
    return layout.headerBytes + Math.min(streams.length, packed.length);
  }

  /** What the history takes now, with its tables. */
  get memoryBytes(): number {
    const { control } = this.#workspace;
    const historyBytes = (control[layout.high] as number) * layout.pageBytes;
    return (control[layout.historyAt] as number) + historyBytes;
  }

  /** Begins a new generation: the decoder forgets its history with the next batch. Shared pages have a reset of their own. */
  reset(): void {
    const { bytes, control } = this.#workspace;
    this.#generation = (this.#generation + 1) >>> 0;
    this.#sequence = 0;
    this.#samplesInRow = undefined;
    // Keys and marks are written before they are read.
    bytes.fill(0, control[layout.tableAt], control[layout.historyAt]);
    control.fill(0, layout.turn, layout.records);
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    assert(batch.bytes <= batchBytesMax, "a batch fits a frame");
    if (this.#sequence === 2 ** 32 || this.#sharedMoved()) this.reset();
    const { kernels } = this.#workspace;
    this.#copyIn(batch);
    this.#stored.length = 0;
    const fault = kernels.encode(layout.inputAt, batch.bytes, batch.block, this.#generation);
    assert(fault === layout.ok, `records that are none (${fault})`);
    const body = this.#body(batch);
    if (body === undefined) {
      kernels.drop();
      this.#shared?.drop(this.#stored);
      this.counts.left++;
      this.id = codecIds.none;
      return batch.pieces;
    }
    countsOf(this.#workspace.control, this.counts);
    this.#sequence++;
    this.id = codecIds.streams;
    return body;
  }

  /** Somebody cleared the shared pages: what this encoder said of them does not hold any more. */
  #sharedMoved(): boolean {
    const generation = this.#shared?.generation ?? 0;
    const moved = this.#sequence > 0 && generation !== this.#sharedGeneration;
    this.#sharedGeneration = generation;
    return moved;
  }

  #copyIn({ pieces, bytes }: PageBatch): void {
    let at: number = layout.inputAt;
    for (const piece of pieces) {
      this.#workspace.bytes.set(piece, at);
      at += piece.length;
    }
    assert(at === layout.inputAt + bytes, "the pieces are the batch");
  }

  /** Answers undefined when the batch should go as it is. */
  #body(batch: PageBatch): Uint8Array[] | undefined {
    const { bytes, control } = this.#workspace;
    const lengths = Array.from(control.subarray(layout.lengths, layout.lengths + streamCount));
    const streamsBytes = lengths.reduce((sum, length) => sum + length, 0);
    // Where pages are kept even a batch that does not shrink, or grows by its header, is of use later.
    const keeps = this.#slotCount > 0;
    const streamsMax = keeps ? streamsBytesMax(batch.bytes) : batch.bytes - layout.headerBytes;
    if (streamsBytes > streamsMax) return undefined;
    const headerAt = control[layout.streamsAt] as number;
    const from = headerAt + layout.headerBytes;
    const streams = bytes.subarray(from, from + streamsBytes);
    const packed = this.#packed(streams, lengths[streamCount - 1] as number);
    const payload = packed ?? streams;
    if (payload.length + layout.headerBytes > this.#bodyBytesMax(batch.bytes)) return undefined;
    this.#writeHeader(batch, headerAt, lengths, streamsBytes, payload.length, packed !== undefined);
    const body = Buffer.allocUnsafeSlow(layout.headerBytes + payload.length);
    body.set(bytes.subarray(headerAt, from));
    body.set(payload, layout.headerBytes);
    return [body];
  }

  #bodyBytesMax(rawBytes: number): number {
    if (this.#slotCount === 0) return this.#shared === undefined ? rawBytes * shareMax : rawBytes;
    if (rawBytes < layout.pageBytes) return rawBytes;
    return Math.min(rawBytes + bodyGrowthBytesMax, batchBytesMax);
  }

  #writeHeader(
    batch: PageBatch,
    at: number,
    lengths: readonly number[],
    streamsBytes: number,
    payloadBytes: number,
    isPacked: boolean,
  ): void {
    const { bytes, view, control } = this.#workspace;
    const smallBytes = streamsBytes - (lengths[streamCount - 1] as number);
    writeStreamsHeader(view, at, {
      isShared: this.#shared !== undefined,
      isXbzrle: (this.#methods & layout.useXbzrle) !== 0,
      pack: isPacked ? this.#pack : Pack.none,
      block: batch.block,
      generation: this.#generation,
      sequence: this.#sequence,
      slotCount: this.#slotCount,
      sharedGeneration: this.#sharedGeneration,
      recordCount: control[layout.records] as number,
      lengths,
      payloadBytes,
    });
    this.#workspace.checksum(at, smallBytes);
    bytes.copyWithin(at + checksumAt, layout.hashAt, layout.hashAt + 8);
  }

  /** Answers undefined when compressing would not gain a twentieth. */
  #packed(streams: Uint8Array, rawsBytes: number): Uint8Array | undefined {
    if (this.#pack === Pack.none || streams.length < 64) return undefined;
    const isMostlyRaw = rawsBytes > streams.length / 2;
    if (isMostlyRaw && this.#samplesInRow !== undefined && this.#samplesInRow < samplesInRowMax) {
      this.#samplesInRow++;
      if (!this.#sampleShrinks(streams)) return undefined;
    }
    const packed = this.#compress(streams);
    const shrank = packed.length <= streams.length * shareMax;
    if (isMostlyRaw) this.#samplesInRow = shrank ? undefined : 0;
    return shrank ? packed : undefined;
  }

  /** The answer may change with the next call. */
  #compress(bytes: Uint8Array, pack = this.#pack, level = this.#level): Uint8Array {
    return pack === Pack.lz4 ? lz4Compress(bytes) : zstdCompressContext(level).compress(bytes);
  }

  #sampleShrinks(streams: Uint8Array): boolean {
    if (streams.length <= this.#sample.length) return true;
    const stride = Math.floor((streams.length - sampleBytes) / (sampleCount - 1));
    for (let i = 0; i < sampleCount; i++) {
      this.#sample.set(streams.subarray(i * stride, i * stride + sampleBytes), i * sampleBytes);
    }
    return this.#compress(this.#sample).length <= this.#sample.length * shareMax;
  }
}
