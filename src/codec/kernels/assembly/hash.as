// Hash and sketch (docs/formats/codec.md). Arithmetic of 32 bits, so that plain JavaScript can do the same.
import { HASH_AT, SKETCH_AT, TAIL_AT } from "./layout";

const P1: u32 = 0x9e3779b1;
const P2: u32 = 0x85ebca77;
const P3: u32 = 0xc2b2ae3d;

let a0: v128 = i32x4.splat(0);
let a1: v128 = i32x4.splat(0);
let a2: v128 = i32x4.splat(0);
let a3: v128 = i32x4.splat(0);

@inline function mix(a: v128, x: v128, p: v128): v128 {
  const m = i32x4.mul(v128.xor(a, x), p);
  return v128.xor(m, i32x4.shr_u(m, 15));
}

export function hashBegin(seed: u32): void {
  const lanes = i32x4(0, 1, 2, 3);
  const s = i32x4.splat(seed);
  const p = i32x4.splat(P1);
  a0 = i32x4.mul(i32x4.add(lanes, s), p);
  a1 = i32x4.mul(i32x4.add(i32x4.add(lanes, i32x4.splat(4)), s), p);
  a2 = i32x4.mul(i32x4.add(i32x4.add(lanes, i32x4.splat(8)), s), p);
  a3 = i32x4.mul(i32x4.add(i32x4.add(lanes, i32x4.splat(12)), s), p);
}

/** Takes [at, at + bytes), a multiple of 64. */
export function hashStripes(at: u32, bytes: u32): void {
  const p = i32x4.splat(P2);
  let b0 = a0;
  let b1 = a1;
  let b2 = a2;
  let b3 = a3;
  for (let end = at + bytes; at < end; at += 64) {
    const x0 = v128.load(at);
    const x1 = v128.load(at, 16);
    const x2 = v128.load(at, 32);
    const x3 = v128.load(at, 48);
    b0 = i32x4.add(mix(b0, x0, p), x1);
    b1 = i32x4.add(mix(b1, x1, p), x2);
    b2 = i32x4.add(mix(b2, x2, p), x3);
    b3 = i32x4.add(mix(b3, x3, p), x0);
  }
  a0 = b0;
  a1 = b1;
  a2 = b2;
  a3 = b3;
}

/** The last page's sums: of the words in each of sixteen columns, and of those sums as they grew, turned from row to row. */
let s0: v128 = i32x4.splat(0);
let s1: v128 = i32x4.splat(0);
let s2: v128 = i32x4.splat(0);
let s3: v128 = i32x4.splat(0);
let t0: v128 = i32x4.splat(0);
let t1: v128 = i32x4.splat(0);
let t2: v128 = i32x4.splat(0);
let t3: v128 = i32x4.splat(0);

/** By five bytes, so that what the same bit adds in one row after another comes to lie at sixteen places. */
@inline function turned(d: v128): v128 {
  return v128.shuffle<u8>(d, d, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4);
}

/** Adds up the page at `at`, for `hashSums`, `hasSums` and `sumsHint`. */
export function sumPage(at: u32): void {
  let b0 = i32x4.splat(0);
  let b1 = i32x4.splat(0);
  let b2 = i32x4.splat(0);
  let b3 = i32x4.splat(0);
  let c0 = i32x4.splat(0);
  let c1 = i32x4.splat(0);
  let c2 = i32x4.splat(0);
  let c3 = i32x4.splat(0);
  for (let end = at + 4096; at < end; at += 64) {
    b0 = i32x4.add(b0, v128.load(at));
    b1 = i32x4.add(b1, v128.load(at, 16));
    b2 = i32x4.add(b2, v128.load(at, 32));
    b3 = i32x4.add(b3, v128.load(at, 48));
    c0 = i32x4.add(turned(c0), b0);
    c1 = i32x4.add(turned(c1), b1);
    c2 = i32x4.add(turned(c2), b2);
    c3 = i32x4.add(turned(c3), b3);
  }
  s0 = b0;
  s1 = b1;
  s2 = b2;
  s3 = b3;
  t0 = c0;
  t1 = c1;
  t2 = c2;
  t3 = c3;
}

/** Whether the last page's sums are anything but zeros. */
export function hasSums(): bool {
  const s = v128.or(v128.or(s0, s1), v128.or(s2, s3));
  const t = v128.or(v128.or(t0, t1), v128.or(t2, t3));
  return v128.any_true(v128.or(s, t));
}

/** A number from the last page's sums by which equal pages are looked for. */
export function sumsHint(): u32 {
  const p = i32x4.splat(P2);
  let m = i32x4.add(i32x4.mul(t0, p), t1);
  m = i32x4.add(i32x4.mul(m, p), t2);
  m = i32x4.add(i32x4.mul(m, p), t3);
  m = v128.xor(m, i32x4.shr_u(m, 15));
  m = i32x4.mul(m, i32x4(0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f));
  m = i32x4.add(m, v128.shuffle<i32>(m, m, 2, 3, 0, 1));
  m = i32x4.add(m, v128.shuffle<i32>(m, m, 1, 0, 3, 2));
  const h = <u32>i32x4.extract_lane(m, 0);
  return h ^ (h >> 15);
}

