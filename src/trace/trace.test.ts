/** The file format: what is written is read back, epochs merge as a plain map would, and no file does harm. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { GodwitError, Prng } from "../base/index.ts";
import type { PageBatch } from "../codec/index.ts";
import { keepsContent, keepsPage } from "./sample.ts";
import {
  readTrace,
  readTraceFrames,
  readTraceHeader,
  reduceTrace,
  TraceFile,
  type TraceHeader,
} from "./index.ts";

const header: TraceHeader = {
  vmName: "one",
  workload: "test",
  qemuVersion: "10.0.13",
  accelerator: "tcg",
  blocks: [
    { name: "pc.ram", lengthBytes: 400 * 4096 },
    { name: "vga", lengthBytes: 9 * 4096 },
  ],
  memoryBytes: 409 * 4096,
  intervalMs: 25,
  base: "full",
  note: "",
};

/** page → first byte of its content; 0 is a zero page. */
type Pages = ReadonlyMap<number, number>;
/** By block. */
type Epoch = readonly Pages[];

/** Records written by hand, as docs/formats/frame.md has them. */
function record(page: number, fill: number): Buffer {
  const out = Buffer.alloc(fill === 0 ? 9 : 4104);
  out.writeBigUInt64BE(BigInt(page) * 4096n + (fill === 0 ? 0x22n : 0x28n), 0);
  if (fill !== 0) for (let i = 8; i < 4104; i++) out[i] = (fill + i * 7) & 0xff;
  return out;
}

function batchesOf(epoch: Epoch, pagesPerBatch: number): PageBatch[] {
  const batches: PageBatch[] = [];
  for (const [block, pages] of epoch.entries()) {
    const sorted = [...pages].toSorted(([a], [b]) => a - b);
    for (let i = 0; i < sorted.length; i += pagesPerBatch) {
      const part = sorted.slice(i, i + pagesPerBatch);
      const pieces = part.map(([page, fill]) => record(page, fill));
      const zeroCount = part.filter(([, fill]) => fill === 0).length;
      const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
      batches.push({ block, pieces, bytes, pageCount: part.length - zeroCount, zeroCount });
    }
  }
  return batches;
}

async function writeTrace(path: string, epochs: readonly Epoch[], per = 40): Promise<void> {
  const file = await TraceFile.create(path, header, { windowLog: 20 });
  for (const [i, epoch] of epochs.entries()) {
    for (const batch of batchesOf(epoch, per)) {
      file.batch(i * 25, batch);
      await file.drained();
    }
    file.endEpoch(i * 25 + 20);
  }
  await file.close();
}

/** Epochs as they are read: "block:page" → the record in hexadecimal. */
async function readEpochs(path: string, intervalMs?: number): Promise<Map<number, string[]>> {
  const found = new Map<number, string[]>();
  for await (const { epoch, batch } of readTrace(
    path,
    intervalMs === undefined ? {} : { intervalMs },
  )) {
    const bytes = Buffer.concat(batch.pieces);
    assert.equal(bytes.length, batch.bytes);
    const lines = found.get(epoch) ?? [];
    found.set(epoch, lines);
    for (let at = 0; at < bytes.length; ) {
      const word = bytes.readBigUInt64BE(at);
      const length = (word & 0xfffn) === 0x22n ? 9 : 4104;
      lines.push(
        `${batch.block}:${word >> 12n}:${bytes.subarray(at, at + length).toString("hex")}`,
      );
      at += length;
    }
  }
  return found;
}

function linesOf(epoch: Epoch): string[] {
  return epoch.flatMap((pages, block) =>
    [...pages]
      .toSorted(([a], [b]) => a - b)
      .map(([page, fill]) => `${block}:${page}:${record(page, fill).toString("hex")}`),
  );
}

async function inFolder(run: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "godwit-trace-"));
  try {
    await run(join(folder, "t.gtrace"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function namesBeside(path: string): Promise<string[]> {
  return (await readdir(dirname(path))).toSorted();
}

const pagesBelow = (count: number): fc.Arbitrary<Pages> =>
  fc
    .array(fc.tuple(fc.nat(count - 1), fc.nat(3)), { maxLength: 30 })
    .map((entries) => new Map(entries));
const epochArbitrary: fc.Arbitrary<Epoch> = fc.tuple(pagesBelow(400), pagesBelow(9));

test("a trace is read back as it was written", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(epochArbitrary, { maxLength: 6 }),
      fc.integer({ min: 1, max: 60 }),
      (epochs, per) =>
        inFolder(async (path) => {
          await writeTrace(path, epochs, per);
          assert.deepEqual(await readTraceHeader(path), header);
          const found = await readEpochs(path);
          for (const [i, epoch] of epochs.entries()) {
            assert.deepEqual(found.get(i) ?? [], linesOf(epoch));
          }
          assert.ok([...found.keys()].every((epoch) => epoch < epochs.length));
          const types: string[] = [];
          for await (const { type } of readTraceFrames(path)) types.push(type);
          assert.equal(types.filter((type) => type === "epoch").length, epochs.length);
          assert.equal(types.at(-1), "end");
        }),
    ),
    { numRuns: 25 },
  );
});

