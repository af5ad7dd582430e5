import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../base/index.ts";
import { BufferPool } from "../buffer-pool.ts";
import { batchBytesMax } from "../page-batch.ts";
import { zstdCompressBeside as compressBeside } from "./zstd-beside.ts";
import { zstdContextKinds } from "../zstd-context.ts";

const level = 1;
const here = zstdContextKinds.documented.compress(level);

const pool = new BufferPool();

/** The frame's buffer is used again at once. */
async function zstdCompressBeside(bytes: Uint8Array, ofLevel: number): Promise<Buffer> {
  const frame = await compressBeside(bytes, ofLevel, pool);
  const copy = Buffer.from(frame.bytes);
  frame.done();
  return copy;
}

function noise(prng: Prng, bytes: number): Buffer {
  const made = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) made.writeUInt32LE(prng.uint32(), at);
  return made;
}

test("frames are those that this thread would have made, however many are asked for at once", async () => {
  const prng = new Prng(3);
  const all = Array.from({ length: 60 }, () => {
    const bytes = noise(prng, prng.integer(1, batchBytesMax));
    // Some of it shrinks.
    return bytes.fill("as it was ", prng.integer(0, bytes.length - 1));
  });
  const frames = await Promise.all(all.map((bytes) => zstdCompressBeside(bytes, level)));
  for (const [i, frame] of frames.entries()) {
    assert.ok(Buffer.from(here.compress(all[i] as Buffer)).equals(frame), `frame ${i}`);
  }
});

test("a frame that would end where its buffer ends is one frame", async () => {
  const prng = new Prng(4);
  // What noise packs to: itself and some bytes of headers.
  const packedBytes = (bytes: number): number => here.compress(noise(prng, bytes)).length;
  // Each level has contexts of its own.
  for (const [bufferBytes, own] of [
    [1 << 20, 2],
    [4 << 20, 3],
  ] as const) {
    const large = 400_000;
    let left = bufferBytes;
    for (; left > 2 * large; left -= packedBytes(large)) {
      await zstdCompressBeside(noise(prng, large), own);
    }
    const half = (left >> 1) - (packedBytes(left >> 1) - (left >> 1));
    await zstdCompressBeside(noise(prng, half), own);
    left -= packedBytes(half);
    for (let bytes = left - 40; bytes <= left; bytes++) {
      if (packedBytes(bytes) !== left) continue;
      const last = await zstdCompressBeside(noise(prng, bytes), own);
      assert.equal(last.length, left);
    }
  }
});
