/** The writer: literal bytes for each part, and that the reader gives back whatever the writer was given. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Collector } from "../../../test/golden/stream/collect.ts";
import { feedInPlace, feedMoving, loadCaptures } from "../../../test/golden/stream/load.ts";
import { AssertionError, Prng } from "../../base/index.ts";
import {
  encodeCommand,
  encodeEof,
  encodeHead,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  pageBytes,
  pageRecordBytes,
  StreamReader,
  type StreamSink,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "./index.ts";

const seed = Number(process.env["SEED"] ?? 20261123);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("the writer's bytes", () => {
  test("section begin, section end, command and end of stream (literal bytes)", () => {
    assert.equal(hex(encodeSectionBegin(2, "part")), "0200000002");
    assert.equal(hex(encodeSectionBegin(0x01020304, "end")), "0301020304");
    assert.equal(hex(encodeSectionEnd(2)), "00000000000000107e00000002");
    assert.equal(hex(encodeCommand(2, Uint8Array.of(0, 0, 0, 1))), "080002000400000001");
    assert.equal(hex(encodeCommand(11, new Uint8Array(0))), "08000b0000");
    assert.equal(hex(encodeEof()), "00");
  });

  test("the head of a guest with 5 GiB and return path (literal bytes)", () => {
    const head = encodeHead({
      machineType: "microvm",
      ramSectionId: 2,
      blocks: [
        { name: "pc.ram", lengthBytes: 5 * 2 ** 30 },
        { name: "b", lengthBytes: 0xfff00000 },
      ],
      returnPath: true,
    });
    assert.equal(
      hex(head),
      "5145564d00000003" +
        "07000000076d6963726f766d" +
        "0800010000" +
        "080002000400000001" +
        "010000000203" +
        "72616d0000000000000004" +
        "000000023ff00004" +
        "0670632e72616d0000000140000000" +
        "016200000000fff00000" +
        "00000000000000107e00000002",
    );
  });

  test("a named word drops CONTINUE and keeps the address, also above 4 GiB", () => {
    const named = encodeNamedWord(0x12, 0x34567028, "pc.ram");
    assert.equal(hex(named), "00000012345670080670632e72616d");
    assert.equal(hex(encodeNamedWord(0, 0xfffff022, "a")), "00000000fffff0020161");
    assert.throws(() => encodeNamedWord(0, 0x08, "a"), AssertionError);
    assert.throws(() => encodeNamedWord(0, 0x28, "a".repeat(256)), AssertionError);
  });
});

test("a head made again from a capture's facts is the capture's own head, byte for byte", () => {
  let compared = 0;
  for (const capture of loadCaptures()) {
    if (capture.oracle === undefined || capture.oracle.subsections.length > 0) continue;
    const { machineType, ramSectionId, blocks, headBytes } = capture.oracle;
    const returnPath = capture.capabilities.includes("return-path");
    const head = encodeHead({ machineType, ramSectionId, blocks, returnPath });
    assert.deepEqual(head, capture.bytes().slice(0, headBytes), capture.name);
    compared++;
  }
  assert.ok(compared >= 15);
});

/** One thing that happens in a stream, as fast-check makes it. */
type Step =
  | { kind: "page" | "zero"; block: number; page: number; fill: number }
  | { kind: "section" }
  | { kind: "command" };

const blockNames = ["pc.ram", "/rom@etc/acpi/tables", "x"];
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: recordArbitrary("page") },
  { weight: 8, arbitrary: recordArbitrary("zero") },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: "section" }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: "command" }) },
);

function recordArbitrary(kind: "page" | "zero"): fc.Arbitrary<Step> {
  return fc.record({
    kind: fc.constant(kind),
    block: fc.nat(2),
    page: fc.nat(3),
    fill: fc.integer({ min: 1, max: 255 }),
  });
}

