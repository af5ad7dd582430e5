/**
 * Fuzz target of src/codec: whatever a body is, it becomes exactly as many bytes as its frame says, or is refused. An input
 * is the codec's id, the length claimed (u32), and the body.
 */
import assert from "node:assert/strict";
import { GodwitError } from "../../src/base/index.ts";
import { batchBytesMax, createEncoder, Decoders } from "../../src/codec/index.ts";
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
