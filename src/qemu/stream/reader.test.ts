/** The reader on small streams written out by hand: what it hands on, what it refuses, and its bounds. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Collector } from "../../../test/golden/stream/collect.ts";
import { feedInPlace, pushAll } from "../../../test/golden/stream/load.ts";
import { GodwitError } from "../../base/index.ts";
import {
  defaultStreamLimits,
  type RunCounts,
  type StreamLimits,
  StreamReader,
  type StreamSink,
} from "./index.ts";

// What the bytes of a stream are, without the writer: hex text, so that a shared mistake cannot hide.
const u8 = (value: number): string => value.toString(16).padStart(2, "0");
const u16 = (value: number): string => value.toString(16).padStart(4, "0");
const u32 = (value: number): string => value.toString(16).padStart(8, "0");
const u64 = (value: bigint | number): string => BigInt(value).toString(16).padStart(16, "0");
const name = (text: string): string =>
  u8(text.length) + Buffer.from(text, "latin1").toString("hex");
const page = (fill: number): string => u8(fill).repeat(4096);

const magic = "5145564d00000003";
const configuration = `07${u32(11)}${Buffer.from("pc-q35-10.0").toString("hex")}`;
const footer = "7e00000002";
const eos = u64(0x10);
const start = (total: bigint | number, blocks: string): string =>
  `01${u32(2)}${name("ram")}${u32(0)}${u32(4)}${u64(BigInt(total) | 4n)}${blocks}${eos}${footer}`;
const block = (text: string, bytes: bigint | number): string => name(text) + u64(bytes);
const twoBlocks = start(0x5000, block("a", 0x4000) + block("rom", 0x1000));
const head = magic + configuration + twoBlocks;
const part = (records: string): string => `02${u32(2)}${records}${eos}${footer}`;
const end = (records = ""): string => `03${u32(2)}${records}${eos}${footer}`;
const full = `04${u32(3)}${name("cpu")}${u32(0)}${u32(1)}11227e00000003`;
const tail = `${full}00`;
const pageA0 = `${u64(0x0008)}${name("a")}${page(0x11)}`;

function bytesOf(...hex: string[]): Uint8Array {
  return new Uint8Array(Buffer.from(hex.join(""), "hex"));
}

function read(hex: string, limits: Partial<StreamLimits> = {}): Collector {
  const collector = new Collector({ keepMemory: true });
  const reader = new StreamReader(collector, { limits: { ...defaultStreamLimits, ...limits } });
  const bytes = bytesOf(hex);
  assert.equal(feedInPlace(reader, bytes, []), 0, "bytes left over");
  reader.assertComplete();
  return collector;
}

/** The error, which must be the same when the stream comes whole and byte by byte. */
function refuse(hex: string, limits: Partial<StreamLimits> = {}): GodwitError {
  const errors = [[], Array.from({ length: hex.length / 2 }, () => 1)].map((steps) => {
    const options = { limits: { ...defaultStreamLimits, ...limits } };
    const reader = new StreamReader(new Collector(), options);
    try {
      feedInPlace(reader, bytesOf(hex), steps);
      reader.assertComplete();
    } catch (error) {
      if (error instanceof GodwitError) return error;
      throw error;
    }
    return assert.fail("the stream was accepted");
  });
  assert.equal(errors[0]?.message, errors[1]?.message);
  return errors[0] as GodwitError;
}

