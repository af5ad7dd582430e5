import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { Prng } from "../../base/index.ts";
import { parsePhysicalMap } from "./index.ts";

type Piece = readonly [block: string, firstPage: number, pageCount: number];

const folder = new URL("../../../test/golden/mtree/", import.meta.url);
const gibPages = 2 ** 18;
const mibPages = 2 ** 8;

function captured(name: string): string {
  return readFileSync(new URL(`${name}.txt`, folder), "utf8");
}

function pieces(text: string, firstFrame: number, frameCount: number): Piece[] {
  const found: Piece[] = [];
  parsePhysicalMap(text).forEachPiece(firstFrame, frameCount, (...piece) => void found.push(piece));
  return found;
}

/** Name, block of main memory, its GiB, and the frame from which on it lies above 4 GiB, if it does. */
const machines: readonly (readonly [string, string, number, number])[] = [
  ["10.0.13/q35-1g", "pc.ram", 1, 0],
  ["10.0.13/q35-5g", "pc.ram", 5, 2 * gibPages],
  ["10.0.13/pc-5g", "pc.ram", 5, 3 * gibPages],
  ["10.0.13/microvm-5g", "microvm.ram", 5, 3 * gibPages],
  ["10.0.13/q35-backend-5g", "ram0", 5, 2 * gibPages],
  ["10.0.13/q35-backend-by-path", "/objects/ram0", 1, 0],
  ["7.2.22/q35-5g", "pc.ram", 5, 2 * gibPages],
  ["7.2.22/pc-1g", "pc.ram", 1, 0],
  ["7.2.22/microvm-1g", "microvm.ram", 1, 0],
  ["7.2.22/q35-backend-by-path", "/objects/ram0", 5, 2 * gibPages],
];

for (const [name, block, gib, lowPages] of machines) {
  test(`main memory is found below and above the hole under 4 GiB [${name}]`, () => {
    const text = captured(name);
    const endFrame = lowPages > 0 ? lowPages : gib * gibPages;
    // From the first MiB, in which lie ROMs, up to the hole.
    const low = pieces(text, mibPages, 2 * gibPages);
    assert.deepEqual(low[0], [
      block,
      mibPages,
      Math.min(endFrame, mibPages + 2 * gibPages) - mibPages,
    ]);
    const high = pieces(text, 4 * gibPages, 100 * gibPages);
    assert.deepEqual(high, lowPages > 0 ? [[block, lowPages, gib * gibPages - lowPages]] : []);
    // A run across the hole.
    if (lowPages > 0) {
      const across = pieces(text, lowPages - 3, 4 * gibPages - lowPages + 3 + 2).filter(
        ([of]) => of === block,
      );
      assert.deepEqual(across, [
        [block, lowPages - 3, 3],
        [block, lowPages, 2],
      ]);
    }
  });

  test(`blocks are called as in the migration stream [${name}]`, () => {
    const text = captured(name);
    const lines = text.slice(text.indexOf("Block Name")).split("\n").slice(1);
    const blocks = new Map(
      lines.flatMap((line) => {
        const [found, used] = line.match(/\S+/g)?.filter((_, i) => i === 0 || i === 4) ?? [];
        return found === undefined ? [] : [[found, Number(used) / 4096] as const];
      }),
    );
    for (const [of, firstPage, pageCount] of pieces(text, 0, 2 ** 40)) {
      if (of === "vga.vram") continue;
      assert.ok(firstPage + pageCount <= (blocks.get(of) ?? 0), `${of} ${firstPage} ${pageCount}`);
    }
  });
}

test("read-only parts of the first MiB and devices are passed over", () => {
  const text = captured("10.0.13/pc-5g");
  assert.deepEqual(pieces(text, 0xa0, 0x60), [
    ["pc.ram", 0xa0, 0x23],
    ["pc.ram", 0xe8, 0x08],
  ]);
  assert.deepEqual(pieces(text, 0xc3, 0x10), []);
  assert.deepEqual(pieces(text, 0xfec00, 0x100), []);
  assert.deepEqual(pieces(text, 2 ** 40, 5), []);
  assert.deepEqual(pieces(text, 5, 0), []);
});

test("every NUMA node and DIMM is its own block", () => {
  assert.deepEqual(pieces(captured("10.0.13/q35-nodes-and-dimm"), mibPages, 2 ** 30), [
    ["n0", mibPages, gibPages / 2 - mibPages],
    ["n1", 0, gibPages / 2],
    ["mem1", 0, gibPages / 4],
  ]);
});

