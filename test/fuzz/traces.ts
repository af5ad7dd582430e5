/**
 * Fuzz target of src/trace: whatever a file is, its frames are in order and within the guest's memory, however it is cut into
 * pieces, or it is refused. An input is a byte, and a trace file whose frames are not compressed: behind zstd any damage
 * would be found by zstd. With bit 0 of the byte checksums are made right again after the damage, with bit 1 a number that
 * counts is wrong by a little, too.
 */
import assert from "node:assert/strict";
import { crc32c } from "@node-rs/crc32";
import { GodwitError, type Prng } from "../../src/base/index.ts";
import { TraceDecoder, decodeHeader } from "../../src/trace/decode.ts";
import { encodeBatch, encodeEnd, encodeEpoch, encodeTraceHeader } from "../../src/trace/encode.ts";
import { EpochPages } from "../../src/trace/epoch-pages.ts";
import type { TraceFrame, TraceHeader } from "../../src/trace/index.ts";
import type { FuzzTarget } from "./engine.ts";

const preambleBytes = 20;
const frameHeadBytes = 32;

const traceHeader: TraceHeader = {
  vmName: "vm",
  workload: "",
  qemuVersion: "10.0.13",
  accelerator: "tcg",
  blocks: [
    { name: "pc.ram", lengthBytes: 64 * 4096 },
    { name: "vga", lengthBytes: 5 * 4096 },
  ],
  memoryBytes: 69 * 4096,
  intervalMs: 25,
  base: "full",
  note: "",
};

/** Records of these pages: every second one is full of its number, the others are zero. */
function batch(block: number, ...pages: readonly number[]) {
  const records = pages.map((page) => {
    const isZero = page % 2 === 0;
    const record = Buffer.alloc(isZero ? 9 : 4104, isZero ? 0 : page);
    record.writeBigUInt64BE(BigInt(page) * 4096n + (isZero ? 0x22n : 0x28n));
    return record;
  });
  const bytes = Buffer.concat(records);
  const zeroCount = pages.filter((page) => page % 2 === 0).length;
  return {
    block,
    pieces: [bytes],
    bytes: bytes.length,
    pageCount: pages.length - zeroCount,
    zeroCount,
  };
}

type Epochs = readonly (readonly ReturnType<typeof batch>[])[];

/** A base with a second sweep, an epoch with two blocks, and an empty one. */
const epochsOfAll: Epochs = [
  [batch(0, 0, 1, 2, 5), batch(0, 63), batch(1, 0, 1), batch(0, 1, 2)],
  [batch(0, 2, 4, 7), batch(1, 3)],
  [],
];
/** So short that damage strikes what counts. */
const epochsOfZeros: Epochs = [[batch(0, 0, 2), batch(1, 4), batch(1, 2)], [batch(1, 0, 4)]];

function trace(epochs: Epochs): Buffer {
  const frames = epochs.flatMap((batches, epoch) => {
    const pageCount = batches.reduce((sum, one) => sum + one.pageCount, 0);
    const zeroCount = batches.reduce((sum, one) => sum + one.zeroCount, 0);
    const end = { epoch, atMs: epoch * 25 + 20, pageCount, zeroCount };
    return [
      ...batches.map((one) => encodeBatch(epoch, epoch * 25, one)),
      encodeEpoch({ ...end, dirtyCount: pageCount + zeroCount }),
    ];
  });
  const end = encodeEnd({ epochCount: epochs.length, atMs: 70 });
  return Buffer.concat([encodeTraceHeader(traceHeader, 20), ...frames, end]);
}

/** Where the frames begin, whatever the header says. */
function framesAt(bytes: Buffer): number {
  if (bytes.length < preambleBytes) return bytes.length;
  return Math.min(bytes.length, preambleBytes + bytes.readUInt32BE(12));
}

/** Of the header, and of each frame as long as the one before says where it begins. */
function mendChecksums(bytes: Buffer): void {
  const begin = framesAt(bytes);
  if (bytes.length < preambleBytes) return;
  const json = bytes.subarray(preambleBytes, begin);
  bytes.writeUInt32BE(crc32c(json, crc32c(bytes.subarray(0, 16))), 16);
  for (let at = begin; at + frameHeadBytes <= bytes.length; ) {
    const body = bytes.subarray(
      at + frameHeadBytes,
      at + frameHeadBytes + bytes.readUInt32BE(at + 20),
    );
    bytes.writeUInt32BE(crc32c(body, crc32c(bytes.subarray(at, at + 28))), at + 28);
    at += frameHeadBytes + body.length;
  }
}