describe("a sound stream", () => {
  test("is reported in order: head, pages, command, end of RAM, tail", () => {
    const collector = read(
      head + part(pageA0) + part(`${u64(0x3022)}00`) + `08${u16(11)}${u16(0)}` + end() + tail,
    );
    assert.deepEqual(
      collector.log.map((line) => line.split(" ")[0]),
      ["head", "pages", "command", "ram"],
    );
    assert.deepEqual(collector.tallies, [
      { pages: 1, zeros: 1 },
      { pages: 0, zeros: 0 },
    ]);
    assert.equal(collector.tailBytes, tail.length / 2);
  });

  test("a command between sections is handed on with its data", () => {
    const collector = read(`${head}080002000412345678${end()}${tail}`);
    assert.deepEqual(collector.commands, [{ command: 2, data: "12345678" }]);
  });

  test("the head is everything before the first page, verbatim", () => {
    const commands = `08000100000800020004${u32(1)}`;
    const collector = read(magic + configuration + commands + twoBlocks + end() + tail);
    assert.deepEqual(collector.seen?.bytes, bytesOf(magic + configuration + commands + twoBlocks));
    assert.equal(collector.seen?.hasReturnPath, true);
    assert.equal(collector.seen?.machineType, "pc-q35-10.0");
  });

  test("the first record of a block loses its name and gets CONTINUE, its page stays where it is", () => {
    const bytes = bytesOf(head, part(`${pageA0}${u64(0x1022)}00`), end(), tail);
    const runs: { block: number; hex: string; counts: RunCounts }[] = [];
    const sink = quietSink({
      pages: (index, buffer, from, to, counts) => {
        const hex = Buffer.from(buffer.subarray(from, to)).toString("hex");
        runs.push({ block: index, hex, counts: { ...counts } });
      },
    });
    pushAll(new StreamReader(sink), bytes, 0, bytes.length);
    assert.deepEqual(runs, [
      {
        block: 0,
        hex: `${u64(0x28)}${page(0x11)}${u64(0x1022)}00`,
        counts: { pageCount: 1, zeroCount: 1 },
      },
    ]);
  });

  test("the block goes on across sections, and changes only by name", () => {
    const collector = read(
      head +
        part(pageA0 + `${u64(0x0002)}${name("rom")}00`) +
        part(`${u64(0x0028)}${page(0x22)}`) +
        end(`${u64(0x2008)}${name("a")}${page(0x33)}`) +
        tail,
    );
    assert.deepEqual(collector.tallies, [
      { pages: 2, zeros: 0 },
      { pages: 1, zeros: 1 },
    ]);
    assert.equal(collector.memory[1]?.[0], 0x22);
    assert.equal(collector.memory[0]?.[0x2fff], 0x33);
  });

  test("a block's name may have 255 bytes, its records are rewritten like any other", () => {
    const long = "n".repeat(255);
    const blocks = start(0x1000, block(long, 0x1000));
    const collector = read(
      magic +
        configuration +
        blocks +
        part(`${u64(0x0002)}${name(long)}00${u64(8)}${name(long)}${page(7)}`) +
        end() +
        tail,
    );
    assert.deepEqual(collector.tallies, [{ pages: 1, zeros: 1 }]);
    assert.equal(collector.memory[0]?.[4095], 7);
  });

  test("pages above 4 GiB keep their address (block of 2^44 bytes, first word set)", () => {
    const size = 2n ** 44n;
    const seen: number[] = [];
    const stream =
      magic +
      configuration +
      start(size, block("m", size)) +
      part(
        `${u64(0x1_0000_0002n)}${name("m")}00` +
          `${u64(0xfff_ffff_f022n)}00` +
          `${u64(0x123_4567_8028n)}${page(1)}`,
      ) +
      end() +
      tail;
    const reader = new StreamReader(quietSink({}), {
      filter: {
        keep: (_, index) => {
          seen.push(index);
          return true;
        },
      },
    });
    feedInPlace(reader, bytesOf(stream), []);
    assert.deepEqual(seen, [0x10_0000, 0xffff_ffff, 0x1234_5678]);
  });

  test("a stream of a guest without memory has no blocks and is sound", () => {
    const collector = read(magic + configuration + start(0, "") + end() + tail);
    assert.deepEqual(collector.seen?.blocks, []);
  });

  test("subsections of known form are passed: uuid, page bits 12, no capabilities", () => {
    const subsection = (text: string, body: string): string => `05${name(text)}${u32(1)}${body}`;
    const more =
      subsection("configuration/uuid", "00112233445566778899aabbccddeeff") +
      subsection("configuration/target-page-bits", u32(12)) +
      subsection("configuration/capabilities", u32(0));
    const collector = read(magic + configuration + more + twoBlocks + end() + tail);
    assert.equal(
      collector.seen?.bytes.length,
      (magic + configuration + more + twoBlocks).length / 2,
    );
  });

  test("push stops behind RAM END, so that the caller can act before device state comes", () => {
    const events: string[] = [];
    const sink = quietSink({ ramEnd: () => events.push("end"), tail: () => events.push("tail") });
    const reader = new StreamReader(sink);
    const bytes = bytesOf(head, end(), tail);
    const at = reader.push(bytes, 0, bytes.length);
    assert.deepEqual(events, ["end"]);
    assert.equal(at, bytes.length - tail.length / 2);
    assert.equal(reader.push(bytes, at, bytes.length), bytes.length);
    assert.deepEqual(events, ["end", "tail"]);
  });

  test("offset counts the stream's own bytes, also where names were overwritten", () => {
    const reader = new StreamReader(quietSink({}));
    const bytes = bytesOf(head, part(pageA0), end(), tail);
    feedInPlace(reader, bytes, [100, 1, 1, 4000, 50]);
    assert.equal(reader.offset, bytes.length);
  });

  test("long runs come in parts of at most 128 KiB and a record", () => {
    const count = 200;
    const size = count * 4096;
    const records = Array.from({ length: count }, (_, i) => `${u64((i * 4096) | 0x28)}${page(i)}`);
    const first = `${u64(2)}${name("big")}00`;
    const bytes = bytesOf(
      magic + configuration + start(size, block("big", size)),
      part(first + records.join("")),
      end(),
      tail,
    );
    let longest = 0;
    let pages = 0;
    const sink = quietSink({
      pages: (_, __, from, to, counts) => {
        longest = Math.max(longest, to - from);
        pages += counts.pageCount;
      },
    });
    pushAll(new StreamReader(sink), bytes, 0, bytes.length);
    assert.equal(pages, count);
    assert.ok(longest <= (128 << 10) + 4104, `${longest}`);
  });
});