test("merged epochs hold the last version of each page, in ascending order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(epochArbitrary, { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 1, max: 4 }),
      (epochs, times) =>
        inFolder(async (path) => {
          await writeTrace(path, epochs);
          const found = await readEpochs(path, 25 * times);
          const [base, ...later] = epochs as [Epoch, ...Epoch[]];
          assert.deepEqual(found.get(0) ?? [], linesOf(base));
          for (let i = 0; i * times < later.length; i++) {
            const parts = later.slice(i * times, (i + 1) * times);
            const merged = [0, 1].map(
              (block) => new Map(parts.flatMap((epoch) => [...(epoch[block] as Pages)])),
            );
            assert.deepEqual(found.get(i + 1) ?? [], linesOf(merged));
          }
          assert.ok([...found.keys()].every((epoch) => epoch <= Math.ceil(later.length / times)));
        }),
    ),
    { numRuns: 25 },
  );
});

test("an interval that is no multiple of the recorded one is refused", () =>
  inFolder(async (path) => {
    await writeTrace(path, [[new Map(), new Map()]]);
    for (const intervalMs of [10, 40, 0, -25, Number.NaN]) {
      await assert.rejects(readEpochs(path, intervalMs), hasCode("CONFIG_INVALID"));
    }
  }));

test("a file has its name only when it is whole, never replaces one, and is its owner's alone", () =>
  inFolder(async (path) => {
    const file = await TraceFile.create(path, header, { windowLog: 20 });
    await assert.rejects(stat(path));
    await assert.rejects(TraceFile.create(path, header), hasCode("CONFLICT"));
    await writeFile(path, "mine");
    await assert.rejects(file.close(), hasCode("CONFLICT"));
    assert.equal(await readFile(path, "utf8"), "mine");
    await rm(path);
    await writeTrace(path, []);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await namesBeside(path), ["t.gtrace"]);
  }));

test("a file that is cut off anywhere is refused with the place [lengths from 0 to all]", () =>
  inFolder(async (path) => {
    await writeTrace(path, someEpochs());
    const whole = await readFile(path);
    for (let length = 0; length < whole.length; length += length < 400 ? 3 : 211) {
      await writeFile(path, whole.subarray(0, length));
      await assert.rejects(readEpochs(path), (error) => {
        assert.ok(error instanceof GodwitError && error.code === "TRACE_INVALID", String(error));
        assert.match(error.message, /\(byte \d+\)$/);
        return true;
      });
    }
  }));

test("a damaged file is refused, or reads as if it were not [bits that zstd does not use]", async () => {
  const prng = new Prng(20261123);
  await inFolder(async (path) => {
    await writeTrace(path, someEpochs());
    const whole = await readFile(path);
    const sound = await readEpochs(path);
    let refused = 0;
    for (let i = 0; i < 150; i++) {
      const bytes = Buffer.from(whole);
      const at = prng.integer(0, bytes.length - 1);
      bytes[at] = (bytes[at] as number) ^ prng.integer(1, 255);
      await writeFile(path, bytes);
      try {
        assert.deepEqual(await readEpochs(path), sound, `seed ${prng.seed}, byte ${at}`);
      } catch (error) {
        hasCode("TRACE_INVALID")(error);
        refused++;
      }
    }
    assert.ok(refused > 140, `${refused} of 150 were refused`);
    for (const more of [Buffer.of(0), zstdCompressSync("x"), whole]) {
      await writeFile(path, Buffer.concat([whole, more]));
      await assert.rejects(readEpochs(path), {
        code: "TRACE_INVALID",
        message: /after|behind|cut off/,
      });
    }
  });
});

