// Reading and writing the control block, varints, and keys of pages.

@inline export function get(field: u32): u32 {
  return load<u32>(field << 2);
}
@inline export function set(field: u32, value: u32): void {
  store<u32>(field << 2, value);
}
@inline export function add(field: u32, value: u32): void {
  store<u32>(field << 2, load<u32>(field << 2) + value);
}

/** Seven bits a byte, the lowest first. Answers where it ends. */
export function writeVarint(at: u32, value: u64): u32 {
  while (value >= 128) {
    store<u8>(at++, <u8>(value | 128));
    value >>= 7;
  }
  store<u8>(at++, <u8>value);
  return at;
}

/** 0, -1, 1, -2 … become 0, 1, 2, 3 … */
@inline export function zigzag(value: i64): u64 {
  return (value << 1) ^ (value >> 63);
}
@inline export function unzigzag(value: u64): i64 {
  return <i64>(value >> 1) ^ -(<i64>(value & 1));
}

/** What the last `readVarint` read. */
export let varint: u64 = 0;

/** At most 8 bytes, 56 bits. Answers where it ends, or 0. */
export function readVarint(at: u32, end: u32): u32 {
  let value: u64 = 0;
  for (let shift: u64 = 0; shift < 56; shift += 7) {
    if (at >= end) return 0;
    const byte = load<u8>(at++);
    value |= <u64>(byte & 127) << shift;
    if (byte < 128) {
      varint = value;
      return at;
    }
  }
  return 0;
}

/** Pages from 2^48 on are not kept: their key would not be theirs alone. */
@inline export function keyOf(block: u32, page: u64): u64 {
  return (<u64>block << 48) | page;
}

export function isZero(at: u32): bool {
  for (let end = at + 4096; at < end; at += 64) {
    const any = v128.or(
      v128.or(v128.load(at), v128.load(at, 16)),
      v128.or(v128.load(at, 32), v128.load(at, 48)),
    );
    if (v128.any_true(any)) return false;
  }
  return true;
}

export function isEqual(a: u32, b: u32): bool {
  for (let end = a + 4096; a < end; a += 64, b += 64) {
    const any = v128.or(
      v128.or(v128.xor(v128.load(a), v128.load(b)), v128.xor(v128.load(a, 16), v128.load(b, 16))),
      v128.or(
        v128.xor(v128.load(a, 32), v128.load(b, 32)),
        v128.xor(v128.load(a, 48), v128.load(b, 48)),
      ),
    );
    if (v128.any_true(any)) return false;
  }
  return true;
}

@inline export function copyBlock(to: u32, from: u32): void {
  v128.store(to, v128.load(from));
  v128.store(to, v128.load(from, 16), 16);
  v128.store(to, v128.load(from, 32), 32);
  v128.store(to, v128.load(from, 48), 48);
}

/** Copies a page; both lie apart. */
export function copyPage(to: u32, from: u32): void {
  for (let end = from + 4096; from < end; from += 64, to += 64) copyBlock(to, from);
}

/** Copies a page to two places. */
export function copyPageTwice(to: u32, also: u32, from: u32): void {
  for (let end = from + 4096; from < end; from += 64, to += 64, also += 64) {
    const x0 = v128.load(from);
    const x1 = v128.load(from, 16);
    const x2 = v128.load(from, 32);
    const x3 = v128.load(from, 48);
    v128.store(to, x0);
    v128.store(to, x1, 16);
    v128.store(to, x2, 32);
    v128.store(to, x3, 48);
    v128.store(also, x0);
    v128.store(also, x1, 16);
    v128.store(also, x2, 32);
    v128.store(also, x3, 48);
  }
}
