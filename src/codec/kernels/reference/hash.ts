/** Hash and sketch: docs/formats/codec.md. */
import { layout } from "../layout.ts";
import type { PlainMemory } from "./memory.ts";

const p1 = 0x9e3779b1;
const p2 = 0x85ebca77;
const p3 = 0xc2b2ae3d;
const orders = [p1, p2, p3, 0x27d4eb2f] as const;

function mix(a: number, x: number, p: number): number {
  const m = Math.imul(a ^ x, p);
  return m ^ (m >>> 15);
}

export class PlainHash {
  readonly #memory: PlainMemory;
  /** Sixteen numbers of 32 bits. */
  readonly #lanes = new Int32Array(16);
  /** Of the last page: the sum of the words in each of sixteen columns, then of those sums as they grew. */
  readonly #sums = new Int32Array(32);

  constructor(memory: PlainMemory) {
    this.#memory = memory;
  }

  begin(seed: number): void {
    for (let i = 0; i < 16; i++) this.#lanes[i] = Math.imul(i + seed, p1);
  }

  update(at: number, bytes: number): void {
    const { bytes: memory } = this.#memory;
    const lanes = this.#lanes;
    const whole = bytes - (bytes % 64);
    this.stripes(at, whole);
    memory.fill(0, layout.tailAt, layout.tailAt + 64);
    memory.copyWithin(layout.tailAt, at + whole, at + bytes);
    this.#stripe(layout.tailAt);
    for (let i = 0; i < 16; i++) lanes[i] = mix(lanes[i] as number, bytes, p2);
  }

  /** `bytes` are a multiple of 64. */
  stripes(at: number, bytes: number): void {
    for (let i = 0; i < bytes; i += 64) this.#stripe(at + i);
  }

  #stripe(at: number): void {
    this.#take((i) => this.#memory.u32(at + 4 * i));
  }

  #take(word: (i: number) => number): void {
    const lanes = this.#lanes;
    for (let i = 0; i < 16; i++) {
      lanes[i] = mix(lanes[i] as number, word(i), p2) + word((i + 4) % 16);
    }
  }

  /** Adds up a page, for `sums` and `hint`. */
  sum(at: number): void {
    const sums = this.#sums.fill(0);
    const [own, grown] = [sums.subarray(0, 16), sums.subarray(16)];
    for (let row = at; row < at + layout.pageBytes; row += 64) {
      const before = grown.slice();
      // Four times 16 bytes, each turned by five.
      const from = (four: number, lane: number): number => before[four + (lane % 4)] as number;
      for (let i = 0; i < 16; i++) {
        own[i] = (own[i] as number) + this.#memory.u32(row + 4 * i);
        const [four, lane] = [i - (i % 4), i % 4];
        const turned = (from(four, lane + 1) >>> 8) | (from(four, lane + 2) << 24);
        grown[i] = turned + (own[i] as number);
      }
    }
  }

  /** Takes the last page's sums, as two stripes. */
  sums(): void {
    for (const from of [0, 16]) this.#take((i) => this.#sums[from + i] as number);
  }

  /** A number from the last page's sums by which equal pages are looked for. */
  hint(): number {
    let all = 0;
    for (const [i, order] of orders.entries()) {
      let m = 0;
      for (let j = 16 + i; j < 32; j += 4) m = Math.imul(m, p2) + (this.#sums[j] as number);
      all += Math.imul((m | 0) ^ ((m | 0) >>> 15), order);
    }
    return ((all | 0) ^ ((all | 0) >>> 15)) >>> 0;
  }

  end(): void {
    const lane = (i: number): number => this.#lanes[i] as number;
    let h = [0, 1, 2, 3].map((i) => {
      const first = mix(lane(i), lane(4 + ((i + 1) % 4)), p3);
      return mix(mix(first, lane(8 + ((i + 2) % 4)), p3), lane(12 + ((i + 3) % 4)), p3);
    });
    for (const [turn, shift] of [
      [1, 13],
      [2, 16],
    ] as const) {
      h = h.map((one, i) => (one + Math.imul(h[(i + turn) % 4] as number, p1)) | 0);
      h = h.map((one) => one ^ (one >>> shift));
    }
    for (const [i, one] of h.entries()) this.#memory.setU32(layout.hashAt + 4 * i, one >>> 0);
  }

  /** A page's own hash; the one under way goes on behind it. */
  page(at: number): void {
    const underWay = this.#lanes.slice();
    this.begin(0);
    this.stripes(at, layout.pageBytes);
    this.end();
    this.#lanes.set(underWay);
  }

  sketch(at: number): void {
    const least = [none, none, none, none];
    for (let block = 0; block < 64; block++) {
      const hash = this.#block(at + 64 * block);
      if (hash === undefined) continue;
      for (const [i, order] of orders.entries()) {
        let m = Math.imul(hash + Math.imul(block, p1), order);
        m = Math.imul(m ^ (m >>> 15), p2) >>> 0;
        least[i] = Math.min(least[i] as number, m);
      }
    }
    for (const [i, one] of least.entries()) this.#memory.setU32(layout.sketchAt + 4 * i, one);
  }

  /** Undefined for 64 zeros. */
  #block(at: number): number | undefined {
    let sum = 0;
    let any = 0;
    for (let lane = 0; lane < 4; lane++) {
      let m = 0;
      for (let row = 0; row < 4; row++) {
        const x = this.#memory.u32(at + 16 * row + 4 * lane);
        any |= x;
        m = row === 0 ? x : (Math.imul(m, p2) + x) | 0;
        if (row > 0) m ^= m >>> 15;
      }
      sum = (sum + Math.imul(m, orders[lane] as number)) | 0;
    }
    return any === 0 ? undefined : sum;
  }
}

const none = 0xffffffff;
