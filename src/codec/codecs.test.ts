/** What every codec must do: records come back as they were, whatever they are and however they are cut; lies are refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync, gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { Prng } from "../base/index.ts";
import {
  type BatchEncoder,
  batchBytesMax,
  bodyGrowthBytesMax,
  checkCodecOptions,
  codecChoices,
  codecIds,
  codecLevels,
  createEncoder,
  Decoders,
  HeldBytes,
  type PageBatch,
  type RecordRange,
} from "./index.ts";
import { zstdCompressor } from "./zstd.ts";
import { zstdContextKinds } from "./zstd-context.ts";

/** Those that compress each batch by itself. */
const stateless = ["gzip", "zstd", "lz4"] as const;
const pageBytes = 4096;

type Kind = "zero" | "text" | "sparse" | "random";

/** Records as QEMU writes them; written out here so that the test does not trust the code that it goes with. */
function records(kinds: readonly Kind[], seed = 1): Buffer {
  const prng = new Prng(seed);
  const parts = kinds.map((kind, page) => {
    const word = Buffer.alloc(8);
    word.writeBigUInt64BE(BigInt(page) * 4096n + (kind === "zero" ? 0x22n : 0x28n));
    if (kind === "zero") return Buffer.concat([word, Buffer.alloc(1)]);
    const bytes = Buffer.alloc(pageBytes);
    if (kind === "text") bytes.fill("all work and no play ");
    if (kind === "sparse") bytes.writeUInt32LE(page, 128);
    if (kind === "random") {
      for (let at = 0; at < pageBytes; at += 4)
        bytes.writeUInt32LE(prng.integer(0, 2 ** 32 - 1), at);
    }
    return Buffer.concat([word, bytes]);
  });
  return Buffer.concat(parts);
}

function batchOf(bytes: Buffer, cuts: readonly number[] = []): PageBatch {
  const ends = [...new Set(cuts.map((cut) => cut % bytes.length)), bytes.length].toSorted(
    (a, b) => a - b,
  );
  const pieces = ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
  // Counts are the pump's business; no codec looks at them.
  return { block: 0, pieces, bytes: bytes.length, pageCount: 0, zeroCount: 0 };
}

/** A body in the middle of other bytes, as in a slab. */
function inSlab(body: Uint8Array): RecordRange {
  const bytes = Buffer.concat([Buffer.alloc(7, 0xee), body, Buffer.alloc(9, 0xee)]);
  return { bytes, from: 7, to: 7 + body.length, hold: () => () => {} };
}

function roundTrip(encoder: BatchEncoder, decoders: Decoders, bytes: Buffer, cuts: number[]) {
  const batch = batchOf(bytes, cuts);
  const body = Buffer.concat(encoder.encode(batch));
  assert.ok(
    body.length <= bytes.length + bodyGrowthBytesMax,
    "a body is hardly longer than its records",
  );
  const range = decoders.get(encoder.id).decode(inSlab(body), bytes.length);
  assert.ok(bytes.equals(range.bytes.subarray(range.from, range.to)));
  return body;
}

for (const name of codecChoices) {
  test(`records come back as they were, in any order of kinds and any cut [${name}]`, () => {
    const kinds = fc.array(fc.constantFrom<Kind>("zero", "text", "sparse", "random"), {
      minLength: 1,
      maxLength: 40,
    });
    const batches = fc.array(fc.tuple(kinds, fc.array(fc.nat(), { maxLength: 6 }), fc.nat()), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(batches, (all) => {
        const encoder = createEncoder(name);
        const decoders = new Decoders();
        for (const [some, cuts, seed] of all) {
          const bytes = records(some, seed);
          const before = Buffer.from(bytes);
          roundTrip(encoder, decoders, bytes, cuts);
          assert.ok(before.equals(bytes), "the source's memory is left alone");
        }
      }),
      { numRuns: 60 },
    );
  });

  test(`the largest batch comes back as it was [${name}]`, () => {
    const encoder = createEncoder(name);
    const decoders = new Decoders();
    const pages = Math.floor(batchBytesMax / 4104);
    for (const kind of ["text", "random"] as const) {
      roundTrip(encoder, decoders, records(Array(pages).fill(kind)), [5, 100_000, 300_000]);
    }
    const zeros = records(Array(Math.floor(batchBytesMax / 9)).fill("zero"));
    roundTrip(encoder, decoders, zeros, []);
  });

  test(`a body that decodes to another length than its frame says is refused [${name}]`, () => {
    const encoder = createEncoder(name);
    const bytes = records(["text", "zero", "sparse"]);
    const body = inSlab(Buffer.concat(encoder.encode(batchOf(bytes))));
    const decoder = new Decoders().get(encoder.id);
    for (const claimed of [0, 9, bytes.length - 1, bytes.length + 1, batchBytesMax]) {
      assert.throws(() => decoder.decode(body, claimed), { code: "FRAME_INVALID" });
    }
  });
}