describe("a filter", () => {
  const records =
    pageA0 +
    `${u64(0x1022)}00` +
    `${u64(0x2028)}${page(0x22)}` +
    `${u64(0x3028)}${page(0x33)}` +
    `${u64(0x0002)}${name("rom")}00`;
  const stream = head + part(records) + end() + tail;
  const all = ["0:0", "0:1", "0:2", "0:3", "1:0"];

  for (let dropped = 0; dropped < 2 ** all.length; dropped++) {
    const drop = all.filter((_, i) => (dropped >> i) & 1);
    test(`leaves out just the pages it refuses, and counts the rest (${drop.join() || "none"})`, () => {
      const asked: string[] = [];
      const collector = new Collector({ keepMemory: true });
      const kept: string[] = [];
      const sink = quietSink({
        head: (parts) => collector.head(parts),
        pages: (index, bytes, from, to, counts) => {
          collector.pages(index, bytes, from, to, counts);
          const view = new DataView(bytes.buffer);
          for (let at = from; at < to; ) {
            kept.push(`${index}:${view.getUint32(at + 4) >>> 12}`);
            at += (view.getUint8(at + 7) & 2) === 2 ? 9 : 4104;
          }
        },
      });
      const filter = {
        keep: (index: number, number: number, zero: boolean): boolean => {
          assert.equal(zero, (index === 0 && number === 1) || index === 1);
          asked.push(`${index}:${number}`);
          return !drop.includes(`${index}:${number}`);
        },
      };
      feedInPlace(new StreamReader(sink, { filter }), bytesOf(stream), [500, 3000, 1, 7]);
      assert.deepEqual(asked, all, "asked once for each page, in order");
      assert.deepEqual(
        kept,
        all.filter((key) => !drop.includes(key)),
      );
    });
  }
});

/** A stream broken in one place. */
interface Breakage {
  readonly hex: string;
  readonly code: "STREAM_INVALID" | "STREAM_UNSUPPORTED";
  /** What the message must say, and the byte it must name. */
  readonly says: string;
  readonly byte: number;
  readonly limits?: Partial<StreamLimits>;
}

