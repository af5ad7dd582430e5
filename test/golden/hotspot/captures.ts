/**
 * Captured JVMs: for each release one file with what was read of a few standing JVMs, and what these JVMs said of themselves.
 * The captures of a release share a file because their tables are the same and compress to one.
 *
 * The file, unpacked by zstd: u32 length of a JSON text (little endian), the text, the bytes of all pieces one after another.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { JdkRelease } from "../../../scripts/setup/jdk.ts";
import type { ProcessMemory } from "../../../src/assist/hotspot/index.ts";
import type { MemoryRange } from "../../../src/assist/ranges.ts";
import { GodwitError } from "../../../src/base/index.ts";

export interface Piece {
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface Capture {
  readonly name: string;
  readonly options: readonly string[];
  /** The text of /proc/PID/maps at each time it was asked for. */
  readonly maps: string;
  /** What was read, in order of address, overlapping and touching pieces joined. */
  readonly memory: readonly Piece[];
  /** The JVM's own words, on SIGQUIT, at the same frozen moment: its heap. */
  readonly oracle: string;
  /** G1: regions after the last collection by the JVM's own log: index, bottom, top, end, type. */
  readonly regions: readonly string[];
  /** `java -version`, first line. */
  readonly version: string;
  /** What the reader answered when the capture was made: only to see changes, not a truth. */
  readonly requestCount: number;
}

function pathOf(release: JdkRelease): string {
  return join(import.meta.dirname, `jdk-${release}.json.zst`);
}

export function loadCaptures(release: JdkRelease): Capture[] {
  const file = zstdDecompressSync(readFileSync(pathOf(release)));
  const headEnd = 4 + file.readUInt32LE(0);
  const heads = JSON.parse(file.subarray(4, headEnd).toString()) as Head[];
  let at = headEnd;
  return heads.map(({ pieces, ...rest }) => ({
    ...rest,
    memory: pieces.map(([address, length]) => {
      at += length;
      return { address, bytes: new Uint8Array(file.subarray(at - length, at)) };
    }),
  }));
}

/** A capture whose pieces are [address, length]; their bytes follow the text. */
type Head = Omit<Capture, "memory"> & { readonly pieces: readonly (readonly [number, number])[] };

export function saveCaptures(release: JdkRelease, captures: readonly Capture[]): number {
  const heads: Head[] = captures.map(({ memory, ...rest }) => ({
    ...rest,
    pieces: memory.map(({ address, bytes }) => [address, bytes.length] as const),
  }));
  const text = Buffer.from(JSON.stringify(heads));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  const pieces = captures.flatMap(({ memory }) => memory.map(({ bytes }) => bytes));
  const params = {
    [constants.ZSTD_c_compressionLevel]: 19,
    [constants.ZSTD_c_windowLog]: 24,
    [constants.ZSTD_c_enableLongDistanceMatching]: 1,
  };
  const packed = zstdCompressSync(Buffer.concat([length, text, ...pieces]), { params });
  writeFileSync(pathOf(release), packed);
  return packed.length;
}

/** Pieces of memory; overlapping ones must agree. */
export class SparseMemory {
  readonly #pieces: Piece[] = [];

  add(address: number, bytes: Uint8Array): void {
    this.#pieces.push({ address, bytes });
  }

  /** In order, overlapping and touching pieces joined. */
  joined(): Piece[] {
    const result: { address: number; bytes: Uint8Array }[] = [];
    for (const { address, bytes } of this.#pieces.toSorted((a, b) => a.address - b.address)) {
      const last = result.at(-1);
      if (last === undefined || address > last.address + last.bytes.length) {
        result.push({ address, bytes });
        continue;
      }
      const rest = last.address + last.bytes.length - address;
      if (rest >= bytes.length) continue;
      last.bytes = Buffer.concat([last.bytes, bytes.subarray(rest)]);
    }
    return result;
  }
}

/** Serves a capture, and nothing that is not in it. */
export class Replay implements ProcessMemory {
  readonly #maps: string;
  /** Copies, for tests that change what is read. */
  readonly pieces: readonly Piece[];
  requestCount = 0;
  readBytes = 0;

  constructor(capture: Pick<Capture, "maps" | "memory">) {
    this.#maps = capture.maps;
    this.pieces = capture.memory.map(({ address, bytes }) => ({ address, bytes: bytes.slice() }));
  }

  maps(): Promise<string> {
    this.requestCount++;
    return Promise.resolve(this.#maps);
  }

  read(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.requestCount++;
    return new Promise((resolve) => resolve(ranges.map((range) => this.#read(range))));
  }

  #read({ address, bytes }: MemoryRange): Uint8Array {
    const piece = this.pieces.findLast((one) => one.address <= address);
    const at = address - (piece?.address ?? 0);
    this.readBytes += bytes;
    if (piece === undefined || at + bytes > piece.bytes.length)
      return this.unknown({ address, bytes });
    return piece.bytes.slice(at, at + bytes);
  }

  /** Memory that was not captured. */
  protected unknown({ address, bytes }: MemoryRange): Uint8Array {
    throw new GodwitError("MEMORY_READ", `${bytes} bytes at 0x${address.toString(16)}`);
  }
}