/** Frames by hand: [type, block, epoch, at, pages, zeros, body, dirty] and a body; the checksum is right unless broken. */
test("frames that lie are refused by name [by hand]", () =>
  inFolder(async (path) => {
    await writeTrace(path, []);
    const head = (await readFile(path)).subarray(0, 20 + JSON.stringify(header).length);
    const one = record(5, 1);
    const two = Buffer.concat([record(5, 1), record(6, 0)]);
    const end = frame([3, 0, 0, 0, 0, 0, 0, 0]);
    const cases: readonly [RegExp, readonly Buffer[]][] = [
      [/type 0 does not exist/, [frame([0, 0, 0, 0, 0, 0, 0, 0])]],
      [/type 4 does not exist/, [frame([4, 0, 0, 0, 0, 0, 0, 0])]],
      [/body of 4294967295 bytes/, [frame([1, 0, 0, 0, 1, 0, 0xffffffff, 0])]],
      [/body of 0 bytes/, [frame([1, 0, 0, 0, 0, 0, 0, 0])]],
      [/type 2 with a body of 9 bytes/, [frame([2, 0, 0, 0, 0, 0, 9, 0], record(1, 0))]],
      [/block 2 does not exist/, [frame([1, 2, 0, 0, 1, 0, 4104, 0], one)]],
      [/not the pages that it claims/, [frame([1, 0, 0, 0, 2, 0, 4104, 0], one)]],
      [/not the pages that it claims/, [frame([1, 0, 0, 0, 2, 0, 4113, 0], two)]],
      [/page 400 of a block that has 400/, [frame([1, 0, 0, 0, 0, 1, 9, 0], record(400, 0))]],
      [/page 9 of a block that has 9/, [frame([1, 1, 0, 0, 0, 1, 9, 0], record(9, 0))]],
      [
        /bytes after the last record/,
        [frame([1, 0, 0, 0, 1, 0, 4107, 0], Buffer.concat([one, Buffer.alloc(3)]))],
      ],
      [
        /out of order/,
        [frame([1, 0, 0, 0, 0, 2, 18, 0], Buffer.concat([record(2, 0), record(2, 0)]))],
      ],
      [/out of order/, [0, 1, 2].map(() => frame([1, 0, 0, 0, 0, 1, 9, 0], record(2, 0)))],
      [/epoch 1 where 0 belongs/, [frame([2, 0, 1, 0, 0, 0, 0, 0])]],
      [/epoch 0 has not the pages/, [frame([2, 0, 0, 0, 1, 0, 0, 0])]],
      [/time goes backwards/, [frame([2, 0, 0, 9, 0, 0, 0, 0]), frame([2, 0, 1, 8, 0, 0, 0, 0])]],
      [/bytes after the end/, [end, Buffer.of(0)]],
      [/cut off/, [frame([2, 0, 0, 0, 0, 0, 0, 0])]],
      [/checksum/, [Buffer.concat([end.subarray(0, 31), Buffer.of(0)])]],
    ];
    for (const [message, frames] of cases) {
      await writeFile(path, Buffer.concat([head, zstdCompressSync(Buffer.concat(frames))]));
      await assert.rejects(readEpochs(path), { code: "TRACE_INVALID", message });
    }
    await writeFile(path, Buffer.concat([head, zstdCompressSync(end)]));
    assert.equal((await readEpochs(path)).size, 0);
  }));

test("a second sweep is the base's alone, and pages of an epoch ascend", () =>
  inFolder(async (path) => {
    const file = await TraceFile.create(path, header, { windowLog: 20 });
    const batches = batchesOf(
      [
        new Map([
          [3, 1],
          [8, 2],
        ]),
      ],
      1,
    );
    for (const sweep of [0, 1]) for (const batch of batches) file.batch(sweep, batch);
    file.endEpoch(2);
    await file.close();
    assert.equal((await readEpochs(path)).get(0)?.length, 4);
    await rm(path);
    const bad = await TraceFile.create(path, header, { windowLog: 20 });
    bad.endEpoch(0);
    for (const batch of batches.toReversed()) bad.batch(1, batch);
    bad.endEpoch(2);
    await bad.close();
    await assert.rejects(readEpochs(path), { code: "TRACE_INVALID", message: /out of order/ });
  }));

test("memory is not taken on a claim [a window, a header]", () =>
  inFolder(async (path) => {
    await writeTrace(path, []);
    const whole = await readFile(path);
    for (const [at, value, message] of [
      [11, 28, /window of 2\^28/],
      [11, 9, /window of 2\^9/],
      [12, 0xff, /header of \d+ bytes/],
      [9, 2, /version 2/],
      [10, 7, /compression 7/],
      [0, 0, /no trace file/],
    ] as const) {
      const bytes = Buffer.from(whole);
      bytes[at] = value;
      await writeFile(path, bytes);
      await assert.rejects(readTraceHeader(path), { code: "TRACE_INVALID", message });
    }
  }));

