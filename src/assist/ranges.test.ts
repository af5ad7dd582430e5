import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  intersectRanges,
  lastOf,
  type MemoryRange,
  mergeRanges,
  subtractRanges,
  totalBytes,
} from "./ranges.ts";

/** Sets of small addresses, as ranges: the oracle is a Set. */
const addresses = fc.uniqueArray(fc.nat(60), { maxLength: 40 });

function ranges(given: readonly number[]): MemoryRange[] {
  return mergeRanges(given.map((address) => ({ address, bytes: 1 })));
}

function numbers(from: readonly MemoryRange[]): number[] {
  return from.flatMap(({ address, bytes }) => Array.from({ length: bytes }, (_, i) => address + i));
}

function ascending(values: Iterable<number>): number[] {
  return [...values].toSorted((a, b) => a - b);
}

test("intersection, difference and the last bytes are those of sets", () => {
  fc.assert(
    fc.property(addresses, addresses, fc.nat(50), (a, b, count) => {
      const [one, other] = [ranges(a), ranges(b)];
      const setB = new Set(b);
      assert.deepEqual(
        numbers(intersectRanges(one, other)),
        ascending(a.filter((x) => setB.has(x))),
      );
      assert.deepEqual(
        numbers(subtractRanges(one, other)),
        ascending(a.filter((x) => !setB.has(x))),
      );
      const last = count === 0 ? [] : ascending(a).slice(-count);
      assert.deepEqual(numbers(lastOf(one, count)), last);
      assert.equal(totalBytes(one), a.length);
    }),
  );
});

test("what is merged is ascending, disjoint and never empty", () => {
  const range = fc.record({ address: fc.nat(100), bytes: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(range), (given) => {
      const merged = mergeRanges(given);
      assert.deepEqual(numbers(merged), ascending(new Set(numbers(given))));
      assert.ok(merged.every(({ bytes }) => bytes > 0));
    }),
  );
});
