import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { splitRanges } from "./split.ts";

test("batches hold every byte of every range once, in order, within both bounds", () => {
  const range = fc.record({
    address: fc.integer({ min: 0, max: 2 ** 40 }),
    bytes: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 5000 })),
  });
  const bounds = fc.record({
    countMax: fc.integer({ min: 1, max: 5 }),
    bytesMax: fc.integer({ min: 1, max: 300 }),
  });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), bounds, (ranges, { countMax, bytesMax }) => {
      const batches = splitRanges(ranges, countMax, bytesMax);
      const ends = ranges.map(({ address }) => address);
      let last = 0;
      for (const { pieces, owners } of batches) {
        assert.ok(pieces.length >= 1 && pieces.length <= countMax);
        assert.ok(pieces.reduce((sum, { bytes }) => sum + bytes, 0) <= bytesMax);
        pieces.forEach(({ address, bytes }, index) => {
          const owner = owners[index] as number;
          assert.ok(owner >= last);
          last = owner;
          assert.equal(address, ends[owner]);
          ends[owner] = address + bytes;
        });
      }
      assert.deepEqual(
        ends,
        ranges.map(({ address, bytes }) => address + bytes),
      );
    }),
  );
});

test("cuts fall on multiples of the alignment, so that no page is lost at one", () => {
  const batches = splitRanges([{ address: 100, bytes: 20_000 }], 10, 8192, 4096);
  assert.deepEqual(
    batches.map(({ pieces }) => pieces.map(({ address, bytes }) => [address, bytes])),
    [[[100, 8092]], [[8192, 8192]], [[16_384, 3716]]],
  );
});

test("no ranges, no batches; an empty range is kept, as its answer is", () => {
  assert.deepEqual(splitRanges([], 3, 100), []);
  const [batch] = splitRanges([{ address: 5, bytes: 0 }], 3, 100);
  assert.deepEqual(batch?.pieces, [{ address: 5, bytes: 0 }]);
});
