/**
 * Codec streams, the receiving side. It has no policy: bodies say what to keep where. It checks that they make sense, and that
 * what comes out is what went in (64 bits over header, streams and records). After anything wrong its state is lost, and it
 * refuses every batch until one that begins a new generation.
 */
import { assert, GodwitError } from "../../base/index.ts";
import type { HeldBytes } from "../held-bytes.ts";
import { codecIds } from "../ids.ts";
import { type KernelBuild, layout } from "../kernels/index.ts";
import { lz4Decompress } from "../lz4.ts";
import { type BatchDecoder, batchBytesMax, type RecordRange } from "../page-batch.ts";
import {
  checksumAt,
  Pack,
  readStreamsHeader,
  streamCount,
  type StreamsHeader,
  writePack,
} from "./body.ts";
import { noSharedPages, type SharedPages } from "./shared-pages.ts";
import { Workspace } from "./workspace.ts";
import { type ZstdDecompressContext, zstdDecompressContext } from "../zstd-context.ts";

export interface StreamsDecoderOptions {
  /** Bound of the history's pages, whatever an encoder claims. Default 1 GiB. */
  readonly memoryBytesMax?: number;
  readonly shared?: SharedPages;
  readonly kernels?: KernelBuild;
}

const memoryBytesMaxDefault = 1 << 30;
/** Batches that may wait to be written while the next is decoded without being copied: what `HeldBytes` allows, and one. */
const regionCount = 34;

const faults: Readonly<Record<number, string>> = {
  [layout.badLength]: "a stream that ends too early or too late",
  [layout.badKind]: "a kind of page that does not exist",
  [layout.badPage]: "a page that no block has",
  [layout.badSlot]: "a slot that does not exist",
  [layout.badKey]: "a slot that holds another page",
  [layout.badMask]: "more changes than words",
  [layout.badShared]: "a shared page that is not here",
  [layout.badRest]: "streams that go on behind the last record",
};

export class StreamsDecoder implements BatchDecoder {
  readonly id = codecIds.streams;
  readonly #held: HeldBytes;
  readonly #shared: SharedPages | undefined;
  readonly #build: KernelBuild;
  readonly #slotCountMax: number;
  #reservedSlots = 0;
  #workspace: Workspace | undefined;
  #generation: number | undefined;
  #sequence = 0;
  #zstd: ZstdDecompressContext | undefined;
  /** Why nothing is accepted before a new generation. */
  #lost: string | undefined;
  /** Holders of each region of the workspace. */
  readonly #holders = new Uint32Array(regionCount);

  constructor(held: HeldBytes, options: StreamsDecoderOptions = {}) {
    this.#held = held;
    this.#shared = options.shared;
    this.#build = options.kernels ?? "simd";
    const bytesMax = options.memoryBytesMax ?? memoryBytesMaxDefault;
    this.#slotCountMax = Math.floor(bytesMax / layout.pageBytes);
  }

  /** What the history takes now. */
  get memoryBytes(): number {
    const high = this.#workspace?.get(layout.high) ?? 0;
    return high * (layout.pageBytes + 8);
  }

  decode(body: RecordRange, rawBytes: number): RecordRange {
    assert(rawBytes <= batchBytesMax, "checked by the caller");
    const view = new DataView(body.bytes.buffer, body.bytes.byteOffset, body.bytes.byteLength);
    const header = readStreamsHeader(view, body.from, body.to, rawBytes);
    if (typeof header === "string") throw this.#refuse(header);
    this.#admit(header);
    const workspace = this.#workspace as Workspace;
    this.#unpack(header, body, workspace);
    const region = this.#freeRegion();
    const out = layout.outAt + region * layout.outBytes;
    this.#run(header, workspace, out, rawBytes);
    this.#sequence++;
    return this.#range(workspace, region, out, rawBytes);
  }

  /** Brings the state to where this batch may follow, or fails. */
  #admit(header: StreamsHeader): void {
    const { generation, sequence, slotCount } = header;
    const begins = sequence === 0 && generation !== this.#generation;
    if (slotCount > this.#slotCountMax) {
      throw this.#refuse(`with ${slotCount} slots where ${this.#slotCountMax} fit`, header);
    }
    if (begins) this.#begin(header);
    else if (this.#lost !== undefined) throw this.#refuse(`after ${this.#lost}`, header);
    else if (generation !== this.#generation) {
      throw this.#refuse(`where ${this.#expected()} was expected`, header);
    } else if (
      sequence !== this.#sequence ||
      this.#workspace?.get(layout.slotCount) !== slotCount
    ) {
      throw this.#refuse(`where ${this.#expected()} was expected`, header);
    }
    this.#admitShared(header, begins);
    const control = this.#workspace?.control as Uint32Array;
    control[layout.methods] =
      (header.isShared ? layout.useShared : 0) | (header.isXbzrle ? layout.useXbzrle : 0);
    control.set(header.lengths, layout.lengths);
  }

  #expected(): string {
    if (this.#generation === undefined) return "the beginning of a generation";
    return `generation ${this.#generation}, sequence ${this.#sequence}`;
  }

