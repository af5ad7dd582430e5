import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/index.ts";
import type { RamBlock } from "../qemu/stream/index.ts";
import { SkipMap } from "./skip-map.ts";

const block: RamBlock = { index: 0, name: "pc.ram", lengthBytes: 100 * 4096, pageCount: 100 };
const other: RamBlock = { index: 2, name: "vga.vram", lengthBytes: 40 * 4096, pageCount: 40 };

function owed(skip: SkipMap, pagesMax = 7, all = false): [string, number][] {
  return Array.from(skip.takeOwed(pagesMax, all)).flatMap(({ block: { name }, pages }) =>
    pages.map((page): [string, number] => [name, page]),
  );
}

test("a page that is hinted is left out, is stale, and is owed once nobody calls it disposable", () => {
  const skip = new SkipMap();
  skip.hint(block, 10, 5, false);
  assert.equal(skip.keep(0, 9, false), true);
  assert.equal(skip.keep(0, 10, false), false);
  assert.equal(skip.keep(0, 14, false), false);
  assert.deepEqual([skip.staleCount, skip.droppedCount, skip.owedCount], [2, 2, 0]);
  assert.deepEqual(owed(skip), []);
  skip.clearHints();
  assert.equal(skip.owedCount, 2);
  assert.deepEqual(owed(skip), [
    ["pc.ram", 10],
    ["pc.ram", 14],
  ]);
  assert.deepEqual([skip.staleCount, skip.owedCount], [0, 0]);
});

test("at the end all that is stale is owed, even if somebody calls it disposable meanwhile", () => {
  const skip = new SkipMap();
  skip.hint(block, 10, 2, false);
  skip.keep(0, 10, false);
  assert.deepEqual(owed(skip), []);
  assert.deepEqual(owed(skip, 7, true), [["pc.ram", 10]]);
});

test("zero pages always go, and end staleness", () => {
  const skip = new SkipMap();
  skip.hint(block, 0, 3, false);
  skip.keep(0, 1, false);
  assert.equal(skip.keep(0, 1, true), true);
  assert.equal(skip.staleCount, 0);
});

test("what is zero at the destination is not sent as zero again", () => {
  const skip = new SkipMap();
  skip.hints(block);
  assert.equal(skip.keep(0, 5, true), true);
  assert.equal(skip.keep(0, 5, true), false);
  assert.equal(skip.keep(0, 5, false), true);
  assert.equal(skip.keep(0, 5, true), true);
  assert.equal(skip.keep(7, 5, true), true, "a block without hints is not watched");
});

test("disposable pages of which nothing was sent are announced as zero once, and stay owed until they are", () => {
  const skip = new SkipMap();
  skip.hints(block);
  skip.keep(0, 3, false);
  skip.keep(0, 4, true);
  skip.hint(block, 2, 4, false);
  assert.deepEqual(
    Array.from(skip.takeBlank(10), ({ pages }) => pages),
    [[2, 5]],
  );
  assert.deepEqual(Array.from(skip.takeBlank(10)), []);
  assert.equal(skip.staleCount, 2);
  assert.equal(skip.keep(0, 2, true), false, "it is zero there already");
  skip.clearHints();
  assert.deepEqual(owed(skip), [["pc.ram", 5]]);
});

test("areas are counted apart; hints past the end of a block are ignored", () => {
  const skip = new SkipMap();
  skip.hint(block, 0, 2, false);
  skip.hint(other, 38, 10, true);
  for (const [index, page] of [
    [0, 0],
    [0, 1],
    [2, 38],
    [2, 39],
  ] as const) {
    assert.equal(skip.keep(index, page, false), false);
  }
  assert.deepEqual([skip.droppedCount, skip.droppedAreaCount, skip.hintedCount], [4, 2, 4]);
  skip.clearHints();
  assert.deepEqual(owed(skip, 1).length, 4);
});

test("against a model: after any history the owed pages are those whose newest content was left out", () => {
  const seed = 20260921;
  const prng = new Prng(seed);
  const skip = new SkipMap();
  const hinted = new Set<number>();
  const stale = new Set<number>();
  /** What the destination has: undefined at first. */
  const there = new Map<number, "zero" | "data">();
  for (let step = 0; step < 20_000; step++) {
    const page = prng.integer(0, block.pageCount - 1);
    const what = prng.integer(0, 99);
    if (what < 8) {
      const count = prng.integer(0, 19);
      skip.hint(block, page, count, prng.chance(0.5));
      for (let i = page; i < Math.min(page + count, block.pageCount); i++) hinted.add(i);
    } else if (what < 9) {
      skip.clearHints();
      hinted.clear();
    } else if (what < 10) {
      for (const { pages } of skip.takeBlank(9)) {
        for (const one of pages) {
          assert.ok(hinted.has(one) && !there.has(one), `seed ${seed} step ${step}`);
          there.set(one, "zero");
          stale.add(one);
        }
      }
    } else if (what < 11) {
      const given = owed(skip).map(([, one]) => one);
      const expected = [...stale].filter((one) => !hinted.has(one)).toSorted((a, b) => a - b);
      assert.deepEqual(given, expected, `seed ${seed} step ${step}`);
      for (const one of expected) {
        stale.delete(one);
        there.set(one, "data");
      }
    } else {
      const zero = prng.chance(0.2);
      const kept = skip.keep(0, page, zero);
      const dropped = !zero && hinted.has(page);
      const known = zero && there.get(page) === "zero";
      assert.equal(kept, !dropped && !known, `seed ${seed} step ${step}`);
      if (dropped) stale.add(page);
      else stale.delete(page);
      if (kept) there.set(page, zero ? "zero" : "data");
    }
    assert.equal(skip.staleCount, stale.size, `seed ${seed} step ${step}`);
  }
});
