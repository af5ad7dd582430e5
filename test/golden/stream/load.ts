/** The captures of this folder, and ways to feed them to a reader. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";

/** What oracle.py writes. Offsets count from the first byte of the stream. */
export interface OracleRecord {
  readonly machineType: string;
  readonly subsections: readonly string[];
  readonly commands: readonly { offset: number; command: number; data: string }[];
  readonly sections: readonly {
    type: "part" | "end";
    from: number;
    to: number;
    pages: number;
    zeros: number;
  }[];
  readonly blocks: readonly {
    name: string;
    lengthBytes: number;
    pages: number;
    zeros: number;
    sha256: string;
  }[];
  readonly ramSectionId: number;
  readonly headBytes: number;
  readonly ramEndOffset: number;
  readonly tailOffset: number;
  readonly tailBytes: number;
  readonly tailSha256: string;
  readonly streamBytes: number;
  readonly streamSha256: string;
}

export interface Capture {
  /** "10.0.13/pc", for test names. */
  readonly name: string;
  readonly version: string;
  readonly capabilities: readonly string[];
  readonly queryMigrate: { readonly ram?: { readonly normal: number; readonly duplicate: number } };
  /** SHA-256 of QEMU's own memory file (block m0) after the stream's last byte. */
  readonly memorySha256?: string;
  readonly incomplete?: boolean;
  readonly refused?: { readonly code: string; readonly names: string };
  readonly oracle?: OracleRecord;
  /** A fresh copy at each call: the reader writes into what it reads. */
  bytes(): Uint8Array;
}

export function loadCaptures(): Capture[] {
  const captures: Capture[] = [];
  for (const entry of readdirSync(import.meta.dirname, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    for (const file of readdirSync(join(import.meta.dirname, entry.name)).toSorted()) {
      if (!file.endsWith(".json")) continue;
      const stem = file.slice(0, -".json".length);
      const base = join(import.meta.dirname, entry.name, stem);
      const facts = JSON.parse(readFileSync(`${base}.json`, "utf8")) as Omit<
        Capture,
        "name" | "version" | "bytes"
      >;
      const packed = readFileSync(`${base}.stream.zst`);
      captures.push({
        ...facts,
        name: `${entry.name}/${stem}`,
        version: entry.name,
        bytes: () => new Uint8Array(zstdDecompressSync(packed)),
      });
    }
  }
  return captures;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Anything that reads in place: a StreamReader. */
export interface InPlaceReader {
  push(bytes: Uint8Array, from: number, to: number): number;
}

/** Pushes until the reader takes no more: after RAM END it returns although more could be read. */
export function pushAll(
  reader: InPlaceReader,
  bytes: Uint8Array,
  from: number,
  to: number,
): number {
  for (let at = from; ; ) {
    const next = reader.push(bytes, at, to);
    if (next === at || next === to) return next;
    at = next;
  }
}

/**
 * Shows the reader `bytes` with the end moving on by each of `steps`, then by the rest: all in one buffer, as a slab
 * does. Answers how many bytes were left unread.
 */
export function feedInPlace(
  reader: InPlaceReader,
  bytes: Uint8Array,
  steps: Iterable<number>,
): number {
  let from = 0;
  let to = 0;
  for (const step of steps) {
    to = Math.min(bytes.length, to + step);
    from = pushAll(reader, bytes, from, to);
    if (to === bytes.length) break;
  }
  if (to < bytes.length) from = pushAll(reader, bytes, from, bytes.length);
  return bytes.length - from;
}

/**
 * The same with a new buffer at each step: what was not read moves to its start, behind a gap of other bytes, and other
 * bytes follow it. A reader that looks outside [from, to), or keeps a reference, sees rubbish. By turns a Uint8Array and
 * a Buffer: `slice` copies the first and shares the second.
 */
export function feedMoving(
  reader: InPlaceReader,
  bytes: Uint8Array,
  steps: Iterable<number>,
): number {
  let rest: Uint8Array = new Uint8Array(0);
  let taken = 0;
  const show = (count: number): void => {
    const arrived = bytes.subarray(taken, taken + count);
    taken += arrived.length;
    const gap = 7 + (taken % 5);
    const size = gap + rest.length + arrived.length + 11;
    const room = taken % 2 === 0 ? new Uint8Array(size).fill(0xee) : Buffer.alloc(size, 0xee);
    const end = gap + rest.length + arrived.length;
    room.set(rest, gap);
    room.set(arrived, gap + rest.length);
    const from = pushAll(reader, room, gap, end);
    rest = new Uint8Array(room.subarray(from, end));
    room.fill(0xdd);
  };
  for (const step of steps) {
    if (taken >= bytes.length) break;
    show(step);
  }
  if (taken < bytes.length) show(bytes.length - taken);
  return rest.length;
}
