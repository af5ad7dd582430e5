// Streams become records again. Nothing in them is trusted: every read is checked against the end of its stream.
import { applyRuns, applyWords, bytesEnd, runsEnd } from "./delta";
import { hashBegin, hashPage, hashPageSums } from "./hash";
import {
  BAD_KEY,
  BAD_KIND,
  BAD_LENGTH,
  BAD_MASK,
  BAD_PAGE,
  BAD_REST,
  BAD_SHARED,
  BAD_SLOT,
  BODY_AT,
  COUNT_COUNT,
  COUNTS,
  HASH_AT,
  HEADER_BYTES,
  HIGH,
  HISTORY_AT,
  KEYS_AT,
  KIND_COPY,
  KIND_DELTA,
  KIND_RAW,
  KIND_SAME,
  KIND_SHARED,
  KIND_SHARED_SIMILAR,
  KIND_SIMILAR,
  KIND_SPARSE,
  KIND_ZERO,
  KIND_ZERO_FULL,
  LENGTHS,
  METHODS,
  OK,
  PAGE_RECORD_BYTES,
  SLOT_COUNT,
  USE_SHARED,
  USE_XBZRLE,
  ZERO_PAGE_AT,
  ZERO_RECORD_BYTES,
} from "./layout";
import { add, copyPage, get, keyOf, readVarint, set, unzigzag, varint } from "./memory";

/** Puts the page whose hash is at HASH_AT to `to`; answers whether there is one. */
@external("host", "sharedLoad") declare function sharedLoad(to: u32): u32;
/** Keeps the page at `page`, whose hash is at HASH_AT, in a slot; answers whether there may be such a slot. */
@external("host", "sharedKeep") declare function sharedKeep(page: u32, slot: u32): u32;

let kinds: u32 = 0;
let kindsEnd: u32 = 0;
let pages: u32 = 0;
let pagesEnd: u32 = 0;
let slots: u32 = 0;
let slotsEnd: u32 = 0;
let tops: u32 = 0;
let topsEnd: u32 = 0;
let masks: u32 = 0;
let masksEnd: u32 = 0;
let words: u32 = 0;
let wordsEnd: u32 = 0;
let refs: u32 = 0;
let refsEnd: u32 = 0;
let raws: u32 = 0;
let rawsEnd: u32 = 0;

let lastSlot: u64 = 0;
let lastPage: u64 = 0;
let history: u32 = 0;

/** The lengths at LENGTHS are checked by the caller: together they end inside the body's memory. */
function begin(): void {
  for (let i: u32 = 0; i < COUNT_COUNT; i++) set(COUNTS + i, 0);
  kinds = BODY_AT + HEADER_BYTES;
  pages = kindsEnd = kinds + get(LENGTHS);
  slots = pagesEnd = pages + get(LENGTHS + 1);
  tops = slotsEnd = slots + get(LENGTHS + 2);
  masks = topsEnd = tops + get(LENGTHS + 3);
  words = masksEnd = masks + get(LENGTHS + 4);
  refs = wordsEnd = words + get(LENGTHS + 5);
  raws = refsEnd = refs + get(LENGTHS + 6);
  rawsEnd = raws + get(LENGTHS + 7);
  lastSlot = 0;
  lastPage = 0;
  history = get(HISTORY_AT);
}

/** Writes exactly `bytes` of records at `out`, and leaves a hash under way, of all full pages. Answers OK or what is wrong; the history is then of no more use. */
export function decode(out: u32, bytes: u32, block: u32, seed: u32): u32 {
  begin();
  hashBegin(seed);
  const end = out + bytes;
  let page: u64 = 0;
  while (kinds < kindsEnd) {
    const token = <u32>load<u8>(kinds++);
    const kind = token & 15;
    let length: u64 = (token >> 4) + 1;
    if (length == 16) {
      kinds = readVarint(kinds, kindsEnd);
      if (kinds == 0) return BAD_LENGTH;
      length += varint;
    }
    pages = readVarint(pages, pagesEnd);
    if (pages == 0) return BAD_LENGTH;
    page += unzigzag(varint);
    const each = kind == KIND_ZERO ? ZERO_RECORD_BYTES : PAGE_RECORD_BYTES;
    if (length > (end - out) / each) return BAD_LENGTH;
    if (page >= <u64>1 << 52 || page + length > <u64>1 << 52) return BAD_PAGE;
    add(COUNTS + kind, <u32>length);
    for (; length > 0; length--, page++) {
      store<u64>(out, bswap((page << 12) | (kind == KIND_ZERO ? 0x22 : 0x28)));
      if (kind == KIND_ZERO) store<u8>(out + 8, 0);
      else {
        const fault = decodePage(kind, out + 8, block, page);
        if (fault != OK) return fault;
        hashPageSums(out + 8);
      }
      out += each;
    }
  }
  if (out != end) return BAD_LENGTH;
  const isAll =
    pages == pagesEnd && slots == slotsEnd && tops == topsEnd && masks == masksEnd &&
    words == wordsEnd && refs == refsEnd && raws == rawsEnd;
  return isAll ? OK : BAD_REST;
}

