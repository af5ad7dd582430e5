import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates, gnuHash, parseDynamic, parseElfHeader } from "./elf.ts";
import { View } from "./memory.ts";

test("names hash as the ELF supplement's examples do", () => {
  assert.equal(gnuHash(""), 0x1505);
  assert.equal(gnuHash("printf"), 0x156b2bb8);
  assert.equal(gnuHash("exit"), 0x7c967e3f);
  assert.equal(gnuHash("syscall"), 0xbac212a0);
});

/** A header page with one segment to load and one dynamic section, at the given address of the file. */
function header(change: (bytes: Buffer) => void = () => {}): View {
  const bytes = Buffer.alloc(4096);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(3, 16);
  bytes.writeUInt16LE(62, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(2, 56);
  bytes.writeUInt32LE(1, 64);
  bytes.writeUInt32LE(2, 120);
  bytes.writeBigUInt64LE(0x3000n, 120 + 8);
  bytes.writeBigUInt64LE(0x5000n, 120 + 16);
  bytes.writeBigUInt64LE(0x200n, 120 + 40);
  change(bytes);
  return new View(bytes, 0x7f0000000000);
}

test("the dynamic section is found from the header page", () => {
  const { bias, dynamic } = parseElfHeader(header());
  assert.equal(bias, 0x7f0000000000);
  assert.deepEqual(dynamic, { address: 0x7f0000005000, bytes: 0x200 });
});

test("what is no library for x86-64, or has strange headers, is refused", () => {
  const changes: ((bytes: Buffer) => void)[] = [
    (bytes) => bytes.writeUInt8(0, 0),
    (bytes) => bytes.writeUInt8(1, 4),
    (bytes) => bytes.writeUInt16LE(40, 18),
    (bytes) => bytes.writeUInt16LE(60_000, 56),
    (bytes) => bytes.writeBigUInt64LE(1n << 60n, 32),
    (bytes) => bytes.writeUInt32LE(3, 120),
    (bytes) => bytes.writeBigUInt64LE(1n << 40n, 120 + 40),
  ];
  for (const change of changes)
    assert.throws(() => parseElfHeader(header(change)), { code: "ASSIST_UNSUPPORTED" });
});

function section(...entries: [number, number][]): View {
  const bytes = Buffer.alloc((entries.length + 1) * 16);
  for (const [index, [tag, value]] of entries.entries()) {
    bytes.writeBigUInt64LE(BigInt(tag), index * 16);
    bytes.writeBigUInt64LE(BigInt(value), index * 16 + 8);
  }
  return new View(bytes, 0x7f0000005000);
}

test("tables are found whether the linker has put memory's addresses into the section (glibc) or not (musl)", () => {
  const start = 0x7f0000000000;
  const there = {
    stringTable: start + 0x100,
    symbolTable: start + 0x200,
    hashTable: start + 0x300,
  };
  const glibc = section([5, start + 0x100], [6, start + 0x200], [0x6ffffef5, start + 0x300]);
  assert.deepEqual(parseDynamic(glibc, start, start), there);
  const musl = section([5, 0x100], [6, 0x200], [0x6ffffef5, 0x300]);
  assert.deepEqual(parseDynamic(musl, start, start), there);
  const old = section([5, 0x100], [6, 0x200], [4, 0x300]);
  assert.throws(() => parseDynamic(old, start, start), { code: "ASSIST_UNSUPPORTED" });
});

test("a symbol is found in its bucket's chain, and chains have an end", () => {
  const bytes = Buffer.alloc(16 + 8 + 4 + 12);
  // One bucket, first symbol 5, one bloom word; the chain has three symbols.
  for (const [index, word] of [1, 5, 1, 0].entries()) bytes.writeUInt32LE(word, index * 4);
  bytes.writeUInt32LE(5, 24);
  const chain = [gnuHash("other") & ~1, gnuHash("wanted") & ~1, gnuHash("last") | 1];
  for (const [index, word] of chain.entries()) bytes.writeUInt32LE(word >>> 0, 28 + index * 4);
  const table = new View(bytes, 0x7f0000000300);
  assert.deepEqual(candidates(table, "wanted"), [6]);
  assert.deepEqual(candidates(table, "last"), [7]);
  assert.deepEqual(candidates(table, "missing"), []);
  bytes.writeUInt32LE(0, 28 + 8);
  assert.throws(() => candidates(table, "missing"), { code: "ASSIST_UNSUPPORTED" });
  bytes.writeUInt32LE(0, 0);
  assert.throws(() => candidates(table, "wanted"), { code: "ASSIST_UNSUPPORTED" });
});
