import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { checkRecords, pageOfWord, writePageWord, writeZeroRecord } from "./index.ts";

const seed = Number(process.env["SEED"] ?? 20261123);

function viewOf(hex: string): DataView {
  const bytes = new Uint8Array(Buffer.from(hex, "hex"));
  return new DataView(bytes.buffer);
}

const page = (word: string): string => word + "5a".repeat(4096);

describe("the words of records", () => {
  test("are address, kind and CONTINUE in 64 bits, big endian (literal bytes)", () => {
    const view = new DataView(new ArrayBuffer(17));
    writePageWord(view, 0, 0x123);
    writeZeroRecord(view, 8, 0xabcdef01);
    assert.equal(Buffer.from(view.buffer).toString("hex"), "000000000012302800000abcdef0102200");
  });

  test(`give any page number below 2^52 back (seed ${seed})`, () => {
    const view = new DataView(new ArrayBuffer(9));
    fc.assert(
      fc.property(fc.maxSafeInteger(), (number) => {
        const index = Math.abs(number) % 2 ** 52;
        writePageWord(view, 0, index);
        assert.equal(pageOfWord(view, 0), index);
        assert.equal(view.getBigUint64(0), (BigInt(index) << 12n) | 0x28n);
        writeZeroRecord(view, 0, index);
        assert.equal(pageOfWord(view, 0), index);
        assert.equal(view.getBigUint64(0), (BigInt(index) << 12n) | 0x22n);
      }),
      { seed },
    );
  });
});

describe("checkRecords", () => {
  test("counts the records of a sound run, which may stand anywhere in its buffer", () => {
    const run = `${page("0000000000000028")}000000000000102200${page("0000000000003028")}`;
    const view = viewOf(`ffff${run}ffff`);
    assert.deepEqual(checkRecords(view, 2, 2 + run.length / 2, 4), { pageCount: 2, zeroCount: 1 });
    assert.deepEqual(checkRecords(view, 2, 2, 4), { pageCount: 0, zeroCount: 0 });
  });

  const wrong: Readonly<Record<string, readonly [hex: string, says: string]>> = {
    "a page behind the block": ["000000000000402200", "page 4 of a block that has 4"],
    "an address with its first word set": ["000000010000002200", "page 1048576 of a block"],
    "an address of all ones": ["fffffffffffff02200", "page 4503599627370495 of a block"],
    "a record with a block name": ["000000000000000200", "a record with flags 0x2"],
    "the end of a section": ["000000000000001000", "a record with flags 0x10"],
    "page and zero at once": ["000000000000002a00", "a record with flags 0x2a"],
    "a compressed page": ["000000000000012000", "a record with flags 0x120"],
    "a zero page with a fill byte": ["000000000000002201", "a zero page with a fill byte"],
    "half a word": ["00000000", "4 bytes after the last record"],
    "a word alone": ["0000000000000022", "8 bytes after the last record"],
    "half a page": [`0000000000000028${"00".repeat(4095)}`, "ends behind its batch"],
    "a byte behind a page": [`${page("0000000000000028")}00`, "1 bytes after the last record"],
  };
  for (const [what, [hex, says]] of Object.entries(wrong)) {
    test(`names what is wrong: ${what}`, () => {
      const result = checkRecords(viewOf(hex), 0, hex.length / 2, 4);
      assert.equal(typeof result, "string");
      assert.ok((result as string).includes(says), result as string);
    });
  }
});