const at = (...before: string[]): number => before.join("").length / 2;
const beforeBlocks = `01${u32(2)}${name("ram")}${u32(0)}${u32(4)}`;
const early = magic + configuration;
const invalid = "STREAM_INVALID";
const unsupported = "STREAM_UNSUPPORTED";

const breakages: Readonly<Record<string, Breakage>> = {
  "another magic": {
    hex: "5145564e00000003",
    code: invalid,
    says: "begins with 0x5145564e",
    byte: 0,
  },
  "a later version": {
    hex: "5145564d00000004",
    code: unsupported,
    says: "stream version 4",
    byte: 4,
  },
  "no configuration": {
    hex: magic + twoBlocks,
    code: unsupported,
    says: "section type 0x1 where the machine type belongs",
    byte: 8,
  },
  "a configuration of 4 GiB": {
    hex: `${magic}07ffffffff`,
    code: invalid,
    says: "a machine type of 4294967295 bytes",
    byte: 9,
  },
  "an empty machine type": {
    hex: `${magic}0700000000`,
    code: invalid,
    says: "a machine type of 0 bytes",
    byte: 9,
  },
  "a second configuration": {
    hex: early + configuration,
    code: invalid,
    says: "a second configuration",
    byte: at(early),
  },
  "a configuration between sections": {
    hex: head + configuration,
    code: invalid,
    says: "a second configuration",
    byte: at(head),
  },
  "a section type that does not exist": {
    hex: `${head}55`,
    code: invalid,
    says: "section type 0x55 does not exist",
    byte: at(head),
  },
  "pages of 64 KiB": {
    hex: `${early}05${name("configuration/target-page-bits")}${u32(1)}${u32(16)}`,
    code: unsupported,
    says: "guest pages of 2^16 bytes",
    byte: at(early),
  },
  "an unknown subsection": {
    hex: `${early}05${name("configuration/next")}${u32(1)}${u32(0)}`,
    code: unsupported,
    says: 'subsection "configuration/next"',
    byte: at(early),
  },
  "a subsection between sections": {
    hex: `${head}05${name("configuration/uuid")}${u32(1)}`,
    code: invalid,
    says: "a subsection between RAM sections",
    byte: at(head),
  },
  "a capability in the configuration": {
    hex: `${early}05${name("configuration/capabilities")}${u32(1)}${u32(1)}${name("mapped-ram")}`,
    code: unsupported,
    says: 'capability "mapped-ram"',
    byte: at(early),
  },
  "four thousand million capabilities": {
    hex: `${early}05${name("configuration/capabilities")}${u32(1)}ffffffff`,
    code: invalid,
    says: "4294967295 capabilities",
    byte: at(early, "05", name("configuration/capabilities"), u32(1)),
  },
  "a command without a name": {
    hex: `${early}08${u16(99)}${u16(0)}`,
    code: unsupported,
    says: "command 99",
    byte: at(early) + 1,
  },
  "a command with too much data": {
    hex: `${early}08${u16(2)}ffff`,
    code: invalid,
    says: "command PING with 65535 bytes",
    byte: at(early) + 3,
  },
  "a PING of five bytes": {
    hex: `${early}08${u16(2)}${u16(5)}0000000001`,
    code: invalid,
    says: "command PING with 5 bytes",
    byte: at(early) + 3,
  },
  "an OPEN_RETURN_PATH with data": {
    hex: `${early}08${u16(1)}${u16(4)}00000000`,
    code: invalid,
    says: "command OPEN_RETURN_PATH with 4 bytes",
    byte: at(early) + 3,
  },
  "a package of device state": {
    hex: `${head}08${u16(7)}${u16(4)}${u32(1)}`,
    code: unsupported,
    says: "command PACKAGED",
    byte: at(head) + 1,
  },
  "another iterable section": {
    hex: `${early}01${u32(2)}${name("htab")}${u32(0)}${u32(1)}`,
    code: unsupported,
    says: 'iterable section "htab"',
    byte: at(early) + 5,
  },
  "a name full of control characters": {
    hex: `${early}01${u32(2)}${name("\u001b[2J\n")}${u32(0)}${u32(1)}`,
    code: unsupported,
    says: '"\\u001b[2J\\n"',
    byte: at(early) + 5,
  },
  "another version of section ram": {
    hex: `${early}01${u32(2)}${name("ram")}${u32(0)}${u32(3)}`,
    code: unsupported,
    says: 'section "ram" version 3',
    byte: at(early, `01${u32(2)}${name("ram")}${u32(0)}`),
  },
  "a second START": {
    hex: head + twoBlocks,
    code: invalid,
    says: 'a second START of section "ram"',
    byte: at(head),
  },
  "START without sizes": {
    hex: early + beforeBlocks + u64(0x5010),
    code: invalid,
    says: "without sizes",
    byte: at(early, beforeBlocks),
  },
  "more memory than the limit": {
    hex: early + beforeBlocks + u64((1n << 44n) + 0x1004n),
    code: invalid,
    says: "17592186048512 bytes of memory",
    byte: at(early, beforeBlocks),
  },
  "a total of all ones": {
    hex: `${early + beforeBlocks}fffffffffffff004`,
    code: invalid,
    says: "bytes of memory",
    byte: at(early, beforeBlocks),
  },
  "a block larger than the total": {
    hex: early + beforeBlocks + u64(0x5004) + block("a", 0x6000),
    code: invalid,
    says: 'RAM block "a" of 24576 bytes',
    byte: at(early, beforeBlocks, u64(0)),
  },
  "a block of 2^64-4096 bytes": {
    hex: early + beforeBlocks + u64(0x5004) + block("a", 0xffff_ffff_ffff_f000n),
    code: invalid,
    says: 'RAM block "a" of',
    byte: at(early, beforeBlocks, u64(0)),
  },
  "a block of no bytes": {
    hex: early + beforeBlocks + u64(0x5004) + block("a", 0),
    code: invalid,
    says: 'RAM block "a" of 0 bytes',
    byte: at(early, beforeBlocks, u64(0)),
  },
  "a block of half a page": {
    hex: early + beforeBlocks + u64(0x5004) + block("a", 0x4800),
    code: invalid,
    says: 'RAM block "a" of 18432 bytes',
    byte: at(early, beforeBlocks, u64(0)),
  },
  "a block without a name": {
    hex: early + beforeBlocks + u64(0x5004) + block("", 0x4000),
    code: invalid,
    says: "without a name",
    byte: at(early, beforeBlocks, u64(0)),
  },
  "a block twice": {
    hex: early + beforeBlocks + u64(0x5004) + block("a", 0x4000) + block("a", 0x1000),
    code: invalid,
    says: 'RAM block "a" twice',
    byte: at(early, beforeBlocks, u64(0), block("a", 0)),
  },
  "one block more than the limit": {
    hex: head + end() + tail,
    code: invalid,
    says: "more than 1 RAM blocks",
    byte: at(early, beforeBlocks, u64(0), block("a", 0)),
    limits: { blockCountMax: 1 },
  },
  "multifd's flush in the block list": {
    hex: early + beforeBlocks + u64(0x1004) + block("a", 0x1000) + u64(0x200),
    code: unsupported,
    says: "MULTIFD_FLUSH (capability multifd)",
    byte: at(early, beforeBlocks, u64(0), block("a", 0)),
  },
  "an end of the block list with an address": {
    hex: early + beforeBlocks + u64(0x1004) + block("a", 0x1000) + u64(0x1_0000_0010n),
    code: invalid,
    says: "the block list does not end",
    byte: at(early, beforeBlocks, u64(0), block("a", 0)),
  },
  "a block list that goes on": {
    hex: early + beforeBlocks + u64(0x1004) + block("a", 0x1000) + block("b", 0x1000),
    code: invalid,
    says: "the block list does not end",
    byte: at(early, beforeBlocks, u64(0), block("a", 0)),
  },
  "no footer behind START": {
    hex: early + beforeBlocks + u64(0x1004) + block("a", 0x1000) + eos + part("").repeat(2),
    code: invalid,
    says: "without footer",
    byte: at(early, beforeBlocks, u64(0), block("a", 0), eos),
  },
  "another section's footer behind START": {
    hex: `${early + beforeBlocks + u64(0x1004) + block("a", 0x1000) + eos}7e00000009`,
    code: invalid,
    says: "the footer of section 9 in section 2",
    byte: at(early, beforeBlocks, u64(0), block("a", 0), eos) + 1,
  },
  "a head beyond its limit": {
    hex: head + end() + tail,
    code: invalid,
    says: "more than 40 bytes before the first page",
    byte: 41,
    limits: { headBytesMax: 40 },
  },
  "PART before START": {
    hex: early + part(""),
    code: invalid,
    says: "PART or END of section 2, which was not started",
    byte: at(early) + 1,
  },
  "END of another section": {
    hex: `${head}03${u32(7)}`,
    code: invalid,
    says: "PART or END of section 7",
    byte: at(head) + 1,
  },
  "PART after END": {
    hex: head + end() + part(""),
    code: invalid,
    says: "RAM goes on after its END",
    byte: at(head, end()),
  },
  "a footer missing behind PART": {
    hex: `${head}02${u32(2)}${eos}${part("")}`,
    code: invalid,
    says: "without footer",
    byte: at(head, "02", u32(2), eos),
  },
  "another section's footer behind PART": {
    hex: `${head}02${u32(2)}${eos}7e00000003`,
    code: invalid,
    says: "the footer of section 3 in section 2",
    byte: at(head, "02", u32(2), eos) + 1,
  },
  "CONTINUE before any block": {
    hex: `${head}02${u32(2)}${u64(0x22)}00`,
    code: invalid,
    says: "a page before its block was named",
    byte: at(head, "02", u32(2)),
  },
  "an unknown block": {
    hex: `${head}02${u32(2)}${u64(0x02)}${name("b")}00`,
    code: invalid,
    says: 'unknown RAM block "b"',
    byte: at(head, "02", u32(2)),
  },
  "a block name that every object has": {
    hex: `${head}02${u32(2)}${u64(0x02)}${name("__proto__")}00`,
    code: invalid,
    says: 'unknown RAM block "__proto__"',
    byte: at(head, "02", u32(2)),
  },
  "the page behind the last of a block": {
    hex: `${head}02${u32(2)}${pageA0}${u64(0x4022)}00`,
    code: invalid,
    says: "page 4 of RAM block a, which has 4",
    byte: at(head, "02", u32(2), pageA0),
  },
  "a page of the larger block in the smaller": {
    hex: `${head}02${u32(2)}${pageA0}${u64(0x1002)}${name("rom")}00`,
    code: invalid,
    says: "page 1 of RAM block rom, which has 1",
    byte: at(head, "02", u32(2), pageA0) + 1 + 3,
  },
  "an address with its first word set": {
    hex: `${head}02${u32(2)}${pageA0}${u64(0x1_0000_0022n)}00`,
    code: invalid,
    says: "page 1048576 of RAM block a",
    byte: at(head, "02", u32(2), pageA0),
  },
  "an address of all ones": {
    hex: `${head}02${u32(2)}${pageA0}fffffffffffff02200`,
    code: invalid,
    says: "page 4503599627370495 of RAM block a",
    byte: at(head, "02", u32(2), pageA0),
  },
  "a zero page with a fill byte": {
    hex: `${head}02${u32(2)}${u64(0x02)}${name("a")}01`,
    code: invalid,
    says: "a zero page with a fill byte",
    byte: at(head, "02", u32(2)) + 1 + 1,
  },
  "EOS with an address": {
    hex: `${head}02${u32(2)}${u64(0x1010)}`,
    code: invalid,
    says: "EOS with an address",
    byte: at(head, "02", u32(2)),
  },
  "a record of XBZRLE": {
    hex: `${head}02${u32(2)}${u64(0x40)}`,
    code: unsupported,
    says: "XBZRLE (capability xbzrle)",
    byte: at(head, "02", u32(2)),
  },
  "a record with CONTINUE and COMPRESS": {
    hex: `${head}02${u32(2)}${u64(0x120)}`,
    code: unsupported,
    says: "COMPRESS (capability compress)",
    byte: at(head, "02", u32(2)),
  },
  "a record without a kind": {
    hex: `${head}02${u32(2)}${u64(0x20)}`,
    code: invalid,
    says: "RAM record with flags 0x20",
    byte: at(head, "02", u32(2)),
  },
  "a record that is page and zero": {
    hex: `${head}02${u32(2)}${u64(0x0a)}`,
    code: invalid,
    says: "RAM record with flags 0xa",
    byte: at(head, "02", u32(2)),
  },
  "device state before the pages": {
    hex: head + full,
    code: unsupported,
    says: 'device state "cpu" before the end of RAM',
    byte: at(head),
  },
  "device state before START": {
    hex: early + full,
    code: unsupported,
    says: 'device state "cpu" before the end of RAM',
    byte: at(early),
  },
  "the end of the stream before RAM END": {
    hex: `${head + part(pageA0)}00`,
    code: invalid,
    says: "end of stream before RAM END",
    byte: at(head, part(pageA0)),
  },
  "a stream cut inside a page": {
    hex: (head + part(pageA0)).slice(0, -2000),
    code: invalid,
    says: "the stream ended before the device state",
    byte: at(head, "02", u32(2)) + 2,
  },
  "a stream that ends with RAM END": {
    hex: head + end(),
    code: invalid,
    says: "the stream ended before the device state",
    byte: at(head, end()),
  },
  "device state beyond its limit": {
    hex: `${head + end() + tail}${"00".repeat(100)}`,
    code: invalid,
    says: "more than 50 bytes of device state",
    byte: -1,
    limits: { tailBytesMax: 50 },
  },
};