test("a codec that is not known is refused", () => {
  for (const id of [5, 17, 255]) {
    assert.throws(() => new Decoders().get(id), { code: "FRAME_INVALID" });
  }
});

test("every level of every codec round-trips; other levels are refused with those that there are", () => {
  const bytes = records(["text", "zero", "sparse", "random", "text"]);
  for (const codec of codecChoices) {
    for (const level of codecLevels[codec] ?? []) {
      roundTrip(createEncoder(codec, { level }), new Decoders(), bytes, [100]);
    }
    for (const level of [-8, -1, 0, 10, 1.5, Number.NaN]) {
      const refused = { code: "CONFIG_INVALID", message: new RegExp(`codec ${codec}: `) };
      assert.throws(() => createEncoder(codec, { level }), refused);
    }
  }
});

test("memory for a codec is between 16 MiB and 1 GiB, for auto also none", () => {
  for (const memoryBytes of [0, -1, (16 << 20) - 1, 2 ** 30 + 1, Number.NaN]) {
    const check = () => checkCodecOptions("hybrid", { memoryBytes });
    assert.throws(check, { code: "CONFIG_INVALID" });
  }
  for (const memoryBytes of [16 << 20, 2 ** 30]) checkCodecOptions("hybrid", { memoryBytes });
  checkCodecOptions("auto", { memoryBytes: 0 });
});

test("a batch is DEFLATE without gzip's header: what gzip reads once it has one [gzip]", () => {
  const bytes = records(["text", "sparse", "zero", "text"]);
  const body = Buffer.concat(createEncoder("gzip").encode(batchOf(bytes)));
  const theirs = gzipSync(bytes);
  // Ten bytes of header; at the end checksum and length.
  const whole = Buffer.concat([theirs.subarray(0, 10), body, theirs.subarray(-8)]);
  assert.ok(gunzipSync(whole).equals(bytes));
});

test("a batch is decoded from bytes that stand here [gzip]", () => {
  // Page 3, full of 0x5a: a stored block with the word, then a block with fixed codes, as zlib writes it.
  const fixed = "8b8a1a05a360148c8251300a46c1281805a360148c8251300a46c1700700";
  const body = Buffer.from(`000800f7ff 0000000000003028 ${fixed}`.replaceAll(" ", ""), "hex");
  const range = new Decoders().get(codecIds.gzip).decode(inSlab(body), 4104);
  const expected = Buffer.alloc(4104, 0x5a);
  expected.writeBigUInt64BE(0x3028n);
  assert.ok(expected.equals(range.bytes.subarray(range.from, range.to)));
});

test("a batch that was written by hand is decoded [lz4]", () => {
  // Page 3, full of 0x5a. The length; a token of 9 literals and a long match; the word and 5a; distance 1; a match of
  // 4 + 15 + 15 x 255 + 246 = 4090; a token of 5 literals.
  const text = `08100000 9f 0000000000003028 5a 0100 ${"ff".repeat(15)} f6 50 5a5a5a5a5a`;
  const body = Buffer.from(text.replaceAll(" ", ""), "hex");
  const range = new Decoders().get(codecIds.lz4).decode(inSlab(body), 4104);
  const expected = Buffer.alloc(4104, 0x5a);
  expected.writeBigUInt64BE(0x3028n);
  assert.ok(expected.equals(range.bytes.subarray(range.from, range.to)));
});

test("a batch that was written by hand is decoded [zstd]", () => {
  // Page 3, full of 0x5a: a frame with its content's size (4104), a raw block of 8 bytes, a block of 4096 times one byte.
  const body = Buffer.from("28b52ffd60080f40000000000000000030280380005a", "hex");
  const range = new Decoders().get(codecIds.zstd).decode(inSlab(body), 4104);
  const expected = Buffer.alloc(4104, 0x5a);
  expected.writeBigUInt64BE(0x3028n);
  assert.ok(expected.equals(range.bytes.subarray(range.from, range.to)));
});

test("a frame may end where zlib's pieces of output end [zstd]", () => {
  const bytes = records(Array(40).fill("random"));
  const compressor = zstdCompressor(1);
  for (let length = (64 << 10) - 30; length <= 64 << 10; length++) {
    const piece = bytes.subarray(0, length);
    const frame = compressor.compress(piece);
    for (const [name, contexts] of Object.entries(zstdContextKinds)) {
      const back = Buffer.alloc(length);
      contexts.decompress().decompress(frame, back);
      assert.ok(piece.equals(back), `${name}, ${frame.length}`);
    }
  }
});

