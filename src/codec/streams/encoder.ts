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
import {
  type BatchEncoder,
  batchBytesMax,
  bodyGrowthBytesMax,
  type Encoded,
  type PageBatch,
} from "../page-batch.ts";
import {
  checksumAt,
  Pack,
  streamCount,
  streamsBytesMax,
  writePack,
  writeStreamsHeader,
} from "./body.ts";
import { countsOf, type StreamsCounts, zeroCounts } from "./counts.ts";
import { besideBytesMin, Packer, type Payload, type Streams } from "./packer.ts";
import { noSharedPages, type SharedPages } from "./shared-pages.ts";
import { tablesWithin, Workspace } from "./workspace.ts";

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
/** Of a page like another one less may change than of its own earlier version: more saves nothing once streams are
 * compressed (PostgreSQL's trace: 128 to 384 words differ by 0.5 %), and takes time. */
const similarWordsMaxPacked = 128;

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
  readonly #packer: Packer;
  #level: number;
  readonly #workspace: Workspace;
  readonly #methods: number;
  readonly #slotCount: number;
  readonly #shared: SharedPages | undefined;
  /** Slots of shared pages that the batch at hand filled. */
  readonly #stored: number[] = [];
  #generation: number;
  #sequence = 0;
  #sharedGeneration = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.name = options.method;
    const pack = Pack[options.pack ?? (options.method === "hybrid" ? "zstd" : "none")];
    this.#level = options.level ?? 1;
    this.#packer = new Packer(pack, this.#level);
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
    this.#setUp(tables, pack);
  }

  #setUp(tables: ReturnType<typeof tablesWithin>, pack: Pack): void {
    const { control } = this.#workspace;
    const deltaWordsMax =
      this.#options.deltaWordsMax ?? (pack === Pack.none ? deltaWordsMaxBare : deltaWordsMaxPacked);
    const similarWordsMax =
      this.#options.similarWordsMax ??
      (pack === Pack.none ? deltaWordsMax : Math.min(deltaWordsMax, similarWordsMaxPacked));
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
    this.#packer.use(Pack[pack], level);
    this.#level = level;
  }

  /** Of the batch that was encoded last: its streams, before they were compressed. */
  get streamsBytes(): number {
    const { control } = this.#workspace;
    const lengths = control.subarray(layout.lengths, layout.lengths + streamCount);
    return lengths.reduce((sum, length) => sum + length, 0);
  }

  /** Of the batch that was encoded last: what `later` leaves to another thread, if it is to be packed. */
  get besideBytes(): number {
    const isBeside = this.#slotCount > 0 && this.#shared === undefined;
    return isBeside && this.streamsBytes >= besideBytesMin ? this.streamsBytes : 0;
  }

  /** What the batch that was encoded last would come to in another pack, in bytes. Nothing changes. */
  bytesWith(pack: "zstd" | "lz4", level: number): number {
    const { bytes, control } = this.#workspace;
    const from = (control[layout.streamsAt] as number) + layout.headerBytes;
    const streams = bytes.subarray(from, from + this.streamsBytes);
    const packed = this.#packer.compress(streams, Pack[pack], level);
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
    this.#packer.reset();
    // Keys and marks are written before they are read.
    bytes.fill(0, control[layout.tableAt], control[layout.historyAt]);
    control.fill(0, layout.turn, layout.records);
  }

  encode(batch: PageBatch): readonly Uint8Array[] {
    return this.#pack(batch, this.#look(batch));
  }

  later(batch: PageBatch): Encoded | Promise<Encoded> {
    const streams = this.#look(batch);
    // Without a history a batch that does not shrink goes as it is, and would have to be kept until that is known. Pages of other
    // VMs must reach the sink in the order in which they are referred to, and these have other queues.
    const keeps = this.#slotCount > 0 && this.#shared === undefined;
    const fits = streams !== undefined && this.#fits(batch, streams.bytes.length);
    const payload = keeps && fits ? this.#packer.packBeside(streams) : undefined;
    if (payload === undefined) return { body: this.#pack(batch, streams), id: this.id };
    const header = this.#takeHeader(batch);
    const complete = ({ pack, pieces, bytes, done }: Payload): Encoded => {
      writePack(new DataView(header.buffer, header.byteOffset), 0, pack, bytes);
      return { id: codecIds.streams, body: [header, ...pieces], done };
    };
    return payload instanceof Promise ? payload.then(complete) : complete(payload);
  }

  #pack(batch: PageBatch, streams: Streams | undefined): readonly Uint8Array[] {
    const payload = streams === undefined ? undefined : this.#packer.pack(streams);
    if (payload === undefined || !this.#fits(batch, payload.bytes)) {
      this.#leave();
      return batch.pieces;
    }
    const header = this.#takeHeader(batch);
    const body = Buffer.allocUnsafeSlow(header.length + payload.bytes);
    body.set(header);
    writePack(new DataView(body.buffer), 0, payload.pack, payload.bytes);
    let at = header.length;
    for (const piece of payload.pieces) {
      body.set(piece, at);
      at += piece.length;
    }
    return [body];
  }

  #fits({ bytes }: PageBatch, payloadBytes: number): boolean {
    return payloadBytes + layout.headerBytes <= this.#bodyBytesMax(bytes);
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

  /** Runs the kernels. Answers undefined when the batch should go as it is. */
  #look(batch: PageBatch): Streams | undefined {
    assert(batch.bytes <= batchBytesMax, "a batch fits a frame");
    if (this.#sequence === 2 ** 32 || this.#sharedMoved()) this.reset();
    this.#copyIn(batch);
    this.#stored.length = 0;
    const { kernels, bytes, control } = this.#workspace;
    const fault = kernels.encode(layout.inputAt, batch.bytes, batch.block, this.#generation);
    assert(fault === layout.ok, `records that are none (${fault})`);
    const { streamsBytes } = this;
    // Where pages are kept even a batch that does not shrink, or grows by its header, is of use later.
    const keeps = this.#slotCount > 0;
    const streamsMax = keeps ? streamsBytesMax(batch.bytes) : batch.bytes - layout.headerBytes;
    if (streamsBytes > streamsMax) return undefined;
    const from = (control[layout.streamsAt] as number) + layout.headerBytes;
    return {
      bytes: bytes.subarray(from, from + streamsBytes),
      rawsBytes: control[layout.lengths + streamCount - 1] as number,
    };
  }

  /** The batch goes as it is: as if it had never been looked at. */
  #leave(): void {
    this.#workspace.kernels.drop();
    this.#shared?.drop(this.#stored);
    this.counts.left++;
    this.id = codecIds.none;
  }

  #bodyBytesMax(rawBytes: number): number {
    if (this.#slotCount === 0) return this.#shared === undefined ? rawBytes * shareMax : rawBytes;
    if (rawBytes < layout.pageBytes) return rawBytes;
    return Math.min(rawBytes + bodyGrowthBytesMax, batchBytesMax);
  }

  /** The batch goes as streams. Answers its header, in which only how they are packed is missing. */
  #takeHeader(batch: PageBatch): Buffer {
    const { bytes, view, control } = this.#workspace;
    const at = control[layout.streamsAt] as number;
    const lengths = Array.from(control.subarray(layout.lengths, layout.lengths + streamCount));
    writeStreamsHeader(view, at, {
      isShared: this.#shared !== undefined,
      isXbzrle: (this.#methods & layout.useXbzrle) !== 0,
      block: batch.block,
      generation: this.#generation,
      sequence: this.#sequence,
      slotCount: this.#slotCount,
      sharedGeneration: this.#sharedGeneration,
      recordCount: control[layout.records] as number,
      lengths,
    });
    this.#workspace.checksum(at, this.streamsBytes - (lengths[streamCount - 1] as number));
    bytes.copyWithin(at + checksumAt, layout.hashAt, layout.hashAt + 8);
    countsOf(control, this.counts);
    this.#sequence++;
    this.id = codecIds.streams;
    return Buffer.from(bytes.subarray(at, at + layout.headerBytes));
  }
}
