import assert from "node:assert/strict";
import { test } from "node:test";
import type { PageBatch } from "../../src/codec/index.ts";
import type { TraceBatch } from "../../src/trace/index.ts";
import { recordPairs } from "./previous.ts";

/** A record of each page, full of one byte; 0: a zero record. */
function batch(...pages: readonly (readonly [page: number, byte: number])[]): PageBatch {
  const records = pages.map(([page, byte]) => {
    const bytes = Buffer.alloc(byte === 0 ? 9 : 4104, byte);
    bytes.writeBigUInt64BE(BigInt(page) * 4096n + (byte === 0 ? 0x22n : 0x28n));
    return bytes;
  });
  const bytes = Buffer.concat(records);
  return { block: 0, pieces: [bytes], bytes: bytes.length, pageCount: 0, zeroCount: 0 };
}

async function* open(): AsyncGenerator<TraceBatch> {
  yield { epoch: 0, atMs: 0, batch: batch([1, 11], [2, 12]) };
  yield { epoch: 1, atMs: 100, batch: batch([2, 22], [3, 23]) };
  yield { epoch: 2, atMs: 200, batch: batch([2, 0]) };
  yield { epoch: 3, atMs: 300, batch: batch([2, 42], [1, 41]) };
  yield { epoch: 4, atMs: 400, batch: batch([9, 9]) };
}

test("each record comes with its page's last version, zeros where there was none", async () => {
  const found: number[][] = [];
  for await (const pairs of recordPairs(open, 3)) {
    for (const { epoch, now, before } of pairs) {
      assert.deepEqual(now.subarray(0, 6), before.subarray(0, 6));
      found.push([epoch, now.at(-1) ?? -1, before.at(-1) ?? -1, before.length]);
    }
  }
  assert.deepEqual(found, [
    [1, 22, 12, 4104],
    [1, 23, 0, 4104],
    [2, 0, 22, 4104],
    [3, 42, 0, 9],
    [3, 41, 11, 4104],
  ]);
});
