import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { lookPages, UntouchedPages } from "./untouched-pages.ts";

const blockPages = 3 * lookPages - 100;

/** As docs/formats/qemu-stream.md says, by hand. */
function record(page: number, isZero: boolean): Buffer {
  const bytes = Buffer.alloc(isZero ? 9 : 8 + 4096, isZero ? 0 : 0xa5);
  bytes.writeBigUInt64BE(BigInt(page) * 4096n + (isZero ? 0x22n : 0x28n));
  return bytes;
}

interface Told {
  readonly page: number;
  readonly isZero: boolean;
}

function toldIn(bytes: Buffer, ranges: readonly number[]): Told[] {
  const told: Told[] = [];
  for (let i = 0; i < ranges.length; i += 2) {
    let at = ranges[i] as number;
    const end = ranges[i + 1] as number;
    assert.ok(at < end, "no range is empty");
    if (i > 0) assert.ok(at > (ranges[i - 1] as number), "something lies between ranges");
    while (at < end) {
      const word = bytes.readBigUInt64BE(at);
      const isZero = (word & 2n) !== 0n;
      told.push({ page: Number(word >> 12n), isZero });
      at += isZero ? 9 : 4104;
    }
    assert.equal(at, end, "ranges end between records");
  }
  return told;
}

function set(pages: Set<number>, { page, isZero }: Told): void {
  if (isZero) pages.delete(page);
  else pages.add(page);
}

/** Batches of stretches: pages that follow one another, all zero or all not. */
const batches = fc.array(
  fc.array(
    fc.record({
      page: fc.oneof(fc.nat(blockPages - 40), fc.nat(30)),
      length: fc.integer({ min: 1, max: 40 }),
      isZero: fc.boolean(),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  { maxLength: 12 },
);

test("QEMU's memory comes to be the same, whatever it had touched and in whatever order pages come [properties]", () => {
  const run = fc.property(
    batches,
    fc.uniqueArray(fc.nat(blockPages - 1)),
    fc.boolean(),
    (all, before, isKnown) => {
      /** Pages that are not zero; what QEMU had touched before is not. */
      const wanted = new Set(before);
      const got = new Set(before);
      const looked = new Set<number>();
      const pages = new UntouchedPages(blockPages, (page, count, onTouched) => {
        assert.ok(page % lookPages === 0 && page + count <= blockPages && !looked.has(page));
        looked.add(page);
        // The batch at hand is not at QEMU yet, and those before may not be.
        for (const one of before) if (one >= page && one < page + count) onTouched(one);
        return isKnown || page === 0;
      });
      const ranges: number[] = [];
      let [sentCount, toldCount] = [0, 0];
      for (const batch of all) {
        const records = batch.flatMap(({ page, length, isZero }) =>
          Array.from({ length }, (_none, i) => ({ page: page + i, isZero })),
        );
        const bytes = Buffer.concat([
          Buffer.alloc(5),
          ...records.map((one) => record(one.page, one.isZero)),
        ]);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        pages.select(view, 5, bytes.length, ranges);
        for (const one of records) set(wanted, one);
        const told = toldIn(bytes, ranges);
        for (const one of told) set(got, one);
        sentCount += records.length;
        toldCount += told.length;
        assert.deepEqual(got, wanted);
      }
      assert.equal(pages.leftOutCount, sentCount - toldCount);
    },
  );
  fc.assert(run, { numRuns: 200 });
});

test("zero pages of untouched memory are left out; a few between others are not worth the cut", () => {
  const pages = new UntouchedPages(1000, () => true);
  const zeros = (from: number, count: number): Buffer[] =>
    Array.from({ length: count }, (_none, i) => record(from + i, true));
  const select = (records: readonly Buffer[]): number[] => {
    const bytes = Buffer.concat(records);
    const ranges: number[] = [];
    pages.select(
      new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      0,
      bytes.length,
      ranges,
    );
    return ranges;
  };
  assert.deepEqual(select(zeros(0, 100)), []);
  assert.deepEqual(select([record(200, false), ...zeros(100, 50), record(201, false)]), [
    0,
    4104,
    4104 + 450,
    2 * 4104 + 450,
  ]);
  assert.deepEqual(select([record(202, false), ...zeros(100, 3), record(203, false)]), [
    0,
    2 * 4104 + 27,
  ]);
  // What had content once has to become zero.
  assert.deepEqual(select(zeros(196, 12)), [0, 12 * 9]);
  assert.equal(pages.leftOutCount, 150);
});
