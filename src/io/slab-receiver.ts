/**
 * Receives a byte stream into a few large slabs of memory that are allocated once, so that what arrives can be parsed and
 * sent on without being copied.
 *
 *   slab 0  [ parsed and sent on … | parsed, still being written | unparsed | free ]   ← the socket reads straight into "free"
 *   slab 1  [ still being written ]
 *   slab 2  [ free ]
 *
 * A slab is left when little room remains; its unparsed end (part of one record or frame) is copied to the start of the
 * next one. It is used again once nobody holds a range of it: holders call `hold` and `release`. With no free slab the
 * socket is not read, so back-pressure reaches the sender, and memory stays at slabCount x slabBytes.
 */
import type { Socket } from "node:net";
import { assert } from "../base/index.ts";

export interface SlabOptions {
  readonly slabBytes: number;
  readonly slabCount: number;
  /** Longest item that must lie in one piece; a slab is left when less than this is free. */
  readonly itemBytesMax: number;
}

export const defaultSlabOptions: SlabOptions = {
  slabBytes: 4 << 20,
  slabCount: 4,
  itemBytesMax: 1 << 20,
};

/** One piece of memory; `holders` counts ranges that are still to be written somewhere. */
export class Slab {
  readonly bytes: Uint8Array;
  holders = 0;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** Parses what has arrived in `slab.bytes[from, to)`; answers how far it came. */
export type SlabConsumer = (slab: Slab, from: number, to: number) => number;

/**
 * Room kept at the end of a slab by ordinary reads. Node asks for the next read's memory *before* it stops reading, so a
 * receiver that pauses has already promised the rest of its slab to the first read after the pause: there must be some.
 */
const reserveBytes = 64 << 10;

export class SlabReceiver {
  readonly #options: SlabOptions;
  readonly #consume: SlabConsumer;
  readonly #starves: (starving: boolean) => void;
  #isStarving = false;
  readonly #slabs: Slab[];
  #current: Slab;
  /** Unparsed bytes of the current slab: [#from, #to). */
  #from = 0;
  #to = 0;
  /** The socket was told to stop; only `#resume` starts it again. */
  #paused = false;
  /** The owner wants nothing parsed for now. */
  #held = false;
  #consuming = false;
  #again = false;
  /** True when Node keeps the memory for the next read, so that a slab may only be changed between a read and the next. */
  #roomIsPromised = false;
  #wake: () => void = () => {};

  /** `starves`: whether nothing is read for want of a free slab; told when that changes. */
  constructor(
    options: SlabOptions,
    consume: SlabConsumer,
    starves: (starving: boolean) => void = () => {},
  ) {
    assert(options.slabCount >= 2, "with one slab nothing could move on");
    assert(options.itemBytesMax * 3 <= options.slabBytes, "items are small beside a slab");
    assert(options.itemBytesMax > reserveBytes, "an item is larger than the reserve");
    this.#options = options;
    this.#consume = consume;
    this.#starves = starves;
    this.#slabs = Array.from(
      { length: options.slabCount },
      () => new Slab(Buffer.allocUnsafeSlow(options.slabBytes)),
    );
    this.#current = this.#slabs[0] as Slab;
  }

  /** Bytes that have arrived and that the consumer has not taken. */
  get unparsedBytes(): number {
    return this.#to - this.#from;
  }

  /** True while the socket is not read, because nothing is free or the owner holds back. */
  get isPaused(): boolean {
    return this.#paused;
  }

  hold(slab: Slab): void {
    slab.holders++;
  }

