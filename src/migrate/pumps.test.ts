/**
 * The whole data path without a QEMU: a stream goes into the source's pump, over a connection between two channels, through
 * the destination's pump, and what comes out is read as QEMU would. With every codec, as the memory is the same in the end.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { GodwitError, Prng } from "../base/index.ts";
import {
  type BatchEncoder,
  type CodecChoice,
  codecChoices,
  createEncoder,
} from "../codec/index.ts";
import { adoptSocket, sleep, systemClock } from "../io/index.ts";
import {
  encodeEof,
  encodeHead,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  pageRecordBytes,
  StreamReader,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../qemu/stream/index.ts";
import { type ChannelEvents, FrameChannel } from "./channel.ts";
import { DestinationPump, type TouchedMemory } from "./destination/pump.ts";
import { SourcePump } from "./source/pump.ts";
import { decodeAckBody, FrameType } from "./wire/index.ts";

const pageCount = 512;
const roundCount = 4;
const block = { name: "m0", lengthBytes: pageCount * 4096 };
const slabs = { slabBytes: 2 << 20, slabCount: 2, itemBytesMax: 600 << 10 };

/** Rounds over the same memory: zeros, text that changes a little, noise, and copies of other pages. */
function guest(): { stream: Buffer; memory: Buffer } {
  const prng = new Prng(11);
  const memory = Buffer.alloc(block.lengthBytes);
  const pieces: Uint8Array[] = [
    encodeHead({ machineType: "pc-q35-10.0", ramSectionId: 2, blocks: [block], returnPath: true }),
  ];
  for (let round = 0; round < roundCount; round++) {
    pieces.push(encodeSectionBegin(2, "part"));
    let isFirst = true;
    for (let page = 0; page < pageCount; page++) {
      if (round > 0 && prng.chance(0.3)) continue;
      const bytes = memory.subarray(page * 4096, (page + 1) * 4096);
      change(bytes, memory, page, round, prng);
      const isZero = page % 7 === 0;
      const record = Buffer.alloc(isZero ? zeroRecordBytes : pageRecordBytes);
      const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
      if (isZero) writeZeroRecord(view, 0, page);
      else writePageWord(view, 0, page);
      if (!isZero) bytes.copy(record, 8);
      if (isFirst) {
        pieces.push(encodeNamedWord(view.getUint32(0), view.getUint32(4), block.name));
        pieces.push(record.subarray(8));
      } else pieces.push(record);
      isFirst = false;
    }
    pieces.push(encodeSectionEnd(2));
  }
  pieces.push(encodeSectionBegin(2, "end"), encodeSectionEnd(2), encodeEof());
  return { stream: Buffer.concat(pieces), memory };
}

function change(bytes: Buffer, memory: Buffer, page: number, round: number, prng: Prng): void {
  if (page % 7 === 0) return;
  if (page % 7 === 1) {
    for (let at = 0; at < 4096; at += 4) bytes.writeUInt32LE(prng.integer(0, 2 ** 32 - 1), at);
  } else if (page % 7 === 2) {
    memory.copy(bytes, 0, (page - 1) * 4096, page * 4096);
  } else {
    if (round === 0) bytes.fill(`line ${page} of a text; `);
    bytes.writeUInt32LE(prng.integer(0, 2 ** 32 - 1), 4 * prng.integer(0, 1023));
  }
}

/** Memory as a QEMU that reads `stream` would have it. */
function load(stream: Buffer): { memory: Buffer; tailBytes: number } {
  const memory = Buffer.alloc(block.lengthBytes);
  let tailBytes = 0;
  const reader = new StreamReader({
    head: () => {},
    pages: (_, bytes, from, to) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = from; at < to; ) {
        const low = view.getUint32(at + 4);
        const page = Math.floor((view.getUint32(at) * 2 ** 32 + low) / 4096);
        const isPage = (low & 0x08) !== 0;
        const to1 = isPage ? at + 4104 : at + 9;
        memory.fill(0, page * 4096, (page + 1) * 4096);
        if (isPage) memory.set(bytes.subarray(at + 8, to1), page * 4096);
        at = to1;
      }
    },
    command: () => {},
    ramEnd: () => {},
    tail: (_, from, to) => {
      tailBytes += to - from;
    },
  });
  for (let at = 0; at < stream.length; ) {
    const next = reader.push(stream, at, stream.length);
    if (next === at) break;
    at = next;
  }
  return { memory, tailBytes };
}

interface Outcome {
  readonly stream: Buffer;
  readonly pump: SourcePump;
  readonly error: GodwitError | undefined;
  readonly untouchedCount: number;
}

