/**
 * Buffers that are used again. What other threads and sockets work on lives for milliseconds; were it left to V8, each few dozen
 * MiB of it would set off a collection of everything, by several threads at once (measured: a second of CPU time per 450 MB).
 */
const bytesMin = 16 << 10;
/** Of those that nobody uses: about as many as are in use at once, so that none is made anew when these come back. */
const spareBytesMax = 16 << 20;

export class BufferPool {
  /** By their length; the one given back last comes last. */
  readonly #spares = new Map<number, Buffer[]>();
  #spareBytes = 0;

  /** At least so long, rounded up to a power of two; what it holds is not defined. */
  take(bytes: number): Buffer {
    const length = 2 ** Math.ceil(Math.log2(Math.max(bytesMin, bytes)));
    const spare = this.#spares.get(length)?.pop();
    if (spare === undefined) return Buffer.allocUnsafeSlow(length);
    this.#spareBytes -= length;
    return spare;
  }

  /** Nobody uses it any more. Lengths that are not in use any more give way to those that are. */
  give(buffer: Buffer): void {
    const { length } = buffer;
    const spares = this.#spares.get(length) ?? [];
    this.#spares.delete(length);
    this.#spares.set(length, spares);
    spares.push(buffer);
    this.#spareBytes += length;
    while (this.#spareBytes > spareBytesMax) this.#dropOne();
  }

  #dropOne(): void {
    for (const [length, spares] of this.#spares) {
      if (spares.pop() === undefined) {
        this.#spares.delete(length);
        continue;
      }
      this.#spareBytes -= length;
      return;
    }
  }
}
