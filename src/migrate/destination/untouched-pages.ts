/**
 * Zero pages that QEMU need not be told of, as its memory there is zero still. QEMU looks at each zero page that it is told of, and
 * so makes the kernel map it: of a VM that uses little of its memory that would be the larger part of loading. Pure: what QEMU's
 * process has touched is asked of `look`.
 *
 * What is asked holds as long as nothing but this stream changes QEMU's memory: before it is asked, pages with content that
 * went to QEMU are remembered (they may still be on their way), afterwards too.
 */
import { PageBitmap } from "../../base/index.ts";
import { pageOfWord, pageRecordBytes, zeroRecordBytes } from "../../qemu/stream/index.ts";

/** Asked about at once. */
export const lookPages = 8192;
/** Fewer in a row are told: to leave them out would cut what is written into pieces, which costs more. */
const runMin = 8;

/** Tells `onTouched` of pages from `page` on; false: nothing is known of these. */
export type Look = (page: number, pageCount: number, onTouched: (page: number) => void) => boolean;

export class UntouchedPages {
  readonly #look: Look;
  /** Touched, or about to be. */
  readonly #touched: PageBitmap;
  readonly #isLookedAt: boolean[] = [];
  #isOver = false;
  readonly #touch = (page: number): void => {
    this.#touched.add(page);
  };
  leftOutCount = 0;

  constructor(pageCount: number, look: Look) {
    this.#touched = new PageBitmap(pageCount);
    this.#look = look;
  }

  /**
   * What is left of a sound run of records [from, to), as pairs of beginning and end in `ranges` (emptied first). All of it goes to
   * QEMU next.
   */
  select(view: DataView, from: number, to: number, ranges: number[]): void {
    ranges.length = 0;
    /** Of what is not in `ranges` yet: where it begins, and where the untouched pages at its end begin. */
    let [start, zeros, zeroCount] = [from, from, 0];
    for (let at = from; at < to; ) {
      const page = pageOfWord(view, at);
      const isZero = isZeroRecord(view, at);
      if (isZero && this.#isUntouched(page)) {
        if (zeroCount++ === 0) zeros = at;
        at += zeroRecordBytes;
        continue;
      }
      if (zeroCount >= runMin) {
        if (zeros > start) ranges.push(start, zeros);
        start = at;
        this.leftOutCount += zeroCount;
      }
      zeroCount = 0;
      if (!isZero) this.#touched.add(page);
      at += isZero ? zeroRecordBytes : pageRecordBytes;
    }
    const end = zeroCount >= runMin ? zeros : to;
    if (end < to) this.leftOutCount += zeroCount;
    if (end > start) ranges.push(start, end);
  }

  #isUntouched(page: number): boolean {
    if (this.#isOver) return false;
    const part = Math.floor(page / lookPages);
    if (this.#isLookedAt[part] !== true) {
      this.#isLookedAt[part] = true;
      const first = part * lookPages;
      const count = Math.min(lookPages, this.#touched.pageCount - first);
      if (!this.#look(first, count, this.#touch)) this.#isOver = true;
      if (this.#isOver) return false;
    }
    return !this.#touched.has(page);
  }
}

/** The flag ZERO of a record that `checkRecords` has seen. */
function isZeroRecord(view: DataView, at: number): boolean {
  return (view.getUint8(at + 7) & 0x02) !== 0;
}
