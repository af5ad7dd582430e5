/** The header of a streams body: docs/formats/codec.md. */
import { layout } from "../kernels/index.ts";
import { batchBytesMax, bodyGrowthBytesMax } from "../page-batch.ts";

export const streamsVersion = 3;
export const streamCount = 8;
export const packAt = 3;
export const payloadBytesAt = 60;
export const checksumAt = 64;

export const Pack = { none: 0, zstd: 1, lz4: 2 } as const;
export type Pack = (typeof Pack)[keyof typeof Pack];

export interface StreamsHeader {
  /** Bits of `layout.methods` that a decoder has to know: shared, xbzrle. */
  readonly isShared: boolean;
  readonly isXbzrle: boolean;
  readonly pack: Pack;
  readonly block: number;
  readonly generation: number;
  readonly sequence: number;
  readonly slotCount: number;
  /** 0 when not shared. */
  readonly sharedGeneration: number;
  readonly recordCount: number;
  /** Of the streams in their order, unpacked. */
  readonly lengths: readonly number[];
  /** Their sum. */
  readonly streamsBytes: number;
  /** Of what follows the header. */
  readonly payloadBytes: number;
}

/** Writes all but how the payload is packed and the checksum, in which that counts as 0: it may not be known yet. */
export function writeStreamsHeader(
  view: DataView,
  at: number,
  header: Omit<StreamsHeader, "streamsBytes" | "payloadBytes" | "pack">,
): void {
  view.setUint8(at, streamsVersion);
  view.setUint8(at + 1, header.isShared ? 1 : 0);
  view.setUint8(at + 2, header.isXbzrle ? 1 : 0);
  view.setUint8(at + packAt, 0);
  view.setUint16(at + 4, header.block);
  view.setUint16(at + 6, 0);
  view.setUint32(at + 8, header.generation);
  view.setUint32(at + 12, header.sequence);
  view.setUint32(at + 16, header.slotCount);
  view.setUint32(at + 20, header.sharedGeneration);
  view.setUint32(at + 24, header.recordCount);
  for (let i = 0; i < streamCount; i++) {
    view.setUint32(at + 28 + 4 * i, header.lengths[i] as number);
  }
  view.setUint32(at + payloadBytesAt, 0);
}

/** Completes a header: `pack` is how the `payloadBytes` behind it were made. */
export function writePack(view: DataView, at: number, pack: Pack, payloadBytes: number): void {
  view.setUint8(at + packAt, pack);
  view.setUint32(at + payloadBytesAt, payloadBytes);
}

/** The longest streams of a batch; also a batch that does not shrink is of use for later ones, as long as it fits a frame. */
export function streamsBytesMax(rawBytes: number): number {
  const most = Math.max(rawBytes, batchBytesMax - layout.headerBytes);
  return rawBytes < layout.pageBytes
    ? rawBytes
    : Math.min(rawBytes + bodyGrowthBytesMax - layout.headerBytes, most);
}

/** Reads the header of [from, to); answers the first thing wrong as text. `rawBytes`: what the records must come to. */
export function readStreamsHeader(
  view: DataView,
  from: number,
  to: number,
  rawBytes: number,
): StreamsHeader | string {
  if (to - from < layout.headerBytes) return `of ${to - from} bytes`;
  const version = view.getUint8(from);
  if (version !== streamsVersion) return `of version ${version}`;
  const flags = view.getUint8(from + 1);
  const delta = view.getUint8(from + 2);
  const pack = view.getUint8(from + packAt);
  if (flags > 1 || delta > 1 || pack > Pack.lz4 || view.getUint16(from + 6) !== 0) {
    return `with flags ${flags}, delta ${delta}, pack ${pack}`;
  }
  const lengths: number[] = [];
  let streamsBytes = 0;
  for (let i = 0; i < streamCount; i++) {
    const length = view.getUint32(from + 28 + 4 * i);
    lengths.push(length);
    streamsBytes += length;
  }
  // An encoder sends records as they are before it sends much more than them.
  if (streamsBytes > streamsBytesMax(rawBytes))
    return `with streams of ${streamsBytes} bytes for ${rawBytes}`;
  const payloadBytes = view.getUint32(from + payloadBytesAt);
  if (payloadBytes !== to - from - layout.headerBytes) {
    return `with ${to - from - layout.headerBytes} bytes where it claims ${payloadBytes}`;
  }
  if (pack === Pack.none ? payloadBytes !== streamsBytes : payloadBytes >= streamsBytes) {
    return `with ${payloadBytes} bytes for streams of ${streamsBytes}`;
  }
  return {
    isShared: flags === 1,
    isXbzrle: delta === 1,
    pack: pack as Pack,
    block: view.getUint16(from + 4),
    generation: view.getUint32(from + 8),
    sequence: view.getUint32(from + 12),
    slotCount: view.getUint32(from + 16),
    sharedGeneration: view.getUint32(from + 20),
    recordCount: view.getUint32(from + 24),
    lengths,
    streamsBytes,
    payloadBytes,
  };
}