/** `qemuMs`: the destination's QEMU takes that long for each write. */
async function migrate(
  encoder: BatchEncoder,
  stream: Buffer,
  qemuMs = 0,
  touched?: TouchedMemory,
): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "godwit-pumps-"));
  const paths = { qemu: join(directory, "qemu"), peer: join(directory, "peer") };
  const ended = Promise.withResolvers<GodwitError | undefined>();
  const out: Buffer[] = [];
  const chunks = new Writable({
    write: (chunk: Buffer, _, done) => {
      out.push(Buffer.from(chunk));
      if (qemuMs > 0) setTimeout(done, qemuMs);
      else done();
    },
  });
  const tailFrames = { count: 0 };
  const toDestination: ChannelEvents = {
    frame: (header, slab, from, to) => {
      destination.frame(header, slab, from, to);
      if (header.type === FrameType.tail) tailFrames.count++;
    },
    lost: (error) => ended.resolve(error),
  };
  const there = new FrameChannel(systemClock, slabs, toDestination);
  const destination: DestinationPump = new DestinationPump(there.receiver, {
    loaded: () => {},
    acknowledge: (ack) => {
      there.sendAck(ack);
      if (tailFrames.count > 0 && ack.takenBytes === pump.sender.sentBytes)
        ended.resolve(undefined);
    },
    failed: (error) => ended.resolve(error),
  });
  // The pump uses nothing of a socket that a stream has not.
  destination.open(chunks as unknown as Socket, touched);
  const here = new FrameChannel(systemClock, slabs, {
    frame: (_, slab, from, to) => {
      pump.acknowledged(decodeAckBody(slab.bytes as Buffer, from, to), 1e5);
    },
    lost: () => {},
  });
  const pump = new SourcePump({
    clock: systemClock,
    channel: here,
    skip: undefined,
    encoder,
    bandwidthBytesPerSecond: 0,
    readPages: () => {},
    events: { began: () => {}, failed: (error) => ended.resolve(error), ended: () => {} },
  });
  const peers = createServer({ pauseOnConnect: true }, (accepted) => {
    there.open(adoptSocket(accepted, there.receiver));
  });
  const qemus = createServer({ pauseOnConnect: true }, (accepted) => pump.open(accepted));
  await new Promise<void>((resolve) => peers.listen(paths.peer, resolve));
  await new Promise<void>((resolve) => qemus.listen(paths.qemu, resolve));
  const socket = connect({ path: paths.peer, onread: here.receiver.onread() });
  here.receiver.attach(socket);
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  here.open(socket);
  const qemu = connect(paths.qemu);
  qemu.on("error", () => {});
  qemu.write(stream);
  const error = await ended.promise;
  pump.stop();
  destination.stop();
  here.destroy();
  there.destroy();
  qemu.destroy();
  peers.close();
  qemus.close();
  rmSync(directory, { recursive: true });
  return { stream: Buffer.concat(out), pump, error, untouchedCount: destination.untouchedCount };
}

const { stream, memory } = guest();

for (const codec of codecChoices) {
  test(`the destination's memory is the source's after rounds of changes [${codec}]`, async () => {
    const options = codec === "auto" ? { memoryBytes: 32 << 20 } : {};
    const moved = await migrate(createEncoder(codec, options), stream);
    assert.equal(moved.error, undefined);
    const loaded = load(moved.stream);
    assert.ok(loaded.memory.equals(memory));
    assert.equal(loaded.tailBytes, 1);
    const { compressedAwayBytes, encodedRawBytes, encodedBodyBytes } = moved.pump.sender;
    assert.equal(compressedAwayBytes, encodedRawBytes - encodedBodyBytes);
    // "auto" need not compress where nothing is short.
    if (codec === "none") assert.equal(compressedAwayBytes, 0);
    else
      assert.ok(
        compressedAwayBytes > 0 || codec === "zero" || codec === "auto",
        `${compressedAwayBytes}`,
      );
  });
}

test("a QEMU that is slow to load gets the same [hybrid, zstd]", async () => {
  for (const codec of ["hybrid", "zstd"] satisfies CodecChoice[]) {
    const moved = await migrate(createEncoder(codec), stream, 1);
    assert.equal(moved.error, undefined);
    assert.ok(load(moved.stream).memory.equals(memory));
  }
});

/** One section each, of pages `from` to `to` that are zero or full of `fill`. */
function streamOf(parts: readonly { from: number; to: number; fill: number }[]): Buffer {
  const pieces: Uint8Array[] = [
    encodeHead({ machineType: "pc-q35-10.0", ramSectionId: 2, blocks: [block], returnPath: true }),
  ];
  for (const { from, to, fill } of parts) {
    pieces.push(encodeSectionBegin(2, "part"));
    for (let page = from; page < to; page++) {
      const record = Buffer.alloc(fill === 0 ? zeroRecordBytes : pageRecordBytes, fill);
      const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
      if (fill === 0) writeZeroRecord(view, 0, page);
      else writePageWord(view, 0, page);
      if (page > from) pieces.push(record);
      else {
        pieces.push(encodeNamedWord(view.getUint32(0), view.getUint32(4), block.name));
        pieces.push(record.subarray(8));
      }
    }
    pieces.push(encodeSectionEnd(2));
  }
  pieces.push(encodeSectionBegin(2, "end"), encodeSectionEnd(2), encodeEof());
  return Buffer.concat(pieces);
}

