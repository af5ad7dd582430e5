/**
 * Writes the parts of a migration stream: the inverse of the reader. Pure functions that answer small byte arrays; pages
 * themselves are never copied, they go between what these functions make.
 */
import { assert } from "../../base/index.ts";
import { RamFlag, SectionType, type StreamCommand, streamMagic, streamVersion } from "./format.ts";

/** What a head is made from; only tests, restores and benchmarks make heads, a migration passes the source's own on. */
export interface HeadParts {
  readonly machineType: string;
  readonly ramSectionId: number;
  readonly blocks: readonly { readonly name: string; readonly lengthBytes: number }[];
  readonly returnPath: boolean;
}

/** Everything before the first page. */
export function encodeHead(parts: HeadParts): Uint8Array {
  const pieces: Uint8Array[] = [words(streamMagic, streamVersion)];
  pieces.push(
    bytes(SectionType.configuration),
    words(parts.machineType.length),
    ascii(parts.machineType),
  );
  if (parts.returnPath)
    pieces.push(encodeCommand(1, new Uint8Array(0)), encodeCommand(2, words(1)));
  const total = parts.blocks.reduce((sum, block) => sum + block.lengthBytes, 0);
  pieces.push(
    bytes(SectionType.start),
    words(parts.ramSectionId),
    bytes(3),
    ascii("ram"),
    words(0, 4),
  );
  pieces.push(long(total, RamFlag.memorySize));
  for (const block of parts.blocks) {
    pieces.push(bytes(block.name.length), ascii(block.name), long(block.lengthBytes, 0));
  }
  pieces.push(encodeSectionEnd(parts.ramSectionId));
  return join(pieces);
}

/** Opens a RAM section: PART while the source runs, END for the last one. */
export function encodeSectionBegin(ramSectionId: number, type: "part" | "end"): Uint8Array {
  return join([bytes(type === "part" ? SectionType.part : SectionType.end), words(ramSectionId)]);
}

/** EOS and footer: closes a RAM section. */
export function encodeSectionEnd(ramSectionId: number): Uint8Array {
  return join([long(0, RamFlag.eos), bytes(SectionType.footer), words(ramSectionId)]);
}

/**
 * Names the block of the record whose word is `high`, `low`: stands in place of the first 8 bytes of a run whenever the
 * block changes. What follows the word in the run follows it here too.
 */
export function encodeNamedWord(high: number, low: number, blockName: string): Uint8Array {
  assert((low & RamFlag.continue) !== 0, "a run's records carry CONTINUE");
  return join([
    words(high, (low & ~RamFlag.continue) >>> 0),
    bytes(blockName.length),
    ascii(blockName),
  ]);
}

export function encodeCommand(
  command: (typeof StreamCommand)[keyof typeof StreamCommand],
  data: Uint8Array,
): Uint8Array {
  const head = new Uint8Array([SectionType.command, 0, command, data.length >>> 8, data.length]);
  return join([head, data]);
}

/** End of the stream, without description of the device state (QEMU does not need it). */
export function encodeEof(): Uint8Array {
  return bytes(SectionType.eof);
}

function bytes(...values: number[]): Uint8Array {
  return Uint8Array.from(values);
}

/** Unsigned 32-bit words, big endian. */
function words(...values: number[]): Uint8Array {
  const out = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, i) => {
    out.setUint32(i * 4, value);
  });
  return new Uint8Array(out.buffer);
}

/** u64: a multiple of 4096 with flags in the low 12 bits. */
function long(value: number, flags: number): Uint8Array {
  return words(Math.floor(value / 2 ** 32), ((value % 2 ** 32) | flags) >>> 0);
}

function ascii(text: string): Uint8Array {
  assert(text.length <= 255, "names in a stream have at most 255 bytes");
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}
