/**
 * Fuzz targets of src/qemu/stream. Beyond "no other exception", for every input:
 * - the stream reader reports the same, or refuses with the same text, however the bytes are split and whatever lies
 *   around them in memory, and never writes outside of what it was shown;
 * - every run that it hands on passes the records checker, with the counts that it reports;
 * - the records checker never throws, and what it accepts has just the length of what it counted.
 */
import assert from "node:assert/strict";
import { GodwitError, Prng } from "../../src/base/index.ts";
import {
  checkRecords,
  encodeCommand,
  encodeEof,
  encodeHead,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  pageRecordBytes,
  ReturnPathReader,
  StreamReader,
  shutOk,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../../src/qemu/stream/index.ts";
import { Collector } from "../golden/stream/collect.ts";
import { feedInPlace, feedMoving, loadCaptures } from "../golden/stream/load.ts";
import type { FuzzTarget } from "./engine.ts";

const blockPageCount = 8;

export const streamTarget: FuzzTarget = {
  name: "stream",
  corpus: () => [...madeStreams(), ...shortCaptures()],
  run: (bytes, prng) => {
    const whole = outcome((reader) => feedInPlace(reader, bytes.slice(), []));
    const surrounded = outcome((reader) => feedSurrounded(reader, bytes, prng.integer(0, 255)));
    assert.deepEqual(surrounded, whole, "what lies around the bytes makes a difference");
    const split = outcome((reader) => feedMoving(reader, bytes, sizes(prng)));
    if (whole.error === undefined) assert.deepEqual(split, whole, "the split makes a difference");
    // Pages in front of the fault may or may not have been handed on when it is found.
    else assert.equal(split.error?.message, whole.error.message);
    if (whole.error !== undefined) throw whole.error;
  },
};

export const recordsTarget: FuzzTarget = {
  name: "records",
  corpus: () => [madeRun(6), madeRun(1), madeRun(40)],
  run: (bytes) => {
    const view = new DataView(bytes.buffer);
    const result = checkRecords(view, 0, bytes.length, blockPageCount);
    if (typeof result === "string") throw new GodwitError("FRAME_INVALID", result);
    const { pageCount, zeroCount } = result;
    assert.equal(pageCount * pageRecordBytes + zeroCount * zeroRecordBytes, bytes.length);
  },
};

export const returnPathTarget: FuzzTarget = {
  name: "return-path",
  corpus: () => {
    const pong = Uint8Array.of(0, 2, 0, 4, 0, 0, 0, 1);
    return [shutOk, pong, new Uint8Array([...pong, ...pong, ...shutOk])];
  },
  run: (bytes, prng) => {
    const whole = returnPathOutcome(bytes, (function* () {})());
    const split = returnPathOutcome(bytes, sizes(prng));
    assert.deepEqual(split, whole);
    if (whole.error !== undefined) throw whole.error;
  },
};

interface StreamOutcome {
  readonly log: readonly string[];
  readonly error: GodwitError | undefined;
}

function outcome(feed: (reader: StreamReader) => number): StreamOutcome {
  const collector = new Collector();
  const reader = new StreamReader(collector);
  try {
    collector.log.push(`left ${feed(reader)} at ${reader.offset}`);
    reader.assertComplete();
  } catch (error) {
    if (error instanceof GodwitError) return { log: collector.log, error };
    throw error;
  }
  collector.log.push(collector.finish());
  return { log: collector.log, error: undefined };
}

function feedSurrounded(reader: StreamReader, bytes: Uint8Array, fill: number): number {
  const margin = 4200;
  const room = new Uint8Array(bytes.length + 2 * margin).fill(fill);
  room.set(bytes, margin);
  const end = margin + bytes.length;
  let from = margin;
  try {
    for (let at = -1; at !== from; ) {
      at = from;
      from = reader.push(room, at, end);
    }
  } finally {
    assert.ok(room.subarray(0, margin).every((byte) => byte === fill));
    assert.ok(room.subarray(end).every((byte) => byte === fill));
  }
  return end - from;
}

function returnPathOutcome(bytes: Uint8Array, steps: Iterable<number>) {
  const seen: number[] = [];
  const reader = new ReturnPathReader((status) => seen.push(status));
  const adapter = {
    push: (chunk: Uint8Array, from: number, to: number): number => {
      reader.push(chunk.subarray(from, to));
      return to;
    },
  };
  try {
    feedMoving(adapter, bytes, steps);
  } catch (error) {
    if (error instanceof GodwitError) return { seen, error };
    throw error;
  }
  return { seen, error: undefined };
}

function* sizes(prng: Prng): Generator<number> {
  const longest = prng.pick([3, 40, 5000, 100_000]);
  for (;;) yield prng.integer(Math.max(1, longest >> 4), longest);
}

function join(...pieces: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}

/** Records of one block, pages and zero pages mixed. */
function madeRun(count: number): Uint8Array {
  const prng = new Prng(count);
  const pieces = Array.from({ length: count }, () => {
    const zero = prng.chance(0.6);
    const bytes = new Uint8Array(zero ? zeroRecordBytes : pageRecordBytes);
    const page = prng.integer(0, blockPageCount - 1);
    if (zero) writeZeroRecord(new DataView(bytes.buffer), 0, page);
    else writePageWord(new DataView(bytes.buffer), 0, page);
    return bytes;
  });
  return join(...pieces);
}

/** Small streams with every kind of item: most damage then hits something that matters. */
function madeStreams(): Uint8Array[] {
  return [0, 1, 2, 3].map((kind) => {
    const names = ["pc.ram", "vga.vram", "/rom@etc/acpi/tables"].slice(0, kind + 1);
    const blocks = names.map((name) => ({ name, lengthBytes: blockPageCount * 4096 }));
    const returnPath = kind % 2 === 1;
    const head = { machineType: "pc-q35-10.0", ramSectionId: kind, blocks, returnPath };
    const pieces = [encodeHead(head)];
    for (const { name } of blocks) {
      const run = madeRun(kind * 3 + 1);
      const view = new DataView(run.buffer);
      pieces.push(
        encodeSectionBegin(kind, "part"),
        encodeNamedWord(view.getUint32(0), view.getUint32(4), name),
        run.subarray(8),
        madeRun(2),
        encodeSectionEnd(kind),
        encodeCommand(11, new Uint8Array(0)),
      );
    }
    pieces.push(encodeSectionBegin(kind, "end"), encodeSectionEnd(kind));
    return join(...pieces, Uint8Array.of(4, 0, 0, 0, 9, 3, 99, 112, 117), encodeEof());
  });
}

/** The beginnings of real streams, and the smallest one whole. */
function shortCaptures(): Uint8Array[] {
  const list = loadCaptures();
  const whole = list.filter(({ name }) => name.endsWith("/stopped-guest"));
  return [
    ...list.map((item) => item.bytes().slice(0, 12_000)),
    ...whole.map((item) => item.bytes()),
  ];
}
