/**
 * Fuzz target of src/codec: whatever a body is, it becomes exactly as many bytes as its frame says, or is refused. An input
 * is the codec's id, the length claimed (u32), and the body.
 */
import assert from "node:assert/strict";
import { GodwitError } from "../../src/base/index.ts";
import { batchBytesMax, createEncoder, Decoders } from "../../src/codec/index.ts";
import { HeldBytes } from "../../src/codec/index.ts";
import {
  StreamsDecoder,
  StreamsEncoder,
  type StreamsOptions,
} from "../../src/codec/streams/index.ts";
import { writePageWord, writeZeroRecord } from "../../src/qemu/stream/index.ts";
import type { FuzzTarget } from "./engine.ts";

export const codecTarget: FuzzTarget = {
  name: "codec",
  corpus: () => [encoded(3, 0), encoded(60, 100), encoded(0, 2000)],
  run: (bytes) => {
    if (bytes.length < 5) throw new GodwitError("FRAME_INVALID", "no body");
    const claimedBytes = new DataView(bytes.buffer).getUint32(1);
    // As its caller does (src/migrate/destination/pump.ts).
    if (claimedBytes > batchBytesMax) throw new GodwitError("FRAME_INVALID", "too long");
    const decoders = new Decoders();
    const body = { bytes, from: 5, to: bytes.length, hold: () => () => {} };
    const range = decoders.get(bytes[0] as number).decode(body, claimedBytes);
    assert.equal(range.to - range.from, claimedBytes);
    assert.ok(range.to <= range.bytes.length);
    range.hold()();
  },
};

function encoded(pageCount: number, zeroCount: number): Uint8Array {
  const raw = Buffer.alloc(pageCount * 4104 + zeroCount * 9);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  let at = 0;
  for (let page = 0; page < pageCount; page++, at += 4104) {
    writePageWord(view, at, page);
    raw.fill(`page ${page} `, at + 8, at + 4104);
  }
  for (let i = 0; i < zeroCount; i++, at += 9) writeZeroRecord(view, at, pageCount + i);
  const encoder = createEncoder("zstd");
  const pieces = encoder.encode({ block: 0, pieces: [raw], bytes: at, pageCount, zeroCount });
  const head = Buffer.alloc(5);
  head[0] = encoder.id;
  head.writeUInt32BE(at, 1);
  return new Uint8Array(Buffer.concat([head, ...pieces]));
}

/** Pages that a history knows, as records: page i is full of `i + change`, but for its first word. */
function knownPages(change: number): Uint8Array {
  const raw = Buffer.alloc(24 * 4104 + 9);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  for (let page = 0; page < 24; page++) {
    writePageWord(view, page * 4104, page);
    raw.fill(1 + (page % 9), page * 4104 + 8, (page + 1) * 4104);
    raw.writeUInt32LE(change * page, page * 4104 + 8);
  }
  writeZeroRecord(view, 24 * 4104, 50);
  return raw;
}

/** Two batches of a generation: the second needs what the first left. */
function generation(options: StreamsOptions): readonly Uint8Array[] {
  const encoder = new StreamsEncoder({ ...options, memoryBytes: 8 << 20 });
  return [0, 1].map((change) => {
    const raw = knownPages(change);
    const counts = { block: 0, bytes: raw.length, pageCount: 24, zeroCount: 1 };
    return Buffer.concat(encoder.encode({ ...counts, pieces: [raw] }));
  });
}

const streamsOptions: readonly StreamsOptions[] = [
  { method: "hybrid", generation: 1, pack: "none" },
  { method: "delta", generation: 1, delta: "xbzrle" },
  { method: "hybrid", generation: 1 },
  { method: "similarity", generation: 1, pack: "lz4" },
];

/**
 * Codec streams: after a sound first batch, whatever the second one is, it becomes the records that went in, or is refused;
 * with both builds of the kernels alike. An input is a number of `streamsOptions`, whether it stands for the second batch, and the body.
 */
export const streamsTarget: FuzzTarget = {
  name: "codec-streams",
  corpus: () =>
    streamsOptions.flatMap((options, i) =>
      generation(options).map((body, second) => new Uint8Array([i, second, ...body])),
    ),
  run: (bytes) => {
    const [number = 0, second = 0] = bytes;
    const body = bytes.subarray(2);
    const between = otherGeneration();
    const outcomes = streamsDecoders().map((decoder) => {
      const decode = (some: Uint8Array): string => {
        const whole = { bytes: some, from: 0, to: some.length, hold: () => () => {} };
        const { bytes: out, from, to } = decoder.decode(whole, knownPages(0).length);
        return Buffer.from(out.subarray(from, to)).toString("latin1");
      };
      // Whatever the case before left.
      decode(between);
      if (second % 2 === 1) decode(soundBodies()[number % streamsOptions.length] as Uint8Array);
      try {
        return decode(body);
      } catch (error) {
        if (error instanceof GodwitError) return error;
        throw error;
      }
    });
    const [one, other] = outcomes;
    if (one instanceof GodwitError) {
      assert.equal(other instanceof GodwitError ? other.message : other, one.message);
      throw one;
    }
    assert.equal(one, other);
    const known = [0, 1].map((change) => Buffer.from(knownPages(change)).toString("latin1"));
    assert.ok(known.includes(one as string), "records that nobody encoded");
  },
};

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

const streamsDecoders = once(() =>
  (["simd", "plain"] as const).map(
    (kernels) => new StreamsDecoder(new HeldBytes(1 << 20, () => {}), { kernels }),
  ),
);
const soundBodies = once(() =>
  streamsOptions.map((options) => generation(options)[0] as Uint8Array),
);
/** Taken in turns, so that none is the one before. */
const otherBodies = once(() =>
  [2, 3].map((number) => generation({ method: "delta", generation: number })[0] as Uint8Array),
);
let turn = 0;

function otherGeneration(): Uint8Array {
  turn = 1 - turn;
  return otherBodies()[turn] as Uint8Array;
}