/** Takes the last page's sums, as two stripes. */
export function hashSums(): void {
  const p = i32x4.splat(P2);
  const b0 = i32x4.add(mix(a0, s0, p), s1);
  const b1 = i32x4.add(mix(a1, s1, p), s2);
  const b2 = i32x4.add(mix(a2, s2, p), s3);
  const b3 = i32x4.add(mix(a3, s3, p), s0);
  a0 = i32x4.add(mix(b0, t0, p), t1);
  a1 = i32x4.add(mix(b1, t1, p), t2);
  a2 = i32x4.add(mix(b2, t2, p), t3);
  a3 = i32x4.add(mix(b3, t3, p), t0);
}

/** Takes the page at `at` by its sums. */
export function hashPageSums(at: u32): void {
  sumPage(at);
  hashSums();
}

/** Takes [at, at + bytes), filled with zeros to a multiple of 64, then the length. */
export function hashUpdate(at: u32, bytes: u32): void {
  const whole = bytes & ~63;
  hashStripes(at, whole);
  memory.fill(TAIL_AT, 0, 64);
  memory.copy(TAIL_AT, at + whole, bytes & 63);
  hashStripes(TAIL_AT, 64);
  const p = i32x4.splat(P2);
  const n = i32x4.splat(bytes);
  a0 = mix(a0, n, p);
  a1 = mix(a1, n, p);
  a2 = mix(a2, n, p);
  a3 = mix(a3, n, p);
}

/** Leaves 16 bytes at HASH_AT. */
export function hashEnd(): void {
  const p = i32x4.splat(P3);
  // Each of the four answers hears of all sixteen lanes.
  const r1 = v128.shuffle<i32>(a1, a1, 1, 2, 3, 0);
  const r2 = v128.shuffle<i32>(a2, a2, 2, 3, 0, 1);
  const r3 = v128.shuffle<i32>(a3, a3, 3, 0, 1, 2);
  let h = mix(mix(mix(a0, r1, p), r2, p), r3, p);
  const q = i32x4.splat(P1);
  h = i32x4.add(h, i32x4.mul(v128.shuffle<i32>(h, h, 1, 2, 3, 0), q));
  h = v128.xor(h, i32x4.shr_u(h, 13));
  h = i32x4.add(h, i32x4.mul(v128.shuffle<i32>(h, h, 2, 3, 0, 1), q));
  h = v128.xor(h, i32x4.shr_u(h, 16));
  v128.store(HASH_AT, h);
}

/** Leaves a page's own 16 bytes at HASH_AT; the hash under way goes on behind it. */
export function hashPage(at: u32): void {
  const b0 = a0;
  const b1 = a1;
  const b2 = a2;
  const b3 = a3;
  hashBegin(0);
  hashStripes(at, 4096);
  hashEnd();
  a0 = b0;
  a1 = b1;
  a2 = b2;
  a3 = b3;
}

/** Four minima over the page's blocks of 64 bytes that are not zero: what similar pages have in common, 16 bytes at SKETCH_AT. */
export function sketchPage(at: u32): void {
  const p = i32x4.splat(P2);
  const q = i32x4(0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f);
  let least = i32x4.splat(-1);
  for (let block: u32 = 0; block < 64; block++, at += 64) {
    const x0 = v128.load(at);
    const x1 = v128.load(at, 16);
    const x2 = v128.load(at, 32);
    const x3 = v128.load(at, 48);
    if (!v128.any_true(v128.or(v128.or(x0, x1), v128.or(x2, x3)))) continue;
    let m = i32x4.add(i32x4.mul(x0, p), x1);
    m = v128.xor(m, i32x4.shr_u(m, 15));
    m = i32x4.add(i32x4.mul(m, p), x2);
    m = v128.xor(m, i32x4.shr_u(m, 15));
    m = i32x4.add(i32x4.mul(m, p), x3);
    m = v128.xor(m, i32x4.shr_u(m, 15));
    m = i32x4.mul(m, q);
    m = i32x4.add(m, v128.shuffle<i32>(m, m, 2, 3, 0, 1));
    m = i32x4.add(m, v128.shuffle<i32>(m, m, 1, 0, 3, 2));
    // All lanes hold the block's hash; four orders of blocks follow from it, different in each place of the page.
    m = i32x4.mul(i32x4.add(m, i32x4.splat(block * P1)), q);
    m = v128.xor(m, i32x4.shr_u(m, 15));
    m = i32x4.mul(m, p);
    least = i32x4.min_u(least, m);
  }
  v128.store(SKETCH_AT, least);
}
