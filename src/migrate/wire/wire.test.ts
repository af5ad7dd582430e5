import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GodwitError } from "../../base/index.ts";
import {
  batchBytesTarget,
  bodyBytesMax,
  decodeAckBody,
  encodeAckBody,
  encodeControlBody,
  encodeHeader,
  encodePreamble,
  FrameDecoder,
  type FrameHeader,
  FrameType,
  frameHeaderBytes,
  parseDestinationMessage,
  parseSourceMessage,
  plainHeader,
} from "./index.ts";

interface Seen {
  header: FrameHeader;
  body: string;
}

function collector(): { decoder: FrameDecoder; seen: Seen[]; versions: number[] } {
  const seen: Seen[] = [];
  const versions: number[] = [];
  const decoder = new FrameDecoder({
    version: (version) => versions.push(version),
    frame: (header, bytes, from, to) => {
      seen.push({ header: { ...header }, body: bytes.toString("hex", from, to) });
    },
  });
  return { decoder, seen, versions };
}

/** CRC-32C bit by bit, as RFC 3720 defines it: shares nothing with the library. */
function crc32cSlowly(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function frame(header: FrameHeader, body: Uint8Array): Buffer {
  return Buffer.concat([encodeHeader(header, [body]), body]);
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert(error instanceof GodwitError, String(error));
    return error.code;
  }
  return "nothing was thrown";
}

test("the preamble is the 16 bytes of docs/formats/frame.md", () => {
  assert.equal(encodePreamble().toString("hex"), "676f647769740d0a0001000100000000");
});

test("a pages frame is the bytes of docs/formats/frame.md, checksum included", () => {
  const body = Buffer.from("000000000000502200", "hex");
  const header: FrameHeader = {
    type: FrameType.pages,
    codec: 0,
    block: 2,
    bodyBytes: 9,
    sequence: 7,
    pageCount: 0,
    zeroCount: 1,
    rawBytes: 9,
  };
  const encoded = encodeHeader(header, [body.subarray(0, 4), body.subarray(4)]);
  const fields =
    "47445746" +
    "03" +
    "00" +
    "0002" +
    "00000009" +
    "00000007" +
    "00000000" +
    "00000001" +
    "00000009";
  assert.equal(encoded.subarray(0, 28).toString("hex"), fields);
  const whole = Buffer.concat([Buffer.from(fields, "hex"), body]);
  assert.equal(encoded.readUInt32BE(28), crc32cSlowly(whole));
});

