/** The example of docs/formats/codec.md, whose streams were worked out by hand, in both directions and with both builds. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { HeldBytes } from "../held-bytes.ts";
import { StreamsDecoder, StreamsEncoder } from "./index.ts";

const text = readFileSync("docs/formats/codec.md", "utf8");
const examples = [...text.matchAll(/(?:^ {4}(?:[0-9a-f]{2} ?)+\n)+/gm)].map(([block]) =>
  Buffer.from(block.replaceAll(/\s/g, ""), "hex"),
);
const full = Buffer.alloc(4096, 0x5a);
const changed = Buffer.from(full);
changed[9] = 1;

function record(page: number, bytes?: Buffer): Buffer {
  const word = Buffer.alloc(8);
  word.writeBigUInt64BE(BigInt(page * 4096 + (bytes === undefined ? 0x22 : 0x28)));
  return Buffer.concat([word, bytes ?? Buffer.alloc(1)]);
}

const batches = [
  Buffer.concat([record(3, full), record(4, full), record(5, full), record(9)]),
  Buffer.concat([record(4, changed), record(5, full), record(6, Buffer.alloc(4096)), record(9)]),
];
const bodies = [Buffer.concat([examples[0] as Buffer, full]), examples[1] as Buffer];

for (const kernels of ["simd", "plain"] as const) {
  test(`the example of the format is what comes out, and goes in [${kernels}]`, () => {
    const encoder = new StreamsEncoder({
      method: "hybrid",
      pack: "none",
      generation: 0x0a0b0c0d,
      memoryBytes: 0x44_0000,
      kernels,
    });
    const decoder = new StreamsDecoder(new HeldBytes(1 << 20, () => {}), { kernels });
    for (const [i, bytes] of batches.entries()) {
      const counts = { block: 2, bytes: bytes.length, pageCount: 3, zeroCount: 1 };
      const body = bodies[i] as Buffer;
      assert.deepEqual(Buffer.concat(encoder.encode({ ...counts, pieces: [bytes] })), body);
      const range = { bytes: body, from: 0, to: body.length, hold: () => () => {} };
      const { bytes: out, from, to } = decoder.decode(range, bytes.length);
      assert.ok(bytes.equals(out.subarray(from, to)));
    }
  });
}