/** Writes the steps as a stream; also what each page must be afterwards. */
function write(steps: readonly Step[]): { stream: Uint8Array; memory: Uint8Array[] } {
  const lengthBytes = 4 * pageBytes;
  const blocks = blockNames.map((name) => ({ name, lengthBytes }));
  const memory = blocks.map(() => new Uint8Array(lengthBytes));
  const pieces = [
    encodeHead({ machineType: "pc-q35-10.0", ramSectionId: 5, blocks, returnPath: false }),
    encodeSectionBegin(5, "part"),
  ];
  let current = -1;
  for (const step of steps) {
    if (step.kind === "section") {
      pieces.push(encodeSectionEnd(5), encodeSectionBegin(5, "part"));
    } else if (step.kind === "command") {
      pieces.push(encodeSectionEnd(5), encodeCommand(11, new Uint8Array(0)));
      pieces.push(encodeSectionBegin(5, "part"));
    } else {
      pieces.push(record(step, step.block !== current));
      current = step.block;
      const fill = step.kind === "zero" ? 0 : step.fill;
      memory[current]?.fill(fill, step.page * pageBytes, (step.page + 1) * pageBytes);
    }
  }
  pieces.push(encodeSectionEnd(5), encodeSectionBegin(5, "end"), encodeSectionEnd(5), encodeEof());
  return { stream: new Uint8Array(Buffer.concat(pieces)), memory };
}

function record(step: Step & { kind: "page" | "zero" }, named: boolean): Uint8Array {
  const bytes = new Uint8Array(step.kind === "page" ? pageRecordBytes : zeroRecordBytes);
  const view = new DataView(bytes.buffer);
  if (step.kind === "page") writePageWord(view, 0, step.page);
  else writeZeroRecord(view, 0, step.page);
  if (step.kind === "page") bytes.fill(step.fill, 8);
  if (!named) return bytes;
  const name = blockNames[step.block] as string;
  const word = encodeNamedWord(view.getUint32(0), view.getUint32(4), name);
  return new Uint8Array(Buffer.concat([word, bytes.subarray(8)]));
}

test(`what the writer writes, the reader reads, however it is split (seed ${seed})`, () => {
  const steps = fc.array(stepArbitrary, { maxLength: 30 });
  fc.assert(
    fc.property(steps, fc.nat(), (list, splitSeed) => {
      const { stream, memory } = write(list);
      const want = new Collector({ keepMemory: true });
      feedInPlace(new StreamReader(want), stream.slice(), []);
      assert.deepEqual(want.memory, memory);
      const records = list.filter(({ kind }) => kind === "page" || kind === "zero").length;
      assert.equal(
        want.tallies.reduce((sum, tally) => sum + tally.pages + tally.zeros, 0),
        records,
      );
      assert.equal(want.commands.length, list.filter(({ kind }) => kind === "command").length);
      const split = new Collector();
      const prng = new Prng(splitSeed);
      const sizes = (function* () {
        for (;;) yield prng.integer(1, prng.pick([3, 40, 9000]));
      })();
      feedMoving(new StreamReader(split), stream, sizes);
      assert.equal(split.finish(), want.finish());
      assert.deepEqual(split.log, want.log);
    }),
    { seed, numRuns: 200 },
  );
});

test("a capture's runs, written again with named words, are the capture's pages (each run re-named)", () => {
  for (const capture of loadCaptures()) {
    // The guest of 5 GiB would need twice that here.
    if (capture.oracle === undefined || capture.name.endsWith("5-gib")) continue;
    const pieces: Uint8Array[] = [];
    const blocks = capture.oracle.blocks;
    const sink: StreamSink = {
      head: (head) => {
        pieces.push(head.bytes, encodeSectionBegin(head.ramSectionId, "part"));
      },
      pages: (block, bytes, from, to) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        const name = blocks[block]?.name ?? "";
        pieces.push(encodeNamedWord(view.getUint32(from), view.getUint32(from + 4), name));
        pieces.push(bytes.slice(from + 8, to));
      },
      command: () => {},
      ramEnd: () => {
        const id = capture.oracle?.ramSectionId ?? 0;
        pieces.push(encodeSectionEnd(id), encodeSectionBegin(id, "end"), encodeSectionEnd(id));
      },
      tail: (bytes, from, to) => {
        pieces.push(bytes.slice(from, to));
      },
    };
    feedInPlace(new StreamReader(sink), capture.bytes(), [70_000, 1, 100_000]);
    const again = new Collector({ keepMemory: true });
    const stream = new Uint8Array(Buffer.concat(pieces));
    assert.equal(feedInPlace(new StreamReader(again), stream, []), 0);
    const original = new Collector({ keepMemory: true });
    feedInPlace(new StreamReader(original), capture.bytes(), []);
    assert.deepEqual(again.memory, original.memory, capture.name);
    assert.equal(again.finish(), original.finish());
  }
});