test("frames arrive whole and equal however the bytes are split", () => {
  const frames = fc.array(
    fc.record({ type: fc.constantFrom(1, 3, 6, 7), body: fc.uint8Array({ maxLength: 8 }) }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(
      frames,
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      (list, cuts) => {
        const parts: Buffer[] = [encodePreamble()];
        list.forEach(({ type, body }, i) => {
          parts.push(frame(plainHeader(type, body.length, i), body));
        });
        const bytes = Buffer.concat(parts);
        const { decoder, seen } = collector();
        let from = 0;
        let to = 0;
        for (let i = 0; to < bytes.length; i++) {
          to = Math.min(bytes.length, to + (cuts[i % cuts.length] as number));
          from = decoder.push(bytes, from, to);
        }
        assert.equal(from, bytes.length);
        assert.deepEqual(
          seen.map(({ header, body }) => ({ type: header.type, body })),
          list.map(({ type, body }) => ({ type, body: Buffer.from(body).toString("hex") })),
        );
      },
    ),
  );
});

test("any single flipped bit behind the preamble is noticed", () => {
  const body = Buffer.from("some device state");
  const good = Buffer.concat([
    encodePreamble(),
    frame(plainHeader(FrameType.tail, body.length, 0), body),
  ]);
  for (let bit = 16 * 8; bit < good.length * 8; bit++) {
    const bytes = Buffer.from(good);
    bytes[bit >>> 3] = (bytes[bit >>> 3] as number) ^ (1 << (bit & 7));
    const { decoder, seen } = collector();
    // A longer length only makes the decoder wait: then the keep-alive's deadline ends the connection.
    const code = codeOf(() => decoder.push(bytes, 0, bytes.length));
    assert(code.startsWith("FRAME_") || seen.length === 0, `bit ${bit}: ${code}`);
    assert.equal(seen.length, 0, `bit ${bit}`);
  }
});

test("what is not godwit, too new, too old, too long or out of turn is refused with its code", () => {
  const start = encodePreamble();
  const push = (...parts: Uint8Array[]): string => {
    const bytes = Buffer.concat(parts);
    return codeOf(() => collector().decoder.push(bytes, 0, bytes.length));
  };
  assert.equal(push(Buffer.from("GET / HTTP/1.1\r\n")), "FRAME_INVALID");
  const future = encodePreamble();
  future.writeUInt16BE(9, 8);
  future.writeUInt16BE(8, 10);
  assert.equal(push(future), "PROTOCOL_VERSION");
  const newer = encodePreamble();
  newer.writeUInt16BE(9, 8);
  const { decoder, versions } = collector();
  decoder.push(newer, 0, newer.length);
  assert.deepEqual(versions, [1], "a newer peer that still speaks version 1 is welcome");
  for (const [type, limit] of Object.entries(bodyBytesMax)) {
    const header = encodeHeader(plainHeader(Number(type) as FrameType, limit + 1, 0), []);
    assert.equal(push(start, header), "FRAME_INVALID", `type ${type}`);
  }
  assert.equal(push(start, encodeHeader(plainHeader(0 as FrameType, 0, 0), [])), "FRAME_INVALID");
  assert.equal(push(start, encodeHeader(plainHeader(99 as FrameType, 0, 0), [])), "FRAME_INVALID");
  assert.equal(push(start, encodeHeader(plainHeader(FrameType.alive, 0, 1), [])), "FRAME_INVALID");
  assert.equal(push(start, Buffer.alloc(frameHeaderBytes)), "FRAME_INVALID");
});

test("a batch and every control message fit their frames, and a frame fits a slab's longest item", () => {
  assert((bodyBytesMax[FrameType.pages] as number) >= batchBytesTarget);
  for (const limit of Object.values(bodyBytesMax)) assert(limit + frameHeaderBytes <= 600 << 10);
});

test("an acknowledgement counts beyond 4 GiB", () => {
  const ack = { takenBytes: 2 ** 40 + 5, idleMs: 2 ** 30 + 0.007 };
  const body = encodeAckBody(ack);
  assert.equal(body.toString("hex"), "0000010000000005000000fa00000007");
  assert.deepEqual(decodeAckBody(body, 0, body.length), ack);
  assert.throws(() => decodeAckBody(body, 0, 8), { code: "FRAME_INVALID" });
});

test("control messages are checked at the border", () => {
  const offer = {
    type: "offer",
    migrationId: "m-1",
    vmName: "web",
    source: { godwitVersion: "0.1.0", qemuVersion: "10.0.13", host: "a" },
    run: true,
    verify: false,
  };
  assert.deepEqual(parseSourceMessage(encodeControlBody(offer)), offer);
  const refuse = (message: object | string): string =>
    codeOf(() =>
      parseSourceMessage(
        typeof message === "string" ? Buffer.from(message) : encodeControlBody(message),
      ),
    );
  assert.equal(refuse("{"), "FRAME_INVALID");
  assert.equal(refuse({ type: "offer" }), "FRAME_INVALID");
  assert.equal(refuse({ ...offer, migrationId: "../../etc/passwd" }), "FRAME_INVALID");
  assert.equal(refuse({ ...offer, vmName: "a/b" }), "FRAME_INVALID");
  assert.equal(refuse({ ...offer, vmName: "-rf" }), "FRAME_INVALID");
  assert.equal(refuse({ type: "running" }), "FRAME_INVALID", "a destination's word from a source");
  assert.equal(refuse({ type: "verify", chunkBytes: 1 }), "FRAME_INVALID");
  const failed = { type: "failed", error: { code: "INVENTED_LATER", message: "x" } };
  const parsed = parseDestinationMessage(encodeControlBody(failed));
  assert.deepEqual(parsed, { type: "failed", error: { code: "PEER_FAILED", message: "x" } });
});
