/** Which pages a smaller trace keeps: by fixed rules, so that several recordings keep what belongs together. */
import { crc32c } from "@node-rs/crc32";

/** Pages are kept or left out in groups: what lies side by side is compressed together. */
const groupPages = 16;

/** All versions of a page, or none. One of `outOf` groups is kept. */
export function keepsPage(block: number, page: number, outOf: number): boolean {
  const group = Math.floor(page / groupPages);
  // The constants of splitmix32: neighbours fall anywhere.
  let mixed = (group + Math.imul(block + 1, 0x9e3779b9)) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return ((mixed ^ (mixed >>> 15)) >>> 0) % outOf === 0;
}

/** Pages that hold the same are all kept or all left out, in whatever VM they are. */
export function keepsContent(content: Uint8Array, outOf: number): boolean {
  // Not the low bits alone, nor the checksum as it is: it is also what frames are sealed with.
  return Math.imul(crc32c(content) ^ 0x5bd1e995, 0x9e3779b1) >>> 8 < (1 << 24) / outOf;
}
