// A batch of records becomes streams; the history follows in the same pass.
import { bytesEnd, runDelta, runsEnd, wordDelta, wordDistance } from "./delta";
import { hashBegin, hashPage, hashStripes, sketchPage } from "./hash";
import { admit, findSlot, keyAt, mark, NO_KEY, touch } from "./history";
import {
  BAD_LENGTH,
  BAD_RECORD,
  COPIES_AT,
  COPIES_MASK,
  COUNT_COUNT,
  COUNT_HITS,
  COUNT_MISSES,
  COUNTS,
  DELTA_WORDS_MAX,
  HASH_AT,
  HEADER_BYTES,
  HIGH,
  HIGH_BEFORE,
  HISTORY_AT,
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
  KINDS_AT,
  LENGTHS,
  MASK_AT,
  MASKS_AT,
  METHODS,
  NONE,
  OK,
  PAGE_RECORD_BYTES,
  PAGES_AT,
  RAWS_AT,
  RECORDS,
  REFS_AT,
  SHARED_PAGE_AT,
  SIMILAR_WORDS_MAX,
  SKETCH_AT,
  SKETCHES_AT,
  SKETCHES_MASK,
  SLOT_COUNT,
  SLOTS_AT,
  STREAMS_AT,
  TOPS_AT,
  TOUCHED,
  USE_COPIES,
  USE_DELTA,
  USE_SHARED,
  USE_SIMILAR,
  USE_SPARSE,
  USE_XBZRLE,
  WORDS_AT,
  ZERO_PAGE_AT,
  ZERO_RECORD_BYTES,
} from "./layout";
import { add, copyPage, get, isEqual, isZero, keyOf, set, writeVarint, zigzag } from "./memory";

// Pages of other VMs lie outside this memory. Each is asked about the page at `page`, whose hash lies at HASH_AT.
@external("host", "sharedFind") declare function sharedFind(page: u32): u32;
/** Asks by the sketch at SKETCH_AT; puts a page at SHARED_PAGE_AT and its hash at HASH_AT. */
@external("host", "sharedSimilar") declare function sharedSimilar(): u32;
/** Answers the slot plus one that the page gets, or 0. */
@external("host", "sharedStore") declare function sharedStore(page: u32): u32;

// Ends of the streams.
let kinds: u32 = 0;
let pages: u32 = 0;
let slots: u32 = 0;
let tops: u32 = 0;
let masks: u32 = 0;
let words: u32 = 0;
let refs: u32 = 0;
let raws: u32 = 0;

// What slot numbers are told against: neighbours in memory are mostly neighbours in the history.
let lastSlot: u32 = 0;
let lastPage: u64 = 0;

let methods: u32 = 0;
let history: u32 = 0;

/** Slot of the page at hand, if it may not be a base: its contents differ from what the decoder will have, or it has none. */
let barred: u32 = NONE;

/** Leaves lengths, counts, the joined streams and a hash under way, of all full pages; answers OK, BAD_RECORD for what is no records, BAD_LENGTH for too many. */
export function encode(input: u32, bytes: u32, block: u32, seed: u32): u32 {
  begin();
  hashBegin(seed);
  let at = input;
  const end = input + bytes;
  let expected: u64 = 0;
  let runKind = NONE;
  let runLength: u32 = 0;
  let records: u32 = 0;
  for (; at < end; records++) {
    if (end - at < ZERO_RECORD_BYTES) return BAD_RECORD;
    const word = bswap(load<u64>(at));
    const flags = <u32>word & 0xfff;
    const page = word >> 12;
    let kind = KIND_ZERO;
    if (flags == 0x28) {
      if (end - at < PAGE_RECORD_BYTES) return BAD_RECORD;
      if (raws - RAWS_AT >= 128 * 4096) return BAD_LENGTH;
      // While the page is near.
      hashStripes(at + 8, 4096);
      kind = encodePage(at + 8, block, page);
      at += PAGE_RECORD_BYTES;
    } else {
      if (flags != 0x22 || load<u8>(at + 8) != 0) return BAD_RECORD;
      at += ZERO_RECORD_BYTES;
    }
    add(COUNTS + kind, 1);
    if (kind == runKind && page == expected) runLength++;
    else {
      if (runLength > 0) writeRun(runKind, runLength);
      runKind = kind;
      runLength = 1;
      pages = writeVarint(pages, zigzag(<i64>page - <i64>expected));
    }
    expected = page + 1;
  }
  if (runLength > 0) writeRun(runKind, runLength);
  set(RECORDS, records);
  join();
  return OK;
}