  #admitShared({ isShared, sharedGeneration }: StreamsHeader, begins: boolean): void {
    if (!isShared) return;
    if (this.#shared === undefined)
      throw this.#refuse("with shared pages, of which there are none");
    if (this.#shared.generation === sharedGeneration) return;
    if (!begins) throw this.#refuse(`with shared pages of generation ${sharedGeneration}`);
    this.#shared.reset(sharedGeneration);
  }

  #begin({ generation, slotCount }: StreamsHeader): void {
    const workspace = this.#workspaceFor(slotCount);
    const { control } = workspace;
    control[layout.slotCount] = slotCount;
    control[layout.high] = 0;
    control[layout.keysAt] = keysAt;
    control[layout.historyAt] = historyAtOf(this.#reservedSlots);
    this.#generation = generation;
    this.#sequence = 0;
    this.#lost = undefined;
  }

  /** As large as the first generation's history: of one that each makes larger there would be many. */
  #workspaceFor(slotCount: number): Workspace {
    if (this.#workspace !== undefined && slotCount > this.#reservedSlots) {
      throw this.#refuse(`with ${slotCount} slots after a history of ${this.#reservedSlots}`);
    }
    if (this.#workspace === undefined) {
      this.#reservedSlots = slotCount;
      this.#workspace = new Workspace(
        historyAtOf(slotCount) + slotCount * layout.pageBytes,
        this.#build,
        (workspace) => this.#shared?.host(workspace, []) ?? noSharedPages,
      );
    }
    return this.#workspace;
  }

  /** Puts header and streams where the kernels read them. */
  #unpack(header: StreamsHeader, body: RecordRange, workspace: Workspace): void {
    const { bytes } = workspace;
    const from = body.from + layout.headerBytes;
    bytes.set(body.bytes.subarray(body.from, from), layout.bodyAt);
    // Is not part of the checksum.
    writePack(workspace.view, layout.bodyAt, Pack.none, 0);
    const payload = body.bytes.subarray(from, body.to);
    const streamsAt = layout.bodyAt + layout.headerBytes;
    const streams = bytes.subarray(streamsAt, streamsAt + header.streamsBytes);
    try {
      if (header.pack === Pack.zstd)
        (this.#zstd ??= zstdDecompressContext()).decompress(payload, streams);
      else if (header.pack === Pack.lz4) streams.set(lz4Decompress(payload, streams.length));
      else streams.set(payload);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.#refuse(`that cannot be unpacked (${why})`, header, cause);
    }
  }

  #run(header: StreamsHeader, workspace: Workspace, out: number, rawBytes: number): void {
    const { kernels, bytes, control } = workspace;
    const fault = kernels.decode(out, rawBytes, header.block, header.generation);
    if (fault !== layout.ok) throw this.#refuse(`with ${faults[fault] ?? fault}`, header);
    let recordCount = 0;
    for (let kind = 0; kind < 16; kind++) recordCount += control[layout.counts + kind] as number;
    if (recordCount !== header.recordCount) {
      throw this.#refuse(`with ${recordCount} records of ${header.recordCount}`, header);
    }
    const rawsBytes = header.lengths[streamCount - 1] as number;
    workspace.checksum(layout.bodyAt, header.streamsBytes - rawsBytes);
    const at = layout.bodyAt + checksumAt;
    for (let i = 0; i < 8; i++) {
      if (bytes[at + i] !== bytes[layout.hashAt + i]) {
        throw this.#refuse("whose checksum is wrong: the two sides kept different pages", header);
      }
    }
  }

  /** The lowest that nobody holds: what was used last is still in the processor's cache. */
  #freeRegion(): number {
    const free = this.#holders.subarray(0, regionCount - 1).indexOf(0);
    return free < 0 ? regionCount - 1 : free;
  }

  #range(workspace: Workspace, region: number, out: number, rawBytes: number): RecordRange {
    if (region === regionCount - 1) {
      // Whoever holds so much gets a copy.
      const bytes = workspace.bytes.slice(out, out + rawBytes);
      return { bytes, from: 0, to: rawBytes, hold: () => this.#held.hold(rawBytes) };
    }
    const holders = this.#holders;
    const hold = (): (() => void) => {
      const release = this.#held.hold(rawBytes);
      holders[region] = (holders[region] as number) + 1;
      return () => {
        release();
        holders[region] = (holders[region] as number) - 1;
      };
    };
    return { bytes: workspace.bytes, from: out, to: out + rawBytes, hold };
  }

  /** From now on only a new generation is accepted. */
  #refuse(what: string, header?: StreamsHeader, cause?: unknown): GodwitError {
    const of =
      header === undefined
        ? ""
        : ` of generation ${header.generation}, sequence ${header.sequence}`;
    this.#lost ??= `a batch ${what}`;
    return new GodwitError(
      "FRAME_INVALID",
      `a streams batch${of} ${what}: the state is lost`,
      cause === undefined ? {} : { cause },
    );
  }
}

const keysAt = layout.outAt + regionCount * layout.outBytes;

function historyAtOf(slotCount: number): number {
  return Math.ceil((keysAt + 8 * slotCount) / layout.pageBytes) * layout.pageBytes;
}
