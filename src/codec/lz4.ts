/**
 * Codec lz4: the length of the records as u32, little endian, then one LZ4 block of them. The length is there because the
 * library wants it in front of the block; it says the same as the frame's header, or the batch is refused.
 */
import { compress, compressSync, uncompressSync } from "lz4-napi";
import { codecIds } from "./ids.ts";
import type { Compressor, Decompressor } from "./stateless.ts";

const prefixBytes = 4;

/** The length, then the block. The answer is a buffer of its own, at most 0.5 % and 16 bytes longer than `bytes`. */
export function lz4Compress(bytes: Uint8Array): Uint8Array {
  // Declared for Buffer; any Uint8Array will do.
  return compressSync(bytes as Buffer);
}

/** The same by another thread; `bytes` must stay as they are until it is done. */
export async function lz4CompressBeside(bytes: Uint8Array): Promise<Uint8Array> {
  return await compress(bytes);
}

/** Exactly `rawBytes` from all of `bytes`, which `lz4Compress` answered; throws on anything else. */
export function lz4Decompress(bytes: Uint8Array, rawBytes: number): Uint8Array {
  if (bytes.length <= prefixBytes) throw new Error("an LZ4 block is missing");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // The library allocates what it says: 6 bytes that claim 4 GiB cost it seconds.
  const claimedBytes = view.getUint32(0, true);
  if (claimedBytes !== rawBytes) throw new Error(`the LZ4 block claims ${claimedBytes}`);
  const raw = uncompressSync(bytes);
  if (raw.length !== rawBytes) throw new Error(`the LZ4 block holds ${raw.length}`);
  return raw;
}

export const lz4Compressor: Compressor = {
  id: codecIds.lz4,
  name: "lz4",
  compress: lz4Compress,
};

export const lz4Decompressor: Decompressor = {
  id: codecIds.lz4,
  name: "lz4",
  decompress: lz4Decompress,
};
