/**
 * A set of page indexes with one bit a page: 32 KiB for each GiB of guest memory. `count` is kept so that "is anything
 * stale" costs nothing on the data path.
 */
export class PageBitmap {
  readonly pageCount: number;
  /** Number of bits set. */
  count = 0;
  readonly words: Uint32Array;

  constructor(pageCount: number) {
    this.pageCount = pageCount;
    this.words = new Uint32Array(Math.ceil(pageCount / 32));
  }

  has(page: number): boolean {
    return (((this.words[page >>> 5] as number) >>> (page & 31)) & 1) === 1;
  }

  /** Sets the bit; answers whether it was clear before. */
  add(page: number): boolean {
    const word = this.words[page >>> 5] as number;
    const bit = 1 << (page & 31);
    if ((word & bit) !== 0) return false;
    this.words[page >>> 5] = word | bit;
    this.count++;
    return true;
  }

  /** Clears the bit; answers whether it was set before. */
  delete(page: number): boolean {
    const word = this.words[page >>> 5] as number;
    const bit = 1 << (page & 31);
    if ((word & bit) === 0) return false;
    this.words[page >>> 5] = word & ~bit;
    this.count--;
    return true;
  }

  clear(): void {
    this.words.fill(0);
    this.count = 0;
  }

  /** The first page at or after `from` whose bit is set, or -1. */
  next(from: number): number {
    let index = from >>> 5;
    if (from >= this.pageCount) return -1;
    let word = (this.words[index] as number) & (-1 << (from & 31));
    while (word === 0) {
      index++;
      if (index >= this.words.length) return -1;
      word = this.words[index] as number;
    }
    return index * 32 + (31 - Math.clz32(word & -word));
  }
}