function begin(): void {
  for (let i: u32 = 0; i < COUNT_COUNT; i++) set(COUNTS + i, 0);
  set(TOUCHED, 0);
  set(HIGH_BEFORE, get(HIGH));
  kinds = KINDS_AT;
  pages = PAGES_AT;
  slots = SLOTS_AT;
  tops = TOPS_AT;
  masks = MASKS_AT;
  words = WORDS_AT;
  refs = REFS_AT;
  raws = RAWS_AT;
  lastSlot = 0;
  lastPage = 0;
  methods = get(METHODS);
  history = get(HISTORY_AT);
}

/** Records of one kind whose pages follow one another. */
function writeRun(kind: u32, length: u32): void {
  const short = length < 16 ? length - 1 : 15;
  store<u8>(kinds++, <u8>(kind | (short << 4)));
  if (short == 15) kinds = writeVarint(kinds, length - 16);
}

/** Puts the small streams right before the raw pages, behind room for the header. */
function join(): void {
  const small =
    kinds - KINDS_AT + (pages - PAGES_AT) + (slots - SLOTS_AT) + (tops - TOPS_AT) +
    (masks - MASKS_AT) + (words - WORDS_AT) + (refs - REFS_AT);
  let to = RAWS_AT - small;
  set(STREAMS_AT, to - HEADER_BYTES);
  to = joinOne(to, 0, KINDS_AT, kinds);
  to = joinOne(to, 1, PAGES_AT, pages);
  to = joinOne(to, 2, SLOTS_AT, slots);
  to = joinOne(to, 3, TOPS_AT, tops);
  to = joinOne(to, 4, MASKS_AT, masks);
  to = joinOne(to, 5, WORDS_AT, words);
  joinOne(to, 6, REFS_AT, refs);
  set(LENGTHS + 7, raws - RAWS_AT);
}

function joinOne(to: u32, stream: u32, from: u32, end: u32): u32 {
  set(LENGTHS + stream, end - from);
  memory.copy(to, from, end - from);
  return to + (end - from);
}

function writeSlot(slot: u32, page: u64): void {
  slots = writeVarint(slots, zigzag(<i64>slot - <i64>lastSlot - <i64>(page - lastPage)));
  lastSlot = slot;
  lastPage = page;
}

/** Of 64 bytes of mask those that are not 0, after 64 bits that say which. */
function writeMask(): void {
  for (let i: u32 = 0; i < 8; i++) {
    const eight = load<u64>(MASK_AT + (i << 3));
    let top: u32 = 0;
    if (eight != 0) {
      for (let j: u32 = 0; j < 8; j++) {
        const byte = <u8>(eight >> (j << 3));
        if (byte == 0) continue;
        top |= 1 << j;
        store<u8>(masks++, byte);
      }
    }
    store<u8>(tops++, <u8>top);
  }
}

function encodePage(at: u32, block: u32, page: u64): u32 {
  if (isZero(at)) return KIND_ZERO_FULL;
  let slot = NONE;
  barred = NONE;
  if (get(SLOT_COUNT) > 0 && page < 0xffffffffffff) {
    const key = keyOf(block, page);
    slot = findSlot(key);
    if (slot != NONE) {
      add(COUNTS + COUNT_HITS, 1);
      mark(slot);
      touch(slot);
      if ((methods & USE_DELTA) != 0) {
        barred = slot;
        const kind = encodeDelta(at, history + (slot << 12));
        if (kind != KIND_RAW) {
          writeSlot(slot, page);
          return kind;
        }
      }
    } else {
      add(COUNTS + COUNT_MISSES, 1);
      slot = admit(key);
      barred = slot;
      if (slot != NONE) touch(slot);
    }
  }
  const kind = encodeOther(at, slot, page);
  if (slot == NONE) return kind;
  writeSlot(slot, page);
  copyPage(history + (slot << 12), at);
  return kind | 1;
}