test("a reduced trace keeps all versions of a page or none, and the base of what it keeps", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(epochArbitrary, { minLength: 1, maxLength: 6 }),
      fc.constantFrom("full", "touched", "none"),
      fc.constantFrom(1, 3),
      fc.boolean(),
      (epochs, base, pages, changedOnly) =>
        inFolder(async (path) => {
          await writeTrace(path, epochs);
          const small = `${path}.small`;
          await reduceTrace(path, small, {
            base,
            pages,
            basePages: 0,
            changedOnly,
            level: 1,
            windowLog: 20,
          });
          const [first, ...later] = epochs as [Epoch, ...Epoch[]];
          const found = await readEpochs(small);
          const kept = new Set(
            [...found.entries()].flatMap(([at, lines]) => (at > 0 ? lines.map(pageOf) : [])),
          );
          // By a plain map: what each page held last, and which versions are to be there.
          const now = new Map(linesOf(first).map((line) => [pageOf(line), line]));
          for (const [i, epoch] of later.entries()) {
            const wanted = linesOf(epoch).filter((line) => {
              const isNew = now.get(pageOf(line)) !== line;
              now.set(pageOf(line), line);
              return (isNew || !changedOnly) && (pages === 1 || kept.has(pageOf(line)));
            });
            assert.deepEqual(found.get(i + 1) ?? [], wanted);
          }
          const written = new Set(later.flatMap(linesOf).map(pageOf));
          const baseLines = linesOf(first).filter((line) => {
            if (base === "none") return false;
            if (pages === 1) return base === "full" || written.has(pageOf(line));
            return kept.has(pageOf(line));
          });
          const foundBase = found.get(0) ?? [];
          for (const line of baseLines) assert.ok(foundBase.includes(line));
          if (pages === 1) assert.deepEqual(foundBase, baseLines);
        }),
    ),
    { numRuns: 30 },
  );
});

test("of a base with two sweeps a reduced trace keeps the later version of a page", () =>
  inFolder(async (path) => {
    const file = await TraceFile.create(path, header, { windowLog: 20 });
    for (const pages of [
      [
        [3, 1],
        [8, 2],
        [9, 3],
      ],
      [[8, 1]],
    ] as const) {
      for (const batch of batchesOf([new Map(pages)], 2)) file.batch(0, batch);
    }
    file.endEpoch(0);
    await file.close();
    await reduceTrace(path, `${path}.small`, {
      base: "full",
      pages: 1,
      basePages: 0,
      level: 1,
      windowLog: 20,
    });
    const found = (await readEpochs(`${path}.small`)).get(0);
    assert.deepEqual(
      found,
      linesOf([
        new Map([
          [3, 1],
          [9, 3],
        ]),
      ]).concat(linesOf([new Map([[8, 1]])])),
    );
  }));

test("pages that hold the same are kept in every trace or in none, about as many as asked for", () => {
  const prng = new Prng(7);
  const contents = Array.from({ length: 2_000 }, () => {
    const page = Buffer.alloc(4096);
    for (let i = 0; i < 16; i++) page.writeUInt32LE(prng.uint32(), i * 4);
    return page;
  });
  const kept = contents.filter((content) => keepsContent(content, 8)).length;
  assert.ok(kept > 170 && kept < 340, `${kept} of 2000`);
  for (const content of contents) {
    assert.equal(keepsContent(Uint8Array.from(content), 8), keepsContent(content, 8));
    assert.equal(keepsContent(content, 1), true);
  }
  const pages = Array.from({ length: 16_000 }, (_, page) => keepsPage(0, page, 4));
  assert.ok(
    pages.every((isKept, page) => isKept === pages[page - (page % 16)]),
    "in groups",
  );
  const share = pages.filter(Boolean).length / pages.length;
  assert.ok(share > 0.19 && share < 0.31, `${share}`);
});

function pageOf(line: string): string {
  return line.split(":").slice(0, 2).join(":");
}

function someEpochs(): Epoch[] {
  const pages = (from: number, count: number): Pages =>
    new Map(Array.from({ length: count }, (_, i) => [from + i * 3, i % 4]));
  return [0, 1, 2].map((i) => [pages(i * 5, 30), pages(i, 2)]);
}

function frame(fields: readonly number[], body: Buffer = Buffer.alloc(0)): Buffer {
  const [type, block, ...rest] = fields as [number, number, ...number[]];
  const out = Buffer.alloc(32);
  out[0] = type;
  out.writeUInt16BE(block, 2);
  for (const [i, value] of rest.entries()) out.writeUInt32BE(value, 4 + 4 * i);
  out.writeUInt32BE(crc32cSlowly(Buffer.concat([out.subarray(0, 28), body])), 28);
  return Buffer.concat([out, body]);
}

/** From the polynomial, bit by bit. */
function crc32cSlowly(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0x82f63b78);
  }
  return ~crc >>> 0;
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof GodwitError && error.code === code, String(error));
    return true;
  };
}