describe("a broken stream is refused, with what is wrong and where", () => {
  for (const [what, broken] of Object.entries(breakages)) {
    test(`${what}: ${broken.code}`, () => {
      if (broken.byte < 0) return assertTailLimit(broken);
      const error = refuse(broken.hex, broken.limits);
      assert.equal(error.code, broken.code);
      assert.ok(error.message.includes(broken.says), error.message);
      // The head's limit is noticed at the end of the item that breaks it.
      const byte = Number(/\(byte (\d+)\)$/.exec(error.message)?.[1]);
      if (broken.limits?.headBytesMax !== undefined) assert.ok(byte >= broken.byte);
      else assert.equal(byte, broken.byte, error.message);
    });
  }
});

/** Where the limit is noticed depends on the split; that it is noticed does not. */
function assertTailLimit(broken: Breakage): void {
  const limits = { ...defaultStreamLimits, ...broken.limits };
  for (const step of [1, 60, 10_000]) {
    const reader = new StreamReader(new Collector(), { limits });
    const steps = Array.from({ length: 400 }, () => step);
    assert.throws(
      () => feedInPlace(reader, bytesOf(broken.hex), steps),
      (error) => error instanceof GodwitError && error.message.includes(broken.says),
    );
  }
}

test("a stream cut anywhere is incomplete, never complete and never an error of another kind", () => {
  const hex = head + part(pageA0) + end();
  for (let length = 0; length <= hex.length / 2; length++) {
    const reader = new StreamReader(quietSink({}));
    feedInPlace(reader, bytesOf(hex.slice(0, length * 2)), []);
    assert.throws(() => reader.assertComplete(), GodwitError);
  }
});

test("1,024 blocks with long names, byte by byte, take time in proportion to their bytes", () => {
  const count = 1024;
  const blocks = Array.from({ length: count }, (_, i) => block(`${i}`.padStart(250, "b"), 0x1000));
  const bytes = bytesOf(early, start(count * 0x1000, blocks.join("")), end(), tail);
  const began = performance.now();
  feedInPlace(
    new StreamReader(quietSink({})),
    bytes,
    Array.from(bytes, () => 1),
  );
  assert.ok(performance.now() - began < 2000);
});

const nothing = (): void => {};

function quietSink(parts: Partial<StreamSink>): StreamSink {
  return {
    head: nothing,
    pages: nothing,
    command: nothing,
    ramEnd: nothing,
    tail: nothing,
    ...parts,
  };
}
