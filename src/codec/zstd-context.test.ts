/** Contexts that last and node:zlib's documented calls are the same to whoever uses them; nothing but one whole frame will do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { Prng } from "../base/index.ts";
import { batchBytesMax } from "./page-batch.ts";
import { isOneFrame, works, type ZstdContexts, zstdContextKinds } from "./zstd-context.ts";

const kinds = Object.entries(zstdContextKinds);

/** Some of it repeats. */
function content(seed: number, bytes: number): Buffer {
  const prng = new Prng(seed);
  const made = Buffer.alloc(bytes, "something that repeats itself ");
  for (let i = prng.integer(0, bytes); i > 0; i -= 16) {
    made[prng.integer(0, Math.max(0, bytes - 1))] = prng.integer(0, 255);
  }
  return made;
}

test("this Node has what contexts that last are made of", () => {
  for (const [name, contexts] of kinds) assert.ok(works(contexts), name);
});

test("what does not work is not taken", () => {
  const { lasting } = zstdContextKinds;
  const without = (change: Partial<ZstdContexts>): boolean => works({ ...lasting, ...change });
  assert.ok(without({}));
  const fails = (): never => assert.fail("no such thing");
  assert.ok(!without({ compress: fails }));
  assert.ok(!without({ decompress: fails }));
  assert.ok(!without({ compress: () => ({ compress: (bytes) => bytes }) }));
  assert.ok(!without({ decompress: () => ({ decompress: () => {} }) }));
});

test("both ways write the same bytes and read each other's, however often", () => {
  const contexts = kinds.map(([, kind]) => [kind.compress(1), kind.decompress()] as const);
  const sizes = fc.oneof(fc.nat({ max: 3000 }), fc.constantFrom(64 << 10, 300_000, batchBytesMax));
  fc.assert(
    fc.property(sizes, fc.nat(), (size, seed) => {
      const bytes = content(seed, size);
      const frames = contexts.map(([compressor]) => Buffer.from(compressor.compress(bytes)));
      assert.deepEqual(frames[0], frames[1]);
      for (const [, decompressor] of contexts) {
        const back = Buffer.alloc(bytes.length);
        decompressor.decompress(frames[0] as Buffer, back);
        assert.ok(back.equals(bytes));
      }
    }),
    { numRuns: 40 },
  );
});

for (const [name, contexts] of kinds) {
  test(`damage, more and less than one frame, and large windows are refused [${name}]`, () => {
    const bytes = content(1, 20_000);
    const frame = Buffer.from(contexts.compress(1).compress(bytes));
    const refused = (some: Uint8Array, size: number): void => {
      const back = Buffer.alloc(size + 64, 0xee);
      const act = (): void => contexts.decompress().decompress(some, back.subarray(0, size));
      assert.throws(act, (error: Error) => error.message !== "");
      assert.ok(back.subarray(size).equals(Buffer.alloc(64, 0xee)), "nothing behind the end");
    };
    refused(frame, bytes.length + 1);
    refused(frame, bytes.length - 1);
    refused(frame.subarray(0, -1), bytes.length);
    refused(Buffer.concat([frame, frame]), bytes.length);
    refused(Buffer.concat([frame, Buffer.alloc(1)]), bytes.length);
    refused(Buffer.alloc(0), bytes.length);
    refused(Buffer.from("no frame at all"), bytes.length);
    // Written by hand: magic, descriptor, window of 2^24 (2^18), and a last block of three bytes as they are.
    const windowed = (log: number): Buffer =>
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 3 * 8 + 1, 0, 0, 1, 2, 3]);
    refused(windowed(24), 3);
    const back = Buffer.alloc(3);
    contexts.decompress().decompress(windowed(18), back);
    assert.deepEqual([...back], [1, 2, 3]);
  });
}

test("after a frame that is refused each of them is as good as before", () => {
  const bytes = content(2, 5000);
  const whole = Buffer.from(zstdContextKinds.documented.compress(1).compress(bytes));
  for (const [name, contexts] of kinds) {
    const decompressor = contexts.decompress();
    // Its only block, of three bytes, is not the last.
    const endless = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 8 << 3, 3 * 8, 0, 0, 1, 2, 3]);
    assert.throws(() => decompressor.decompress(endless, Buffer.alloc(3)), Error, name);
    for (let end = 0; end < whole.length; end += 7) {
      const part = whole.subarray(0, end);
      assert.throws(() => decompressor.decompress(part, Buffer.alloc(5000)), Error, name);
    }
    const again = (): void => {
      const back = Buffer.alloc(5000);
      decompressor.decompress(whole, back);
      assert.ok(back.equals(bytes), name);
    };
    again();
    // Whole by its lengths, but not what it should be.
    const damaged = Buffer.from(whole);
    damaged.fill(0xff, 12);
    assert.throws(() => decompressor.decompress(damaged, Buffer.alloc(5000)), Error, name);
    again();
    assert.throws(() => decompressor.decompress(whole, Buffer.alloc(4999)), Error, name);
    again();
  }
});

test("a frame of several blocks, with and without checksum and size, is one", () => {
  for (const [checksum, pledged] of [
    [0, undefined],
    [1, undefined],
    [1, 300_000],
    [0, 300_000],
  ] as const) {
    const bytes = content(3, 300_000);
    const options = pledged === undefined ? {} : { pledgedSrcSize: pledged };
    const frame = zstdCompressSync(bytes, {
      ...options,
      params: { [constants.ZSTD_c_checksumFlag]: checksum },
    });
    assert.equal(isOneFrame(frame), true, `${checksum} ${pledged}`);
    assert.equal(isOneFrame(frame.subarray(0, -1)), false);
    assert.equal(isOneFrame(Buffer.concat([frame, Buffer.alloc(1)])), false);
  }
});