/** 4 GiB, 500 MiB, a large window: whatever a body says about itself. */
const claims: Record<(typeof stateless)[number], Record<string, Buffer>> = {
  gzip: {
    "half a MiB that becomes 500 MiB": deflateRawSync(Buffer.alloc(500 << 20)).subarray(0, 60_000),
    "with gzip's header": gzipSync(records(Array(20).fill("text"))),
  },
  zstd: {
    "16 KiB that become 500 MiB": zstdCompressSync(Buffer.alloc(500 << 20)),
    "a window of 128 MiB": Buffer.from("28b52ffd0088430000000100", "hex"),
  },
  lz4: {
    "6 bytes that claim 4 GiB": Buffer.from("ffffffff1000", "hex"),
    "a copy from before the beginning": Buffer.from("604101001041ff0050aaaaaaaaaa", "hex"),
  },
};

for (const name of stateless) {
  test(`bodies stay as they are until they are needed no more, then their buffers are used again [${name}]`, async () => {
    const [here, later] = [createEncoder(name), createEncoder(name)];
    const batches = [1, 2, 3, 4].map((seed) =>
      batchOf(records(["text", "random", "random", "random", "text"], seed), [seed * 1000]),
    );
    const wanted = batches.map((batch) => Buffer.concat(here.encode(batch)));
    const kept = [];
    for (const batch of batches) kept.push((await later.later?.(batch)) ?? assert.fail("it can"));
    for (const [i, { body, id }] of kept.entries()) {
      assert.equal(id, codecIds[name]);
      assert.ok(wanted[i]?.equals(Buffer.concat(body)));
    }
    const buffers = new Set(kept.map(({ body }) => body[0]?.buffer));
    assert.equal(buffers.size, 4);
    for (const { done } of kept) done?.();
    const next = await later.later?.(batches[0] as PageBatch);
    assert.ok(buffers.has(next?.body[0]?.buffer));
  });

  test(`hostile bodies are refused, soon and without much memory [${name}]`, () => {
    const bytes = records(Array(20).fill("text"));
    const encoder = createEncoder(name);
    const body = Buffer.concat(encoder.encode(batchOf(bytes)));
    assert.equal(encoder.id, codecIds[name]);
    const hostile: Record<string, Buffer> = {
      empty: Buffer.alloc(0),
      "cut short": body.subarray(0, -1),
      "only a header": body.subarray(0, 9),
      "the same twice": Buffer.concat([body, body]),
      "bytes after the frame": Buffer.concat([body, Buffer.from("x")]),
      noise: Buffer.alloc(100, 7),
      "records as they are": bytes,
      ...claims[name],
    };
    const decoder = new Decoders().get(codecIds[name]);
    for (const [what, bad] of Object.entries(hostile)) {
      const startMs = performance.now();
      const decode = () => decoder.decode(inSlab(bad), bytes.length);
      assert.throws(decode, { code: "FRAME_INVALID" }, what);
      assert.ok(performance.now() - startMs < 500, what);
    }
  });

  test(`a body with any byte changed is refused, or decodes to its length [${name}]`, () => {
    const bytes = records(["text", "sparse", "zero", "text"]);
    const encoder = createEncoder(name);
    const body = Buffer.concat(encoder.encode(batchOf(bytes)));
    const decoder = new Decoders().get(encoder.id);
    const change = fc.tuple(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bad = Buffer.from(body);
        for (const [at, bits] of changes) bad[at] = (bad[at] as number) ^ bits;
        try {
          const { from, to } = decoder.decode(inSlab(bad), bytes.length);
          assert.equal(to - from, bytes.length);
        } catch (error) {
          assert.equal((error as { code?: string }).code, "FRAME_INVALID");
        }
      }),
      { numRuns: 300 },
    );
  });

  test(`a batch that does not shrink goes as it lies, and what shrinks later is noticed [${name}]`, () => {
    const encoder = createEncoder(name);
    const noise = batchOf(records(Array(60).fill("random")), [4104 * 7]);
    for (let i = 0; i < 40; i++) {
      assert.equal(encoder.encode(noise), noise.pieces);
      assert.equal(encoder.id, codecIds.none);
    }
    const text = batchOf(records(Array(60).fill("text")));
    assert.ok((encoder.encode(text)[0]?.length ?? 0) < 5000);
    assert.equal(encoder.id, codecIds[name]);
    // One page of text among noise is not worth it; half of them are.
    const half: Kind[] = Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? "text" : "random"));
    encoder.encode(noise);
    encoder.encode(batchOf(records(half)));
    assert.equal(encoder.id, codecIds[name]);
  });

  test(`a few records are not worth a frame of their own [${name}]`, () => {
    const encoder = createEncoder(name);
    const batch = batchOf(records(Array(20).fill("zero")));
    assert.equal(encoder.encode(batch), batch.pieces);
  });

  test(`a small body does not keep a large buffer alive [${name}]`, () => {
    const [body] = createEncoder(name).encode(batchOf(records(Array(60).fill("text"))));
    assert.ok(body !== undefined && body.buffer.byteLength <= 2 * body.length);
  });
}

