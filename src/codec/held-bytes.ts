import { assert } from "../base/index.ts";

/**
 * Decoded records that are still to be written somewhere. A few hundred bytes on the wire may become a whole batch here, so
 * the window of bytes in flight does not bound this memory: whoever feeds the decoders stops while it `isFull`.
 */
export class HeldBytes {
  readonly #bytesMax: number;
  readonly #onRoom: () => void;
  #bytes = 0;
  #isFull = false;

  constructor(bytesMax: number, onRoom: () => void) {
    this.#bytesMax = bytesMax;
    this.#onRoom = onRoom;
  }

  /** True from when there is too much until half of it is gone, so that feeding does not stutter. */
  get isFull(): boolean {
    return this.#isFull;
  }

  hold(bytes: number): () => void {
    this.#bytes += bytes;
    if (this.#bytes > this.#bytesMax) this.#isFull = true;
    let isHeld = true;
    return () => {
      assert(isHeld, "records released more often than held");
      isHeld = false;
      this.#bytes -= bytes;
      if (!this.#isFull || this.#bytes > this.#bytesMax / 2) return;
      this.#isFull = false;
      this.#onRoom();
    };
  }
}
