/**
 * Whatever batches come, with whatever memory: records come back as they were, with either build of the kernels on either
 * side, and both builds write the same bytes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type GodwitError, Prng } from "../../base/index.ts";
import { HeldBytes } from "../held-bytes.ts";
import { codecIds } from "../ids.ts";
import {
  bodyGrowthBytesMax,
  type Encoded,
  type PageBatch,
  type RecordRange,
} from "../page-batch.ts";
import { SharedPages, StreamsDecoder, StreamsEncoder, type StreamsOptions } from "./index.ts";

const pageBytes = 4096;
const builds = ["simd", "plain"] as const;
/** What the workspace takes without a history. */
const fixedBytes = 0x42_0000;
/** In a body: how its streams are packed. */
const packAt = 3;
const unpackedPack = 0;

/** Guests' memory that changes from batch to batch as guests' memory does; the records are written out here by hand. */
class World {
  readonly #prng: Prng;
  readonly #pages = new Map<string, Buffer>();
  readonly #known: Buffer[] = [Buffer.alloc(pageBytes, "some page ")];

  constructor(seed: number) {
    this.#prng = new Prng(seed);
  }

  batch(pageCount: number, pageRange: number, blockCount = 2): PageBatch {
    const prng = this.#prng;
    const block = prng.integer(0, blockCount - 1) * 7;
    const first = prng.chance(0.1) ? 2 ** 48 - 20 : prng.chance(0.05) ? 2 ** 52 - pageRange : 0;
    let page = first;
    const parts: Buffer[] = [];
    let [fullCount, zeroCount] = [0, 0];
    for (let i = 0; i < pageCount; i++) {
      page = prng.chance(0.6) ? page + 1 : first + prng.integer(0, pageRange - 1);
      if (page >= 2 ** 52) page = first;
      if (prng.chance(0.1)) {
        const run = prng.chance(0.2) ? 40 : 1;
        for (let j = 0; j < run && page < 2 ** 52 - 1; j++, zeroCount++) parts.push(zero(page++));
        continue;
      }
      fullCount++;
      parts.push(full(page, this.#next(`${block}/${page}`)));
    }
    const bytes = Buffer.concat(parts);
    const cut = prng.integer(0, bytes.length);
    const pieces = [bytes.subarray(0, cut), bytes.subarray(cut)];
    return { block, pieces, bytes: bytes.length, pageCount: fullCount, zeroCount };
  }

  #next(key: string): Buffer {
    const prng = this.#prng;
    const page = Buffer.from(this.#pages.get(key) ?? Buffer.alloc(pageBytes));
    switch (prng.integer(0, 6)) {
      case 0: // as it is
        break;
      case 1: // a few words
        for (let i = prng.integer(1, 30); i > 0; i--) {
          page.writeUInt32LE(prng.uint32(), prng.integer(0, 1023) * 4);
        }
        break;
      case 2: // a run, up to both ends
        page.fill(prng.integer(1, 255), prng.pick([0, 1, 2000]), prng.pick([2003, 4095, 4096]));
        break;
      case 3: // something else altogether
        for (let at = 0; at < pageBytes; at += 4) page.writeUInt32LE(prng.uint32(), at);
        break;
      case 4: // like another one
        prng.pick(this.#known).copy(page);
        page.writeUInt32LE(prng.uint32(), 128);
        break;
      case 5: // another one
        prng.pick(this.#known).copy(page);
        break;
      default:
        page.fill(0);
    }
    this.#pages.set(key, page);
    if (prng.chance(0.3)) this.#known.push(page);
    return page;
  }
}

function word(page: number, flags: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(page) * 4096n + flags);
  return bytes;
}

function full(page: number, bytes: Buffer): Buffer {
  return Buffer.concat([word(page, 0x28n), bytes]);
}

function zero(page: number): Buffer {
  return Buffer.concat([word(page, 0x22n), Buffer.alloc(1)]);
}

function batchOf(...records: Buffer[]): PageBatch {
  const bytes = Buffer.concat(records);
  return { block: 1, pieces: [bytes], bytes: bytes.length, pageCount: 0, zeroCount: 0 };
}

/** Pages of noise, each different. */
function noise(seed: number, count = 40): Buffer[] {
  const prng = new Prng(seed);
  return Array.from({ length: count }, (_, page) => {
    const bytes = Buffer.alloc(pageBytes);
    for (let at = 0; at < pageBytes; at += 4) bytes.writeUInt32LE(prng.uint32(), at);
    return full(page, bytes);
  });
}

function rangeOf(body: Uint8Array): RecordRange {
  const bytes = Buffer.concat([Buffer.alloc(7, 0xee), body, Buffer.alloc(9, 0xee)]);
  return { bytes, from: 7, to: 7 + body.length, hold: () => () => {} };
}

function decoderOf(options: ConstructorParameters<typeof StreamsDecoder>[1] = {}): StreamsDecoder {
  return new StreamsDecoder(new HeldBytes(16 << 20, () => {}), options);
}

/** The body, or undefined when the batch was left as it was. */
function encoded(encoder: StreamsEncoder, batch: PageBatch): Buffer | undefined {
  const pieces = encoder.encode(batch);
  if (encoder.id === codecIds.streams) return Buffer.concat(pieces);
  assert.equal(encoder.id, codecIds.none);
  assert.equal(pieces, batch.pieces);
  return undefined;
}

function decodesTo(decoder: StreamsDecoder, body: Buffer, batch: PageBatch): void {
  const range = decoder.decode(rangeOf(body), batch.bytes);
  const got = range.bytes.subarray(range.from, range.to);
  assert.ok(Buffer.concat(batch.pieces).equals(got), "records come back as they were");
}

const optionsOf: fc.Arbitrary<StreamsOptions> = fc.record({
  method: fc.constantFrom("zero", "delta", "similarity", "hybrid"),
  pack: fc.constantFrom("none", "zstd", "lz4"),
  delta: fc.constantFrom("word", "xbzrle"),
  // From no slot at all to more than there are pages.
  memoryBytes: fc.constantFrom(1000, fixedBytes + 40_000, fixedBytes + 400_000, 16 << 20),
  deltaWordsMax: fc.constantFrom(0, 3, 100, 480),
  generation: fc.constantFrom(0, 7, 0xffffffff),
});

test("records come back as they were, over any batches, resets and evictions; both builds agree", () => {
  fc.assert(
    fc.property(optionsOf, fc.nat(), fc.boolean(), (options, seed, isShared) => {
      const prng = new Prng(seed);
      const world = new World(seed);
      const pairs = builds.map((kernels, i) => {
        const shared = (): SharedPages => new SharedPages(200_000);
        const encoder = new StreamsEncoder({
          ...options,
          kernels,
          ...(isShared ? { shared: shared() } : {}),
        });
        const other = builds[1 - i] as (typeof builds)[number];
        const decoders = decoderOf({ kernels: other, shared: shared(), memoryBytesMax: 64 << 20 });
        return { encoder, decoder: decoders };
      });
      for (let i = 0; i < 8; i++) {
        const batch = world.batch(prng.pick([1, 3, 20]), prng.pick([30, 200]));
        const bodies = pairs.map(({ encoder, decoder }) => {
          const body = encoded(encoder, batch);
          if (body === undefined) return undefined;
          assert.ok(body.length <= batch.bytes + bodyGrowthBytesMax);
          decodesTo(decoder, body, batch);
          return body;
        });
        // The generation of shared pages is chance.
        if (!isShared) assert.deepEqual(bodies[0], bodies[1]);
        else assert.equal(bodies[0]?.length, bodies[1]?.length);
        if (prng.chance(0.1)) for (const { encoder } of pairs) encoder.reset();
      }
      assert.deepEqual(pairs[0]?.encoder.counts, pairs[1]?.encoder.counts);
    }),
    { numRuns: 30 },
  );
});

/** Whether streams are worth packing is judged by those before, whose packing may not be over yet: a batch may go unpacked. */
test("with other threads bodies are what they are without, or differ in their pack; records come back", async () => {
  const seen = { method: "hybrid", pack: "lz4", delta: "word", deltaWordsMax: 100 } as const;
  await fc.assert(
    fc.asyncProperty(optionsOf, fc.nat(), async (options, seed) => {
      const prng = new Prng(seed);
      const world = new World(seed);
      const [here, beside] = [new StreamsEncoder(options), new StreamsEncoder(options)];
      const decoder = decoderOf({ memoryBytesMax: 64 << 20 });
      const wanted: (Buffer | undefined)[] = [];
      const coming: Promise<Encoded>[] = [];
      const batches = Array.from({ length: 12 }, () =>
        world.batch(prng.pick([3, 30]), prng.pick([30, 200])),
      );
      const kept = batches.map((batch) => ({ ...batch, pieces: [Buffer.concat(batch.pieces)] }));
      for (const batch of batches) {
        wanted.push(encoded(here, batch));
        const later = beside.later(batch);
        coming.push(Promise.resolve(later));
        // It is not needed any more.
        if (later instanceof Promise) batch.pieces[0]?.fill(0xee);
      }
      for (const [i, { id, body }] of (await Promise.all(coming)).entries()) {
        assert.equal(id, wanted[i] === undefined ? codecIds.none : codecIds.streams);
        const alone = wanted[i];
        if (alone === undefined) continue;
        const got = Buffer.concat(body);
        decodesTo(decoder, got, kept[i] as PageBatch);
        if (got[packAt] === alone[packAt]) assert.ok(got.equals(alone));
        else assert.ok(got[packAt] === unpackedPack || alone[packAt] === unpackedPack);
      }
      assert.deepEqual(beside.counts, here.counts);
    }),
    {
      numRuns: 20,
      // One that would have been packed without other threads.
      examples: [[{ ...seen, memoryBytes: fixedBytes + 40_000, generation: 0 }, 30]],
    },
  );
});

test("what does not shrink is not tried for long with other threads either, and is kept", async () => {
  const encoder = new StreamsEncoder({ method: "hybrid", memoryBytes: 16 << 20 });
  const decoder = decoderOf();
  for (let i = 0; i < 20; i++) {
    const batch = batchOf(...noise(i));
    const { id, body } = await encoder.later(batch);
    assert.equal(id, codecIds.streams);
    decodesTo(decoder, Buffer.concat(body), batch);
  }
  assert.ok(encoder.counts.hits > 0);
});

test("what changed little costs little, and what did not change next to nothing", () => {
  for (const method of ["delta", "similarity", "hybrid"] as const) {
    const encoder = new StreamsEncoder({ method, pack: "none" });
    const decoder = decoderOf();
    const pages = noise(1);
    const first = batchOf(...pages);
    decodesTo(decoder, encoded(encoder, first) as Buffer, first);
    const same = encoded(encoder, first) as Buffer;
    decodesTo(decoder, same, first);
    assert.ok(same.length < 200, `${method}: ${same.length} bytes`);
    for (const page of pages) page.writeUInt32LE(1, 1000);
    const changed = batchOf(...pages);
    const body = encoded(encoder, changed) as Buffer;
    decodesTo(decoder, body, changed);
    assert.ok(body.length < 40 * 25 + 120, `${method}: ${body.length} bytes`);
  }
});

test("every kind of page is met and counted", () => {
  const shared = new SharedPages(1 << 20);
  const encoder = new StreamsEncoder({ method: "hybrid", shared, pack: "none" });
  const other = new StreamsEncoder({ method: "hybrid", shared, pack: "none" });
  const there = new SharedPages(1 << 20);
  const [decoder, otherDecoder] = [decoderOf({ shared: there }), decoderOf({ shared: there })];
  const pages = noise(2, 20);
  const step = (from: StreamsEncoder, to: StreamsDecoder, ...records: Buffer[]): void => {
    const batch = batchOf(...records);
    decodesTo(to, encoded(from, batch) as Buffer, batch);
  };
  step(encoder, decoder, ...pages);
  const bytesOf = (record: Buffer): Buffer => Buffer.from(record.subarray(8));
  // The other VM has the same pages, of which one differs in a word.
  const like = bytesOf(pages[3] as Buffer);
  like.writeUInt32LE(5, 64);
  step(other, otherDecoder, ...pages.slice(0, 3), full(3, like));
  const near = bytesOf(pages[0] as Buffer);
  near.writeUInt32LE(9, 4000);
  step(
    encoder,
    decoder,
    zero(50),
    full(51, Buffer.alloc(pageBytes)),
    pages[1] as Buffer,
    full(2, near),
    full(60, bytesOf(pages[5] as Buffer)),
    full(61, near),
  );
  const { zero: zeros, raw, duplicate, similar, hits, misses, same } = encoder.counts;
  assert.deepEqual([zeros, raw, same, hits, misses], [2, 20, 1, 2, 22]);
  assert.ok(duplicate >= 1 && similar >= 1 && duplicate + similar === 3, "copies and likes");
  assert.deepEqual([other.counts.sharedDuplicate, other.counts.sharedSimilar], [3, 1]);
});

test("a small history keeps pages that come again, and says what it let go", () => {
  const encoder = new StreamsEncoder({
    method: "delta",
    memoryBytes: fixedBytes + 60 * pageBytes,
  });
  const decoder = decoderOf();
  for (let round = 0; round < 12; round++) {
    for (let part = 0; part < 4; part++) {
      const batch = batchOf(...noise(3, 160).slice(part * 40, part * 40 + (part === 0 ? 40 : 20)));
      const body = encoded(encoder, batch);
      if (body !== undefined) decodesTo(decoder, body, batch);
    }
  }
  const { hits, evicted, rejected } = encoder.counts;
  assert.ok(hits > 200 && evicted > 0 && rejected > 0, JSON.stringify(encoder.counts));
  assert.ok(encoder.memoryBytes <= fixedBytes + 60 * pageBytes);
});

test("a batch that is not sent as streams leaves both sides in step", () => {
  const encoder = new StreamsEncoder({ method: "delta" });
  const decoder = decoderOf();
  const pages = noise(4, 10);
  const lone = zero(20);
  // A zero page does not pay for a header.
  assert.equal(encoded(encoder, batchOf(lone)), undefined);
  const more = batchOf(...pages, lone, ...noise(5, 30).slice(21));
  decodesTo(decoder, encoded(encoder, more) as Buffer, more);
  // A known page becomes zero, and is forgotten.
  const changed = batchOf(zero(0));
  assert.equal(encoded(encoder, changed), undefined);
  const again = batchOf(noise(6, 1)[0] as Buffer, ...pages.slice(1));
  decodesTo(decoder, encoded(encoder, again) as Buffer, again);
  assert.equal(encoder.counts.left, 2);
});

test("a lone page that does not shrink is kept: what it becomes is written as a difference", () => {
  const encoder = new StreamsEncoder({ method: "delta" });
  const decoder = decoderOf();
  const [lone] = noise(4, 1) as [Buffer];
  const first = batchOf(lone);
  decodesTo(decoder, encoded(encoder, first) as Buffer, first);
  const changed = Buffer.from(lone);
  changed.writeUInt32LE(1, 100);
  const second = batchOf(changed);
  const body = encoded(encoder, second) as Buffer;
  decodesTo(decoder, body, second);
  assert.ok(body.length < 200, `${body.length} bytes`);
});

test("scattered pages that do not shrink are kept, however many", () => {
  const encoder = new StreamsEncoder({ method: "delta" });
  const decoder = decoderOf();
  const pages = noise(13, 120).map((bytes, i) => full(i * 3_000_000_007, bytes.subarray(8)));
  const first = batchOf(...pages);
  const body = encoded(encoder, first) as Buffer;
  assert.ok(body.length > first.bytes + 136, `${body.length - first.bytes} bytes longer`);
  decodesTo(decoder, body, first);
  const again = encoded(encoder, first) as Buffer;
  decodesTo(decoder, again, first);
  assert.ok(again.length < 120 * 11 + 72, `${again.length} bytes`);
});

test("a page of which little is not zero is its words", () => {
  const encoder = new StreamsEncoder({ method: "hybrid", pack: "none" });
  const decoder = decoderOf();
  const pages = Array.from({ length: 20 }, (_, i) => {
    const page = Buffer.alloc(pageBytes);
    for (let at = i; at < 20 + i; at++) page.writeUInt32LE(at + 1, at * 40);
    return full(i, page);
  });
  const batch = batchOf(...pages);
  const body = encoded(encoder, batch) as Buffer;
  decodesTo(decoder, body, batch);
  assert.equal(encoder.counts.sparse, 20);
  assert.ok(body.length < 20 * 200 + 72, `${body.length} bytes`);
  const known = encoded(encoder, batch) as Buffer;
  decodesTo(decoder, known, batch);
  assert.equal(encoder.counts.same, 20);
});

test("a frame of zstd that is none ends the generation only", () => {
  const encoder = new StreamsEncoder({ method: "hybrid", generation: 9 });
  const decoder = decoderOf();
  const pages = (change: number): PageBatch =>
    batchOf(...[...Array(9).keys()].map((i) => full(i, Buffer.alloc(pageBytes, `${i + change} `))));
  decodesTo(decoder, encoded(encoder, pages(0)) as Buffer, pages(0));
  const body = encoded(encoder, pages(1)) as Buffer;
  assert.equal(body[3], 1);
  const damaged = Buffer.from(body);
  damaged.fill(0xff, 72, 80);
  const refused = { code: "FRAME_INVALID", message: /cannot be unpacked/ };
  assert.throws(() => decoder.decode(rangeOf(damaged), pages(1).bytes), refused);
  assert.throws(() => decoder.decode(rangeOf(body), pages(1).bytes), { message: /after/ });
  encoder.reset();
  for (const change of [2, 3]) {
    decodesTo(decoder, encoded(encoder, pages(change)) as Buffer, pages(change));
  }
});

test("a decoder that lost its state says so by name", () => {
  const encoder = new StreamsEncoder({ method: "delta", generation: 41 });
  const decoder = decoderOf();
  const batch = batchOf(...noise(7));
  const [first, second, third] = [1, 2, 3].map(() => encoded(encoder, batch)) as [
    Buffer,
    Buffer,
    Buffer,
  ];
  const refuses = (body: Buffer, message: RegExp, by = decoder): void => {
    const decode = (): unknown => by.decode(rangeOf(body), batch.bytes);
    assert.throws(decode, { code: "FRAME_INVALID", message });
  };
  // After a restart.
  refuses(second, /generation 41, sequence 1 where the beginning of a generation/, decoderOf());
  decodesTo(decoder, first, batch);
  const twice = decoderOf();
  decodesTo(twice, first, batch);
  refuses(
    first,
    /sequence 0 where generation 41, sequence 1 was expected: the state is lost/,
    twice,
  );
  refuses(second, /sequence 1 after a batch where generation 41/, twice);
  const early = decoderOf();
  decodesTo(early, first, batch);
  refuses(third, /sequence 2 where generation 41, sequence 1/, early);
  // From then on nothing but a new generation.
  refuses(second, /after/, early);
  refuses(first, /after/, early);
  encoder.reset();
  const fresh = encoded(encoder, batch) as Buffer;
  decodesTo(early, fresh, batch);
  decodesTo(decoder, second, batch);
  decodesTo(decoder, fresh, batch);
  refuses(second, /generation 41, sequence 1 where generation 42, sequence 1/);
});

test("histories that differ are noticed", () => {
  const [one, two] = [1, 2].map(() => new StreamsEncoder({ method: "delta", generation: 5 })) as [
    StreamsEncoder,
    StreamsEncoder,
  ];
  const decoder = decoderOf();
  const batch = batchOf(...noise(8));
  decodesTo(decoder, encoded(one, batch) as Buffer, batch);
  encoded(two, batchOf(...noise(9)));
  const changed = noise(9);
  for (const page of changed) page.writeUInt32LE(1, 1000);
  const body = encoded(two, batchOf(...changed)) as Buffer;
  assert.throws(() => decoder.decode(rangeOf(body), batch.bytes), {
    code: "FRAME_INVALID",
    message: /checksum is wrong/,
  });
});

test("shared pages that a sink lost are asked for in vain, until both begin anew", () => {
  const shared = new SharedPages(1 << 20);
  const [one, two] = [1, 2].map(() => new StreamsEncoder({ method: "similarity", shared })) as [
    StreamsEncoder,
    StreamsEncoder,
  ];
  const batch = batchOf(...noise(10));
  encoded(one, batch);
  const lost = decoderOf({ shared: new SharedPages(1 << 20) });
  const body = encoded(two, batch) as Buffer;
  assert.throws(() => lost.decode(rangeOf(body), batch.bytes), { message: /shared page/ });
  assert.throws(() => decoderOf().decode(rangeOf(body), batch.bytes), {
    message: /there are none/,
  });
  shared.reset();
  decodesTo(lost, encoded(two, batch) as Buffer, batch);
});

test("a shared page that a batch pushed out which was not sent may come again", () => {
  // Room for 30 pages, which the first batch fills.
  const shared = new SharedPages(125_000);
  assert.equal(shared.pageCountMax, 30);
  const encoder = new StreamsEncoder({ method: "similarity", shared, memoryBytes: 0 });
  const decoder = decoderOf({ shared: new SharedPages(125_000) });
  const pages = noise(12, 40);
  const first = batchOf(...pages.slice(0, 30));
  decodesTo(decoder, encoded(encoder, first) as Buffer, first);
  assert.equal(encoded(encoder, batchOf(pages[30] as Buffer)), undefined);
  // Page 0 is gone here, and still there on the other side.
  const again = batchOf(...pages.slice(0, 3), zero(70), ...pages.slice(0, 20));
  const body = encoded(encoder, again) as Buffer;
  decodesTo(decoder, body, again);
  const last = batchOf(...pages);
  decodesTo(decoder, encoded(encoder, last) as Buffer, last);
});

test("claims beyond the decoder's memory are refused, and others take none", () => {
  const encoder = new StreamsEncoder({ method: "delta", memoryBytes: 1 << 30 });
  const batch = batchOf(...noise(11));
  const body = encoded(encoder, batch) as Buffer;
  const decoder = decoderOf({ memoryBytesMax: 64 << 20 });
  assert.throws(() => decoder.decode(rangeOf(body), batch.bytes), { message: /slots where/ });
  // A few MiB are touched: the rest of what a workspace may become is not there.
  const before = process.memoryUsage().rss;
  const roomy = decoderOf();
  decodesTo(roomy, body, batch);
  assert.equal(roomy.memoryBytes, 40 * (pageBytes + 8));
  assert.ok(process.memoryUsage().rss - before < 64 << 20);
});

test("records that are held stay as they are, however many", () => {
  const encoder = new StreamsEncoder({ method: "zero", pack: "zstd" });
  const decoder = decoderOf();
  const held = Array.from({ length: 50 }, (_, i) => {
    const batch = batchOf(...[...Array(20).keys()].map((j) => full(j, Buffer.alloc(4096, `${i}`))));
    const range = decoder.decode(rangeOf(encoded(encoder, batch) as Buffer), batch.bytes);
    return { batch, range, release: range.hold() };
  });
  for (const { batch, range, release } of held) {
    assert.ok(Buffer.concat(batch.pieces).equals(range.bytes.subarray(range.from, range.to)));
    release();
  }
});

test("no damaged body is taken for another batch, by either build", () => {
  fc.assert(
    fc.property(optionsOf, fc.nat(), fc.constantFrom(...builds), (options, seed, kernels) => {
      const prng = new Prng(seed);
      const world = new World(seed);
      const encoder = new StreamsEncoder({ ...options, memoryBytes: 16 << 20 });
      const batches = [world.batch(20, 30, 1), world.batch(20, 30, 1)];
      const [first, second] = batches.map((batch) => encoded(encoder, batch));
      if (first === undefined || second === undefined) return;
      for (let i = 0; i < 12; i++) {
        const decoder = decoderOf({ kernels, memoryBytesMax: 32 << 20 });
        const which = prng.integer(0, 1);
        if (which === 1) decodesTo(decoder, first, batches[0] as PageBatch);
        const batch = batches[which] as PageBatch;
        const body = Buffer.from(which === 0 ? first : second);
        const isHead = prng.chance(0.3);
        const at = isHead ? prng.integer(0, 71) : prng.integer(0, body.length - 1);
        body[at] = (body[at] as number) ^ (1 << prng.integer(0, 7));
        // A compressor has several ways to say the same; the checksum knows every byte of what it says.
        let accepted: RecordRange | undefined;
        try {
          accepted = decoder.decode(rangeOf(body), batch.bytes);
        } catch (error) {
          assert.equal((error as GodwitError).code, "FRAME_INVALID");
        }
        if (accepted === undefined) continue;
        assert.notEqual(body[3], 0, `byte ${at} of ${body.length} of what is not compressed`);
        const got = accepted.bytes.subarray(accepted.from, accepted.to);
        assert.ok(Buffer.concat(batch.pieces).equals(got), `byte ${at} of ${body.length}`);
      }
    }),
    { numRuns: 12 },
  );
});