/** Against the page's own previous version, which becomes the present one. KIND_RAW: differs too much. */
function encodeDelta(at: u32, old: u32): u32 {
  const wordsMax = get(DELTA_WORDS_MAX);
  if ((methods & USE_XBZRLE) != 0) {
    const bytes = runDelta(at, old, masks, words, wordsMax << 3, true);
    if (bytes == 0) return KIND_SAME;
    if (bytes > wordsMax << 3) return KIND_RAW;
    masks = runsEnd;
    words = bytesEnd;
    return KIND_DELTA;
  }
  const count = wordDelta(at, old, words, wordsMax, true);
  if (count == 0) return KIND_SAME;
  if (count > wordsMax) return KIND_RAW;
  writeMask();
  words += count << 3;
  return KIND_DELTA;
}

/** Without an own previous version that helps. `own`: the slot that the page will lie in, or NONE. */
function encodeOther(at: u32, own: u32, page: u64): u32 {
  if ((methods & USE_SPARSE) != 0) {
    const most = get(SIMILAR_WORDS_MAX) >> 1;
    const count = wordDelta(at, ZERO_PAGE_AT, words, most, false);
    if (count <= most) {
      writeMask();
      words += count << 3;
      return KIND_SPARSE;
    }
  }
  let kind = NONE;
  if ((methods & (USE_COPIES | USE_SHARED)) != 0) {
    hashPage(at);
    kind = encodeCopy(at, own, page);
    if (kind != NONE) return kind;
  }
  if ((methods & USE_SIMILAR) != 0) {
    sketchPage(at);
    kind = encodeSimilar(at, own, page);
    if (kind != NONE) return kind;
  }
  copyPage(raws, at);
  raws += 4096;
  if ((methods & USE_SHARED) != 0) refs = writeVarint(refs, sharedStoreAgain(at));
  return KIND_RAW;
}

/** The search for something similar may have left another page's hash. */
function sharedStoreAgain(at: u32): u32 {
  hashPage(at);
  return sharedStore(at);
}

/** An equal page of this history, or of another VM. The table only hints: contents move on, and are compared. */
function encodeCopy(at: u32, own: u32, page: u64): u32 {
  if ((methods & USE_COPIES) != 0) {
    const entry = get(COPIES_AT) + ((load<u32>(HASH_AT) & get(COPIES_MASK)) << 2);
    const base = baseOf(load<u32>(entry));
    if (own != NONE) store<u32>(entry, own + 1);
    if (base != NONE && isEqual(at, history + (base << 12))) {
      mark(base);
      writeSlot(base, page);
      return KIND_COPY;
    }
  }
  if ((methods & USE_SHARED) == 0 || sharedFind(at) == 0) return NONE;
  writeRef();
  return KIND_SHARED;
}

/** A slot that a table names, if it holds what the decoder holds too. */
@inline function baseOf(entry: u32): u32 {
  if (entry == 0 || entry - 1 == barred || entry > get(HIGH)) return NONE;
  return keyAt(entry - 1) == NO_KEY ? NONE : entry - 1;
}

function writeRef(): void {
  v128.store(refs, v128.load(HASH_AT));
  refs += 16;
}

function encodeSimilar(at: u32, own: u32, page: u64): u32 {
  const wordsMax = get(SIMILAR_WORDS_MAX);
  const mask = get(SKETCHES_MASK);
  let best = NONE;
  let bestDistance = wordsMax + 1;
  for (let i: u32 = 0; i < 4; i++) {
    const feature = load<u32>(SKETCH_AT + (i << 2));
    const entry = get(SKETCHES_AT) + (((feature << 2) | i) & mask) * 4;
    const base = baseOf(load<u32>(entry));
    if (own != NONE) store<u32>(entry, own + 1);
    if (base == NONE || base == best) continue;
    const distance = wordDistance(at, history + (base << 12), bestDistance - 1);
    if (distance >= bestDistance) continue;
    best = base;
    bestDistance = distance;
  }
  if (best != NONE) {
    wordDelta(at, history + (best << 12), words, wordsMax, false);
    mark(best);
    writeSlot(best, page);
    writeMask();
    words += bestDistance << 3;
    return KIND_SIMILAR;
  }
  if ((methods & USE_SHARED) == 0 || sharedSimilar() == 0) return NONE;
  const count = wordDelta(at, SHARED_PAGE_AT, words, wordsMax, false);
  if (count > wordsMax) return NONE;
  writeRef();
  writeMask();
  words += count << 3;
  return KIND_SHARED_SIMILAR;
}