test("zero pages take less than half a byte each [zstd]", () => {
  const encoder = createEncoder("zstd");
  const count = 20_000;
  const body = Buffer.concat(encoder.encode(batchOf(records(Array(count).fill("zero")))));
  assert.ok(body.length < count / 2, `${body.length} bytes`);
});

test("decoders are full from 16 MiB held until half of it is released, and say so [zstd]", () => {
  let roomCount = 0;
  const decoders = new Decoders(() => roomCount++);
  const bytes = records(Array(120).fill("text"));
  const encoder = createEncoder("zstd");
  const body = inSlab(Buffer.concat(encoder.encode(batchOf(bytes))));
  const releases: (() => void)[] = [];
  while (!decoders.isFull) {
    releases.push(decoders.get(encoder.id).decode(body, bytes.length).hold());
  }
  // Of buffers that are used again, each a power of two.
  const bufferBytes = 512 << 10;
  assert.ok(bytes.length > bufferBytes / 2 && bytes.length <= bufferBytes);
  assert.equal(releases.length, (16 << 20) / bufferBytes + 1);
  const half = (8 << 20) / bufferBytes;
  while (releases.length > half + 1) releases.pop()?.();
  assert.deepEqual([decoders.isFull, roomCount], [true, 0]);
  while (releases.length > 0) releases.pop()?.();
  assert.deepEqual([decoders.isFull, roomCount], [false, 1]);
});

test("what is released twice is a mistake", () => {
  const release = new HeldBytes(10, () => {}).hold(4);
  release();
  assert.throws(release, { name: "AssertionError" });
});

test("a decoder has room for all that an encoder may remember [hybrid, 1 GiB]", () => {
  const encoder = createEncoder("hybrid", { memoryBytes: 2 ** 30 });
  roundTrip(encoder, new Decoders(), records(Array(60).fill("text")), []);
  assert.equal(encoder.id, codecIds.streams);
});

for (const codec of ["gzip", "zstd", "lz4", "hybrid"] as const) {
  test(`what is held stays as it is while others are decoded, until the last holder lets go [${codec}]`, () => {
    const encoder = createEncoder(codec);
    const decoders = new Decoders();
    const prng = new Prng(5);
    const waiting: { range: RecordRange; expected: Buffer; releases: (() => void)[] }[] = [];
    const buffers = new Set<ArrayBufferLike>();
    for (let i = 0; i < 200; i++) {
      const bytes = records(Array(prng.integer(1, 60)).fill(i % 3 === 0 ? "text" : "sparse"), i);
      bytes.writeUInt32LE(i, 8);
      const body = Buffer.concat(encoder.encode(batchOf(bytes)));
      const range = decoders.get(encoder.id).decode(inSlab(body), bytes.length);
      buffers.add(range.bytes.buffer);
      waiting.push({ range, expected: bytes, releases: [range.hold(), range.hold()] });
      for (const { expected, range: of } of waiting) {
        assert.ok(expected.equals(of.bytes.subarray(of.from, of.to)), `batch ${i}`);
      }
      // One of two holders at a time, in any order.
      const at = prng.integer(0, waiting.length - 1);
      waiting[at]?.releases.pop()?.();
      if (waiting[at]?.releases.length === 0) waiting.splice(at, 1);
      if (waiting.length > 8) for (const release of waiting.shift()?.releases ?? []) release();
    }
    if (codec === "zstd" || codec === "hybrid") assert.ok(buffers.size < 60, `${buffers.size}`);
  });
}

test("of small batches no more is held than is counted [zstd]", () => {
  const encoder = createEncoder("zstd");
  const bytes = records(Array(40).fill("zero"));
  const body = inSlab(Buffer.concat(encoder.encode(batchOf(bytes))));
  const decoders = new Decoders();
  let taken = 0;
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < 100; i++) {
    const range = decoders.get(encoder.id).decode(body, bytes.length);
    range.hold();
    if (!buffers.has(range.bytes.buffer)) taken += range.bytes.buffer.byteLength;
    buffers.add(range.bytes.buffer);
  }
  assert.ok(taken <= 100 * bytes.length, `${taken} bytes for ${100 * bytes.length}`);
});
