import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clipToPlain,
  coverage,
  isPlainMemory,
  libraryStart,
  parseMaps,
  readableEnd,
} from "./maps.ts";
import { mergeRanges } from "../ranges.ts";

const text = `
00001000-00003000 rw-p 00000000 00:00 0
00003000-00004000 r--p 00000000 00:00 0
00005000-00006000 rw-p 00000000 00:00 0                                  [heap]
00010000-00020000 rw-p 00000000 00:00 0                                  [anon:Java heap]
00020000-00030000 rw-s 00000000 00:01 77                                 /dev/zero (deleted)
00030000-00040000 rw-p 00000000 00:0f 78                                 /anon_hugepage (deleted)
00040000-00050000 ---p 00000000 00:00 0
7f0000001000-7f0000002000 r--p 00001000 fe:01 9                          /opt/jdk/lib/server/libjvm.so
7f0000100000-7f0000200000 r--p 00000000 fe:01 9                          /opt/jdk/lib/server/libjvm.so (deleted)
7f0000200000-7f0000300000 r-xp 00100000 fe:01 9                          /opt/jdk/lib/server/libjvm.so (deleted)
`;
const mappings = parseMaps(text);

test("every line becomes a mapping; what is none, or goes back, is left out", () => {
  assert.equal(mappings.length, 10);
  const odd = "zz\n2000-1000 rw-p 0 00:00 0\n5000-6000 rw-p 0 00:00 0\n4000-5000 rw-p 0 00:00 0\n";
  assert.deepEqual(
    parseMaps(odd).map(({ start }) => start),
    [0x5000],
  );
});

test("only private memory without a file may be thrown away", () => {
  const plain = mappings.filter(isPlainMemory).map(({ start }) => start);
  assert.deepEqual(plain, [0x1000, 0x10000]);
});

test("the library is where its file begins, deleted or not", () => {
  assert.equal(libraryStart(mappings, "libjvm.so"), 0x7f0000100000);
  assert.equal(libraryStart(mappings, "jvm.so"), undefined);
});

test("readable memory ends at a hole, at unreadable memory, or at the bound", () => {
  assert.equal(readableEnd(mappings, 0x1800, 1 << 20), 0x4000);
  assert.equal(readableEnd(mappings, 0x1800, 0x100), 0x1900);
  assert.equal(readableEnd(mappings, 0x10000, 1 << 30), 0x40000);
  assert.equal(readableEnd(mappings, 0x4000, 64), 0x4000);
  assert.equal(readableEnd(mappings, 0x48000, 64), 0x48000);
});

test("ranges are cut to plain memory, byte by byte", () => {
  const ranges = [
    { address: 0x0fff, bytes: 2 },
    { address: 0x2ff8, bytes: 0x1000 },
    { address: 0x18001, bytes: 0x30000 },
  ];
  assert.deepEqual(clipToPlain(ranges, mappings), [
    { address: 0x1000, bytes: 1 },
    { address: 0x2ff8, bytes: 8 },
    { address: 0x18001, bytes: 0x7fff },
  ]);
});

test("a range is covered when all of it is plain memory", () => {
  const covers = coverage(mappings);
  assert.equal(covers({ address: 0x1000, bytes: 0x2000 }), true);
  assert.equal(covers({ address: 0x1000, bytes: 0x2001 }), false);
  assert.equal(covers({ address: 0x8000, bytes: 1 }), false);
});

test("ranges are put in order, and neighbours become one", () => {
  const ranges = [
    { address: 30, bytes: 10 },
    { address: 10, bytes: 10 },
    { address: 20, bytes: 5 },
    { address: 50, bytes: 0 },
  ];
  assert.deepEqual(mergeRanges(ranges), [
    { address: 10, bytes: 15 },
    { address: 30, bytes: 10 },
  ]);
});