test("a QEMU with fresh memory is not told of zero pages, but of those that had content [none, zstd, hybrid]", async () => {
  const parts = [
    { from: 0, to: 200, fill: 0 },
    { from: 200, to: 260, fill: 7 },
    { from: 260, to: pageCount, fill: 0 },
    // Page 300 was there before the migration, by whatever chance; the others have become zero, or got content.
    { from: 190, to: 240, fill: 0 },
    { from: 280, to: 310, fill: 9 },
    { from: 295, to: 320, fill: 0 },
  ];
  const expected = Buffer.alloc(block.lengthBytes);
  for (const { from, to, fill } of parts) expected.fill(fill, from * 4096, to * 4096);
  const wanted = streamOf(parts);
  for (const codec of ["none", "zstd", "hybrid"] satisfies CodecChoice[]) {
    const fresh: TouchedMemory = {
      has: (name) => name === block.name,
      look(name, page, count, onTouched) {
        assert.deepEqual([name, page, count], [block.name, 0, pageCount]);
        onTouched(300);
        return true;
      },
    };
    const moved = await migrate(createEncoder(codec), wanted, 0, fresh);
    assert.equal(moved.error, undefined);
    assert.ok(load(moved.stream).memory.equals(expected));
    // 200 and 10 of them are told of twice; 300 is, and what had content.
    assert.equal(moved.untouchedCount, 200 + (pageCount - 260 - 1) + 10 + 10);
    const other: TouchedMemory = { ...fresh, has: () => false };
    const all = await migrate(createEncoder(codec), wanted, 0, other);
    assert.equal(all.untouchedCount, 0);
    assert.ok(load(all.stream).memory.equals(expected));
  }
});

test("batches that other threads have are bounded; some are done late, and nothing overtakes them", async () => {
  const encoder = createEncoder("hybrid");
  const prng = new Prng(5);
  const seen = { now: 0, most: 0, batchCount: 0 };
  const slow: BatchEncoder = {
    ...slowBasis,
    async later(batch) {
      const body = encoder.encode(batch).map((piece) => Buffer.from(piece));
      const { id } = encoder;
      seen.now++;
      seen.batchCount++;
      seen.most = Math.max(seen.most, seen.now);
      await sleep(systemClock, prng.integer(1, 4));
      seen.now--;
      return { id, body };
    },
  };
  const moved = await migrate(slow, stream);
  assert.equal(moved.error, undefined);
  assert.ok(load(moved.stream).memory.equals(memory));
  // Six, and what is in the piece at hand.
  assert.ok(seen.most > 2 && seen.most <= 9, `${seen.most}`);
  assert.ok(seen.batchCount > 12);
});

test("batches that go as they are keep their place between those that others have [six seeds]", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const [hybrid, none, prng] = [createEncoder("hybrid"), createEncoder("none"), new Prng(seed)];
    let isNone = false;
    const mixed: BatchEncoder = {
      ...slowBasis,
      later(batch) {
        if (prng.chance(0.3)) isNone = !isNone;
        if (isNone) return { id: none.id, body: none.encode(batch) };
        const done = hybrid.later?.(batch) ?? assert.fail("it has");
        if (!(done instanceof Promise) || prng.chance(0.5)) return done;
        const lateMs = prng.integer(1, 4);
        return done.then((one) => sleep(systemClock, lateMs).then(() => one));
      },
    };
    const moved = await migrate(mixed, stream, seed % 2);
    assert.equal(moved.error, undefined, `seed ${seed}`);
    assert.ok(load(moved.stream).memory.equals(memory), `seed ${seed}`);
  }
});

const slowBasis: BatchEncoder = {
  id: 0,
  name: "slow",
  memoryBytes: 0,
  reset: () => {},
  encode: () => assert.fail("others do it"),
};

test("a batch that another thread fails at ends the migration", async () => {
  const failing: BatchEncoder = {
    ...slowBasis,
    later: () => Promise.reject(new Error("no memory")),
  };
  const { error } = await migrate(failing, stream);
  assert.equal(error?.code, "IO");
  assert.match(error.message, /no memory/);
});

test("a body that its decoder refuses ends the connection, and the source is told", async () => {
  const encoder = createEncoder("hybrid");
  const damaged: BatchEncoder = {
    name: "damaged",
    memoryBytes: 0,
    reset: () => {},
    get id() {
      return encoder.id;
    },
    encode: (batch) => {
      const pieces = encoder.encode(batch).map((piece) => Buffer.from(piece));
      const last = pieces.at(-1);
      if (batch.pageCount > 0 && last !== undefined) last[last.length >> 1] = 0x5a;
      return pieces;
    },
  };
  const { error } = await migrate(damaged, stream);
  assert.equal(error?.code, "FRAME_INVALID");
});