  release(slab: Slab): void {
    slab.holders--;
    assert(slab.holders >= 0, "a slab released more often than held");
    if (this.#paused && slab.holders === 0) this.#resume();
  }

  /** True between `holdBack` and `goOn`: a consumer that sees it takes no further item. */
  get isHeldBack(): boolean {
    return this.#held;
  }

  /** Stops parsing at once and reading soon, until `goOn`: how a migration is paced. */
  holdBack(): void {
    this.#held = true;
  }

  goOn(): void {
    if (!this.#held) return;
    this.#held = false;
    if (this.#paused) this.#resume();
    else this.#parse();
  }

  /** Option `onread` for `new net.Socket`: the kernel's bytes go straight into the current slab. */
  onread(): { buffer: () => Uint8Array; callback: (count: number) => boolean } {
    this.#roomIsPromised = true;
    return {
      buffer: () => this.#room(),
      callback: (count) => this.#arrived(count),
    };
  }

  /** Ties pausing and resuming to the socket that was opened with `onread()`. */
  attach(socket: Socket): void {
    this.#wake = () => {
      socket.resume();
    };
  }

  /** For sockets that cannot read into given memory (TLS servers): copies each chunk in. */
  attachChunks(socket: Socket): void {
    let waiting: Uint8Array | undefined;
    const take = (): void => {
      while (waiting !== undefined && !this.#paused) {
        const room = this.#current.bytes.subarray(this.#to);
        const count = Math.min(room.length, waiting.length);
        room.set(waiting.subarray(0, count));
        waiting = count === waiting.length ? undefined : waiting.subarray(count);
        this.#arrived(count);
      }
      if (this.#paused) socket.pause();
      else socket.resume();
    };
    socket.on("data", (chunk: Uint8Array) => {
      waiting = waiting === undefined ? chunk : Buffer.concat([waiting, chunk]);
      take();
    });
    this.#wake = take;
  }

  #room(): Uint8Array {
    const { slabBytes } = this.#options;
    // The very end only when little is left: else the read after a pause could fill the slab, and leave nothing to promise.
    const isLast = this.#paused && slabBytes - this.#to <= 2 * reserveBytes;
    return this.#current.bytes.subarray(this.#to, isLast ? slabBytes : slabBytes - reserveBytes);
  }

  /** Answers false to stop reading. */
  #arrived(count: number): boolean {
    this.#to += count;
    if (!this.#held) this.#parse();
    return this.#settle();
  }

  /** The consumer may release slabs or hold back while it runs, which may call for another parse: that is done here, flat. */
  #parse(): void {
    if (this.#consuming) {
      this.#again = true;
      return;
    }
    this.#consuming = true;
    try {
      do {
        this.#again = false;
        if (this.#to > this.#from) this.#from = this.#consume(this.#current, this.#from, this.#to);
      } while (this.#again && !this.#held);
    } finally {
      this.#consuming = false;
    }
  }

  /** After a read: moves on to a free slab when this one is nearly full. Answers false, and pauses, when reading must stop. */
  #settle(): boolean {
    const free = this.#options.slabBytes - this.#to;
    const isFull = this.#held ? free < reserveBytes : free < this.#options.itemBytesMax;
    const moved = isFull && this.#moveOn();
    this.#paused = this.#held || (isFull && !moved);
    this.#starving(isFull && !moved);
    return !this.#paused;
  }

  #moveOn(): boolean {
    const unparsed = this.#to - this.#from;
    const idle = this.#current.holders === 0 && unparsed <= this.#from;
    const next = idle ? this.#current : this.#otherFreeSlab();
    if (next === undefined) return false;
    assert(unparsed + reserveBytes < this.#options.slabBytes, "an item longer than itemBytesMax");
    next.bytes.set(this.#current.bytes.subarray(this.#from, this.#to), 0);
    this.#current = next;
    this.#from = 0;
    this.#to = unparsed;
    return true;
  }

  #otherFreeSlab(): Slab | undefined {
    return this.#slabs.find((slab) => slab !== this.#current && slab.holders === 0);
  }

  /** Starts reading again if the read to come has somewhere to go, and so has what follows it. */
  #resume(): void {
    if (this.#held) return;
    if (this.#consuming) {
      // Called from within the consumer: its caller settles.
      return;
    }
    this.#parse();
    if (this.#held) return;
    const free = this.#options.slabBytes - this.#to;
    if (free < this.#options.itemBytesMax) {
      if (!this.#roomIsPromised) {
        if (!this.#moveOn()) return this.#starving(true);
      } else if (this.#otherFreeSlab() === undefined) return this.#starving(true);
    }
    this.#paused = false;
    this.#starving(false);
    this.#wake();
  }

  #starving(now: boolean): void {
    if (now === this.#isStarving) return;
    this.#isStarving = now;
    this.#starves(now);
  }
}
