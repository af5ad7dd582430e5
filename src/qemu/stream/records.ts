/**
 * Runs of page records: the form in which pages leave the reader, cross the wire uncompressed, and enter the writer.
 *
 *   page: u64 address|PAGE|CONTINUE, 4096 bytes      zero page: u64 address|ZERO|CONTINUE, one byte 0
 */
import { pageRecordBytes, RamFlag, zeroRecordBytes } from "./format.ts";

const pageFlags = RamFlag.page | RamFlag.continue;
const zeroFlags = RamFlag.zero | RamFlag.continue;

/** Returned by `checkRecords` when the run is sound. */
export interface RecordCounts {
  readonly pageCount: number;
  readonly zeroCount: number;
}

/**
 * Checks that [from, to) is exactly a run of records inside a block of `blockPageCount` pages. Answers the counts, or the
 * first thing wrong as text.
 */
export function checkRecords(
  view: DataView,
  from: number,
  to: number,
  blockPageCount: number,
): RecordCounts | string {
  let pageCount = 0;
  let zeroCount = 0;
  let at = from;
  while (at < to) {
    if (to - at < zeroRecordBytes) return `${to - at} bytes after the last record`;
    const low = view.getUint32(at + 4);
    const page = view.getUint32(at) * 0x100000 + (low >>> 12);
    if (page >= blockPageCount) return `page ${page} of a block that has ${blockPageCount}`;
    const flags = low & 0xfff;
    if (flags === pageFlags) {
      at += pageRecordBytes;
      pageCount++;
    } else if (flags === zeroFlags) {
      if (view.getUint8(at + 8) !== 0) return "a zero page with a fill byte";
      at += zeroRecordBytes;
      zeroCount++;
    } else return `a record with flags 0x${flags.toString(16)}`;
  }
  if (at !== to) return "a record that ends behind its batch";
  return { pageCount, zeroCount };
}

/** Writes the 8-byte word of a full-page record at `at`; the page's 4096 bytes belong right behind it. */
export function writePageWord(view: DataView, at: number, page: number): void {
  view.setUint32(at, Math.floor(page / 0x100000));
  view.setUint32(at + 4, ((page % 0x100000) << 12) | pageFlags);
}

/** Writes a whole zero-page record (9 bytes) at `at`. */
export function writeZeroRecord(view: DataView, at: number, page: number): void {
  view.setUint32(at, Math.floor(page / 0x100000));
  view.setUint32(at + 4, ((page % 0x100000) << 12) | zeroFlags);
  view.setUint8(at + 8, 0);
}

/** Page number in the word at `at`. */
export function pageOfWord(view: DataView, at: number): number {
  return view.getUint32(at) * 0x100000 + (view.getUint32(at + 4) >>> 12);
}
