/** Comparison of all guest memory while both VMs are stopped: each side hashes its own QEMU's memory, chunk by chunk. */
import { GodwitError } from "../base/index.ts";
import type { GuestMemory } from "../qemu/memory/index.ts";
import type { RamBlock } from "../qemu/stream/index.ts";
import type { MemoryHashes } from "./wire/index.ts";

/** Characters of a base64 SHA-256. */
const hashLength = 44;
/** All hashes of a VM must fit one control message (512 KiB). */
const chunkCountMax = 8192;
const chunkBytesMin = 1 << 20;

/** A power of two of at least 1 MiB: 8 GiB are hashed by the MiB, 64 GiB by 8 MiB. */
export function hashChunkBytes(blocks: readonly RamBlock[]): number {
  const total = blocks.reduce((sum, block) => sum + block.lengthBytes, 0);
  let chunkBytes = chunkBytesMin;
  while (total / chunkBytes + blocks.length > chunkCountMax) chunkBytes *= 2;
  return chunkBytes;
}

export async function hashMemory(
  memory: GuestMemory,
  blocks: readonly RamBlock[],
  chunkBytes: number,
): Promise<MemoryHashes> {
  const hashed: MemoryHashes["blocks"] = [];
  for (const { name, lengthBytes } of blocks) {
    hashed.push({ name, lengthBytes, hashes: await memory.hash(name, lengthBytes, chunkBytes) });
  }
  return { chunkBytes, blocks: hashed };
}

/** The first difference in words, or undefined when all is equal. */
export function compareHashes(ours: MemoryHashes, theirs: MemoryHashes): string | undefined {
  if (ours.chunkBytes !== theirs.chunkBytes || ours.blocks.length !== theirs.blocks.length) {
    throw new GodwitError("FRAME_INVALID", "the destination hashed something else than was asked");
  }
  for (const [i, our] of ours.blocks.entries()) {
    const their = theirs.blocks[i];
    if (their?.name !== our.name || their.lengthBytes !== our.lengthBytes) {
      return `block ${our.name} of ${our.lengthBytes} bytes is ${their?.name} of ${their?.lengthBytes} there`;
    }
    if (our.hashes === their.hashes) continue;
    const chunks = our.hashes.length / hashLength;
    const different: number[] = [];
    for (let chunk = 0; chunk < chunks; chunk++) {
      const at = chunk * hashLength;
      if (our.hashes.slice(at, at + hashLength) !== their.hashes.slice(at, at + hashLength)) {
        different.push(chunk);
      }
    }
    const address = (different[0] ?? 0) * ours.chunkBytes;
    return (
      `memory differs: ${different.length} of ${chunks} chunks of ${ours.chunkBytes >> 10} KiB in block ${our.name}, ` +
      `the first at 0x${address.toString(16)}`
    );
  }
  return undefined;
}
