// Differences of two pages, as words or as runs of bytes.
import { PAGE_BYTES } from "./layout";
import { copyBlock, readVarint, varint, writeVarint } from "./memory";

/** Bit i: word i of the 64 bytes at `a` and `b` differs. */
@inline function differ(a: u32, b: u32): u32 {
  const e0 = i64x2.eq(v128.load(a), v128.load(b));
  const e1 = i64x2.eq(v128.load(a, 16), v128.load(b, 16));
  const e2 = i64x2.eq(v128.load(a, 32), v128.load(b, 32));
  const e3 = i64x2.eq(v128.load(a, 48), v128.load(b, 48));
  const low = v128.shuffle<i32>(e0, e1, 0, 2, 4, 6);
  const high = v128.shuffle<i32>(e2, e3, 0, 2, 4, 6);
  const words = i16x8.narrow_i32x4_s(low, high);
  return ~i8x16.bitmask(i8x16.narrow_i16x8_s(words, words)) & 255;
}

/** What `wordDelta` left: bit i says that byte i of the mask is not 0; and where those bytes end. */
export let top: u64 = 0;
export let masksEnd: u32 = 0;

/**
 * Writes the words of `page` in which it differs from `old` at `wordsAt`, and those bytes of the mask that are not 0 at
 * `masksAt`. Answers how many words, or something above `wordsMax`, whereupon the rest means nothing. With `update` `old` becomes
 * `page`, unless it is too many. Writes at most 8 * (wordsMax + 8) bytes of words, and 64 of mask.
 */
export function wordDelta(page: u32, old: u32, wordsAt: u32, masksAt: u32, wordsMax: u32, update: bool): u32 {
  let at = wordsAt;
  let masks = masksAt;
  let tops: u64 = 0;
  const stop = wordsAt + (wordsMax << 3);
  for (let i: u64 = 0; i < 64; i++, page += 64, old += 64) {
    let mask = differ(page, old);
    if (mask == 0) continue;
    tops |= <u64>1 << i;
    store<u8>(masks++, <u8>mask);
    if (update) copyBlock(old, page);
    if (mask == 255) {
      copyBlock(at, page);
      at += 64;
    } else {
      for (; mask != 0; mask &= mask - 1, at += 8) {
        store<u64>(at, load<u64>(page + (ctz(mask) << 3)));
      }
    }
    if (at > stop) return wordsMax + 1;
  }
  top = tops;
  masksEnd = masks;
  return (at - wordsAt) >> 3;
}

/** How many words differ, or something above `wordsMax`. */
export function wordDistance(page: u32, old: u32, wordsMax: u32): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < 64; i++, page += 64, old += 64) {
    count += popcnt(differ(page, old));
    if (count > wordsMax) break;
  }
  return count;
}

/** Where `runDelta` came to. */
export let runsEnd: u32 = 0;
export let bytesEnd: u32 = 0;

/** First place from `at` on, below 4096, where the pages differ (`same` false: are equal), or 4096. */
function next(page: u32, old: u32, at: u32, same: bool): u32 {
  while (at < PAGE_BYTES && (at & 15) != 0) {
    if ((load<u8>(page + at) == load<u8>(old + at)) != same) return at;
    at++;
  }
  for (; at < PAGE_BYTES; at += 16) {
    const equal: u32 = i8x16.bitmask(i8x16.eq(v128.load(page + at), v128.load(old + at)));
    const found = same ? equal ^ 0xffff : equal;
    if (found != 0) return at + ctz(found);
  }
  return PAGE_BYTES;
}

/**
 * As `wordDelta`, by bytes: pairs of varints (so many equal, so many not), the last one without its second half when it ends
 * with the page, and the bytes. Answers 0 when equal, else the bytes written, or something above `bytesMax`.
 */
export function runDelta(page: u32, old: u32, runsAt: u32, bytesAt: u32, bytesMax: u32, update: bool): u32 {
  let runs = runsAt;
  let bytes = bytesAt;
  let at: u32 = 0;
  while (at < PAGE_BYTES) {
    const from = next(page, old, at, true);
    if (from == PAGE_BYTES && at == 0) return 0;
    runs = writeVarint(runs, from - at);
    if (from == PAGE_BYTES) break;
    at = next(page, old, from, false);
    runs = writeVarint(runs, at - from);
    const length = at - from;
    if (runs - runsAt + (bytes - bytesAt) + length > bytesMax) return bytesMax + 1;
    memory.copy(bytes, page + from, length);
    if (update) memory.copy(old + from, page + from, length);
    bytes += length;
  }
  runsEnd = runs;
  bytesEnd = bytes;
  return runs - runsAt + (bytes - bytesAt);
}

/**
 * Writes `old` to `out`, changed by the words at `words` where the mask says so: its bytes that are not 0 lie at `masks`, which
 * they are says `tops`. With `update` the changes go to `old` too. The caller has checked that there is so much.
 */
export function applyWords(old: u32, out: u32, words: u32, masks: u32, tops: u64, update: bool): u32 {
  for (let i: u64 = 0; i < 64; i++, old += 64, out += 64) {
    if (((tops >> i) & 1) == 0) {
      copyBlock(out, old);
      continue;
    }
    let mask = <u32>load<u8>(masks++);
    if (mask == 255) {
      copyBlock(out, words);
      if (update) copyBlock(old, words);
      words += 64;
      continue;
    }
    copyBlock(out, old);
    for (; mask != 0; mask &= mask - 1, words += 8) {
      const at = ctz(mask) << 3;
      const word = load<u64>(words);
      store<u64>(out + at, word);
      if (update) store<u64>(old + at, word);
    }
  }
  return words;
}

/** Changes `out`, which is the old page, by runs of [runs, runsStop) and bytes of [bytes, bytesStop). Answers whether it could. */
export function applyRuns(out: u32, runs: u32, runsStop: u32, bytes: u32, bytesStop: u32): bool {
  let at: u32 = 0;
  while (at < PAGE_BYTES) {
    runs = readVarint(runs, runsStop);
    if (runs == 0 || varint > PAGE_BYTES - at) return false;
    at += <u32>varint;
    if (at == PAGE_BYTES) break;
    runs = readVarint(runs, runsStop);
    if (runs == 0 || varint > PAGE_BYTES - at || varint > bytesStop - bytes) return false;
    const length = <u32>varint;
    memory.copy(out + at, bytes, length);
    at += length;
    bytes += length;
  }
  runsEnd = runs;
  bytesEnd = bytes;
  return true;
}
