import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryWrite } from "./heap.ts";
import { arrayClass, fillWithArrays } from "./klass.ts";

const compressed = { compressed: true, base: 0x7f00_0000_0000, shift: 0 };
const full = { compressed: false, base: 0, shift: 0 };

/** As HotSpot makes it: tag 3, header bytes, element type, log2 of the element's bytes. */
const layout = (header: number, type: number, shift: number): number =>
  ((3 << 30) | (header << 16) | (type << 8) | shift) >>> 0;

const ints = arrayClass("[I", layout(16, 10, 2), 0x6840, compressed);
const bytes = arrayClass("[B", layout(16, 8, 0), 0x1234, compressed);
const fullInts = arrayClass("[I", layout(24, 10, 2), 0x7f0012345678, full);
const denseInts = arrayClass("[I", layout(20, 10, 2), 0x7f0012345678, full);

test("a class is taken only when name, element and header fit each other", () => {
  assert.ok(ints !== undefined && bytes !== undefined && fullInts !== undefined);
  assert.equal(arrayClass("[I", layout(16, 8, 0), 1, compressed), undefined);
  assert.equal(arrayClass("[I", layout(24, 10, 2), 1, compressed), undefined);
  assert.equal(arrayClass("[I", layout(16, 10, 2), 1, full), undefined);
  assert.equal(arrayClass("[L", layout(16, 12, 2), 1, compressed), undefined);
  assert.equal(arrayClass("[I", layout(16, 10, 2) & 0x7fffffff, 1, compressed), undefined);
});

test("one array fills eden to the last byte, for every element and header", () => {
  for (const array of [ints, bytes, fullInts, denseInts]) {
    assert.ok(array !== undefined);
    for (const freeBytes of [24, 32, 40, 1 << 20, (1 << 30) - 8]) {
      const writes = fillWithArrays(array, 0x10000, 0x10000 + freeBytes);
      assert.equal(writes?.length, 1);
      const header = Buffer.from(writes?.[0]?.bytes ?? []);
      assert.equal(header.length, 8 + array.wordBytes + 4);
      assert.equal(header.readBigUInt64LE(0), 1n);
      const length = header.readUInt32LE(8 + array.wordBytes);
      const objectBytes: number =
        Math.ceil((array.headerBytes + length * array.elementBytes) / 8) * 8;
      assert.equal(objectBytes, freeBytes);
    }
  }
});

test("a large eden takes several arrays, one after another, none too small for its header", () => {
  assert.ok(ints !== undefined);
  for (const freeBytes of [2 ** 30 + 8, 2 ** 30 + 72, 10 * 2 ** 30, 63 * 2 ** 30]) {
    const writes: MemoryWrite[] = fillWithArrays(ints, 2 ** 40, 2 ** 40 + freeBytes) ?? [];
    let at: number = 2 ** 40;
    for (const { address, bytes: header } of writes) {
      assert.equal(address, at);
      at += 16 + 4 * Buffer.from(header).readUInt32LE(12);
    }
    assert.equal(at, 2 ** 40 + freeBytes);
  }
});

test("what cannot be filled is left alone: less than a header, or more than 64 GiB", () => {
  assert.ok(ints !== undefined && fullInts !== undefined);
  assert.equal(fillWithArrays(ints, 0, 8), undefined);
  assert.equal(fillWithArrays(fullInts, 0, 16), undefined);
  assert.equal(fillWithArrays(ints, 0, 65 * 2 ** 30), undefined);
  assert.deepEqual(fillWithArrays(ints, 64, 64), []);
});