/** What the last `readSlot` read: below HIGH, or HIGH itself. */
let slot: u32 = 0;

function readSlot(page: u64): bool {
  slots = readVarint(slots, slotsEnd);
  if (slots == 0) return false;
  const value = lastSlot + (page - lastPage) + <u64>unzigzag(varint);
  if (value > get(HIGH) || value >= get(SLOT_COUNT)) return false;
  lastSlot = value;
  lastPage = page;
  slot = <u32>value;
  return true;
}

/** The mask at hand: which of its bytes are not 0, and where they lie. */
let top: u64 = 0;
let mask: u32 = 0;

/** Whether there is a mask, and as many words as it asks for. */
function readMask(): bool {
  if (topsEnd - tops < 8) return false;
  top = load<u64>(tops);
  tops += 8;
  let rest = <u32>popcnt(top);
  if (masksEnd - masks < rest) return false;
  mask = masks;
  masks += rest;
  let count: u32 = 0;
  let at = mask;
  for (; rest >= 8; rest -= 8, at += 8) count += <u32>popcnt(load<u64>(at));
  for (; rest > 0; rest--) count += popcnt(<u32>load<u8>(at++));
  return count << 3 <= wordsEnd - words;
}

function decodePage(kind: u32, out: u32, block: u32, page: u64): u32 {
  if (kind == KIND_ZERO_FULL) {
    memory.fill(out, 0, 4096);
    return OK;
  }
  if (kind == KIND_SAME || kind == KIND_DELTA) {
    if (!readSlot(page)) return BAD_SLOT;
    if (slot >= get(HIGH) || page >= 0xffffffffffff) return BAD_SLOT;
    if (load<u64>(get(KEYS_AT) + (slot << 3)) != keyOf(block, page)) return BAD_KEY;
    const old = history + (slot << 12);
    if (kind == KIND_DELTA) return decodeDelta(old, out);
    copyPage(out, old);
    return OK;
  }
  const fault = decodeOther(kind & 14, out, page);
  if (fault != OK || (kind & 1) == 0) return fault;
  if (!readSlot(page) || page >= 0xffffffffffff) return BAD_SLOT;
  if (slot == get(HIGH)) set(HIGH, slot + 1);
  store<u64>(get(KEYS_AT) + (slot << 3), keyOf(block, page));
  copyPage(history + (slot << 12), out);
  return OK;
}

function decodeDelta(old: u32, out: u32): u32 {
  if ((get(METHODS) & USE_XBZRLE) == 0) {
    if (!readMask()) return BAD_MASK;
    words = applyWords(old, out, words, mask, top, true);
    return OK;
  }
  copyPage(out, old);
  if (!applyRuns(out, masks, masksEnd, words, wordsEnd)) return BAD_MASK;
  masks = runsEnd;
  words = bytesEnd;
  copyPage(old, out);
  return OK;
}

function decodeOther(kind: u32, out: u32, page: u64): u32 {
  if (kind == KIND_RAW) return decodeRaw(out);
  if (kind == KIND_SPARSE) return decodeWords(ZERO_PAGE_AT, out);
  if (kind == KIND_COPY || kind == KIND_SIMILAR) {
    if (!readSlot(page) || slot >= get(HIGH)) return BAD_SLOT;
    const base = history + (slot << 12);
    if (kind == KIND_SIMILAR) return decodeWords(base, out);
    copyPage(out, base);
    return OK;
  }
  if (kind != KIND_SHARED && kind != KIND_SHARED_SIMILAR) return BAD_KIND;
  if ((get(METHODS) & USE_SHARED) == 0 || refsEnd - refs < 16) return BAD_SHARED;
  v128.store(HASH_AT, v128.load(refs));
  if (sharedLoad(out) == 0) return BAD_SHARED;
  hashPage(out);
  if (v128.any_true(v128.xor(v128.load(HASH_AT), v128.load(refs)))) return BAD_SHARED;
  refs += 16;
  return kind == KIND_SHARED ? OK : decodeWords(out, out);
}

function decodeWords(base: u32, out: u32): u32 {
  if (!readMask()) return BAD_MASK;
  words = applyWords(base, out, words, mask, top, false);
  return OK;
}

function decodeRaw(out: u32): u32 {
  if (rawsEnd - raws < 4096) return BAD_LENGTH;
  copyPage(out, raws);
  raws += 4096;
  if ((get(METHODS) & USE_SHARED) == 0) return OK;
  refs = readVarint(refs, refsEnd);
  if (refs == 0) return BAD_SHARED;
  if (varint == 0) return OK;
  const kept = varint - 1;
  hashPage(out);
  return kept < 0xffffffff && sharedKeep(out, <u32>kept) != 0 ? OK : BAD_SHARED;
}