test("a device's memory is not called as its block, so that nobody takes it for one", () => {
  const text = captured("10.0.13/q35-1g");
  assert.deepEqual(pieces(text, 0xfd000, 1), [["vga.vram", 0, 1]]);
  assert.match(text, / 0000:00:01\.0\/vga\.vram /);
});

function view(...lines: string[]): string {
  const header = ["FlatView #0", ' AS "memory", root: system', " Root memory region: system"];
  return `${[...header, ...lines].map((line) => `${line}\r\n`).join("")}\r\n`;
}

test("the accelerator's mark, non-volatile memory and odd names are understood", () => {
  const text = view(
    "  0000000000000000-0000000000000fff (prio 0, ram): pc.ram KVM",
    "  0000000000001000-0000000000001fff (prio -5, ram): pc.ram @0000000000005000 KVM",
    "  0000000000002000-0000000000002fff (prio 0, nv-ram): my @ nvdimm",
    "  0000000000003000-0000000000003fff (prio 0, ramd): 0000:01:00.0 BAR 0 mmaps[0] KVM",
  );
  assert.deepEqual(pieces(text, 0, 100), [
    ["pc.ram", 0, 1],
    ["pc.ram", 5, 1],
    ["my @ nvdimm", 0, 1],
  ]);
});

test("only whole pages are pieces", () => {
  const text = view(
    "  0000000000000800-0000000000002bff (prio 0, ram): a @0000000000010800",
    "  0000000000003000-00000000000030ff (prio 0, ram): b",
    "  0000000000004100-0000000000005fff (prio 0, ram): c",
  );
  assert.deepEqual(pieces(text, 0, 100), [["a", 0x11, 1]]);
});

test("texts that are something else are refused", () => {
  const ram = "  0000000000001000-0000000000001fff (prio 0, ram): pc.ram";
  const bad: Record<string, string> = {
    empty: "",
    "an error of the monitor": "unknown command: 'info mtree'\r\n",
    "another address space": view(ram).replace('"memory"', '"I/O"'),
    "no memory": view("  No rendered FlatView"),
    "only devices": view(ram.replace("ram)", "i/o)")),
    overlap: view(ram, ram),
    "wrong order": view(ram, ram.replaceAll("00001", "00000")),
    backwards: view("  0000000000002000-0000000000000fff (prio 0, ram): pc.ram"),
    "an impossible address": view("  fff0000000000000-ffffffffffffffff (prio 0, ram): pc.ram"),
    "an impossible offset": view(`${ram} @ffffffffffff0000`),
    "another format": view(ram.replace("prio 0", "0")),
    "half a line": view(ram.slice(0, 40)),
  };
  for (const [what, text] of Object.entries(bad)) {
    assert.throws(() => parsePhysicalMap(text), { code: "QMP_INVALID" }, what);
  }
});

test("damaged texts are refused or give a map, whatever the damage", () => {
  const sound = captured("10.0.13/q35-5g");
  fc.assert(
    fc.property(fc.nat(sound.length), fc.nat(30), fc.string({ maxLength: 20 }), (at, cut, put) => {
      const text = sound.slice(0, at) + put + sound.slice(at + cut);
      try {
        parsePhysicalMap(text).forEachPiece(0, 2 ** 40, (_block, firstPage, pageCount) => {
          assert.ok(Number.isSafeInteger(firstPage) && firstPage >= 0 && pageCount > 0);
        });
      } catch (error) {
        assert.equal((error as { code?: string }).code, "QMP_INVALID");
      }
    }),
    { numRuns: 300 },
  );
});

test("any run is found whatever was asked before: a frame at a time gives the same [all captures]", () => {
  const prng = new Prng(7);
  for (const [name] of machines) {
    const map = parsePhysicalMap(captured(name));
    for (let i = 0; i < 200; i++) {
      const first = prng.pick([0, 0xa0, 2 * gibPages - 40, 3 * gibPages - 40, 4 * gibPages - 40]);
      const start = first + prng.integer(0, 200);
      const count = prng.integer(0, 200);
      const whole: string[] = [];
      map.forEachPiece(start, count, (block, page, pageCount) => {
        for (let k = 0; k < pageCount; k++) whole.push(`${block} ${page + k}`);
      });
      const single: string[] = [];
      for (let frame = start; frame < start + count; frame++) {
        map.forEachPiece(frame, 1, (block, page) => void single.push(`${block} ${page}`));
      }
      assert.deepEqual(whole, single);
    }
  }
});
