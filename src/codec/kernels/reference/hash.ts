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
    const lanes = this.#lanes;
    for (let i = 0; i < 16; i++) {
      const here = this.#memory.u32(at + 4 * i);
      const beside = this.#memory.u32(at + 4 * ((i + 4) % 16));
      lanes[i] = mix(lanes[i] as number, here, p2) + beside;
    }
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