/** A field of a frame's header, or the page of a batch's first record, is a little more or less. */
function miscount(bytes: Buffer, prng: Prng): void {
  const heads: number[] = [];
  for (let at = framesAt(bytes); at + frameHeadBytes + 8 <= bytes.length; ) {
    heads.push(at);
    at += frameHeadBytes + bytes.readUInt32BE(at + 20);
  }
  if (heads.length === 0) return;
  const head = prng.pick(heads);
  const step = prng.pick([-1, 1, 2]);
  if (prng.chance(0.5)) {
    const field = head + prng.pick([0, 4, 8, 12, 16, 20, 24]);
    bytes.writeUInt32BE((bytes.readUInt32BE(field) + step) >>> 0, field);
  } else {
    const word = bytes.readBigUInt64BE(head + frameHeadBytes) + BigInt(step) * 4096n;
    bytes.writeBigUInt64BE(BigInt.asUintN(64, word), head + frameHeadBytes);
  }
}

/** Frames, and what it was refused for, if it was. */
function decode(header: TraceHeader, pieces: Iterable<Uint8Array>) {
  const decoder = new TraceDecoder(header);
  const frames: TraceFrame[] = [];
  try {
    for (const piece of pieces) for (const frame of decoder.push(piece)) frames.push(frame);
    decoder.assertEnded();
  } catch (error) {
    if (error instanceof GodwitError) return { frames, error };
    throw error;
  }
  return { frames, error: undefined };
}

function* cut(bytes: Uint8Array, prng: Prng): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const length = prng.pick([1, 7, 32, 4104, prng.integer(1, 20_000)]);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

/** Page and content of each record; undefined for zeros. */
function recordsOf(bytes: Buffer): [page: number, content: Buffer | undefined][] {
  const found: [number, Buffer | undefined][] = [];
  for (let at = 0; at < bytes.length; ) {
    const word = bytes.readBigUInt64BE(at);
    const isZero = (word & 0x02n) !== 0n;
    const end = at + (isZero ? 9 : 4104);
    assert.ok(end <= bytes.length, "a record goes on behind its batch");
    found.push([Number(word >> 12n), isZero ? undefined : bytes.subarray(at + 8, end)]);
    at = end;
  }
  return found;
}

/** What any reader relies on. */
function check({ blocks }: TraceHeader, frames: readonly TraceFrame[]): void {
  let epoch = 0;
  let atMs = 0;
  let count = 0;
  const pages = new EpochPages();
  const model = new Map<string, Buffer | undefined>();
  for (const frame of frames) {
    assert.ok(frame.atMs >= atMs, "time goes on");
    ({ atMs } = frame);
    if (frame.type === "end") assert.deepEqual([frame.epochCount, frame], [epoch, frames.at(-1)]);
    else assert.equal(frame.epoch, epoch);
    if (frame.type === "epoch") {
      assert.equal(frame.pageCount + frame.zeroCount, count);
      checkMerged(pages, model);
      epoch++;
      count = 0;
    }
    if (frame.type !== "batch") continue;
    const { block, pieces, bytes, pageCount, zeroCount } = frame.batch;
    const body = Buffer.concat(pieces);
    const records = recordsOf(body);
    assert.ok(bytes === body.length && bytes <= 256 << 10);
    assert.equal(records.length, pageCount + zeroCount);
    count += records.length;
    const last = (blocks[block]?.lengthBytes ?? 0) / 4096 - 1;
    for (const [i, [page, content]] of records.entries()) {
      assert.ok(page <= last && (i === 0 || page > (records[i - 1]?.[0] ?? -1)), "pages ascend");
      model.set(`${block}:${page}`, content);
    }
    for (const piece of pieces) pages.put(block, piece, 0, piece.length);
  }
}

/** Epochs of what was let through merge without harm. */
function checkMerged(pages: EpochPages, model: Map<string, Buffer | undefined>): void {
  let count = 0;
  for (const { block, pieces } of pages.batches()) {
    for (const [page, content] of recordsOf(Buffer.concat(pieces))) {
      const known = model.get(`${block}:${page}`);
      assert.ok(known === undefined ? content === undefined : content?.equals(known));
      count++;
    }
  }
  assert.equal(count, model.size);
  pages.clear();
  model.clear();
}

export const traceTarget: FuzzTarget = {
  name: "traces",
  corpus: () =>
    [epochsOfAll, epochsOfZeros].flatMap((epochs) =>
      [0, 1, 1, 3].map((how) => new Uint8Array([how, ...trace(epochs)])),
    ),
  run: (input, prng) => {
    const bytes = Buffer.from(input.subarray(1));
    const how = input[0] ?? 0;
    if ((how & 2) !== 0) miscount(bytes, prng);
    if ((how & 1) !== 0) mendChecksums(bytes);
    const header = decodeHeader(bytes);
    const frames = bytes.subarray(framesAt(bytes));
    const whole = decode(header, [frames]);
    const pieces = decode(header, cut(frames, prng));
    assert.deepEqual(pieces, whole, "the same however it comes");
    check(header, whole.frames);
    if (whole.error !== undefined) throw whole.error;
  },
};
