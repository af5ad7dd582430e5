// A batch of records becomes streams; the history follows in the same pass.
import { bytesEnd, masksEnd, runDelta, runsEnd, top, wordDelta, wordDistance } from "./delta";
import {
  hashBegin,
  hashPage,
  hashSums,
  hasSums,
  sketchPage,
  sumPage,
  sumsHint,
} from "./hash";
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
import {
  add,
  copyPage,
  copyPageTwice,
  get,
  isEqual,
  isZero,
  keyOf,
  set,
  writeVarint,
  zigzag,
} from "./memory";

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
      sumPage(at + 8);
      hashSums();
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

/** What `wordDelta` wrote becomes part of the streams. */
function takeWords(count: u32): void {
  store<u64>(tops, top);
  tops += 8;
  masks = masksEnd;
  words += count << 3;
}

function encodePage(at: u32, block: u32, page: u64): u32 {
  if (!hasSums() && isZero(at)) return KIND_ZERO_FULL;
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
  if (kind != KIND_RAW) copyPage(history + (slot << 12), at);
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
  const count = wordDelta(at, old, words, masks, wordsMax, true);
  if (count == 0) return KIND_SAME;
  if (count > wordsMax) return KIND_RAW;
  takeWords(count);
  return KIND_DELTA;
}

/** Without an own previous version that helps. `own`: the slot that the page will lie in, or NONE. */
function encodeOther(at: u32, own: u32, page: u64): u32 {
  if ((methods & USE_SPARSE) != 0) {
    const most = get(SIMILAR_WORDS_MAX) >> 1;
    const count = wordDelta(at, ZERO_PAGE_AT, words, masks, most, false);
    if (count <= most) {
      takeWords(count);
      return KIND_SPARSE;
    }
  }
  let kind = NONE;
  if ((methods & (USE_COPIES | USE_SHARED)) != 0) {
    if ((methods & USE_SHARED) != 0) hashPage(at);
    kind = encodeCopy(at, own, page);
    if (kind != NONE) return kind;
  }
  if ((methods & USE_SIMILAR) != 0) {
    sketchPage(at);
    kind = encodeSimilar(at, own, page);
    if (kind != NONE) return kind;
  }
  if (own == NONE) copyPage(raws, at);
  else copyPageTwice(raws, history + (own << 12), at);
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
    const entry = get(COPIES_AT) + ((sumsHint() & get(COPIES_MASK)) << 2);
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

/** What a number of the sketch names, if it may be a base; from now on it names `own`. */
function hinted(i: u32, own: u32): u32 {
  const feature = load<u32>(SKETCH_AT + (i << 2));
  const entry = get(SKETCHES_AT) + (((feature << 2) | i) & get(SKETCHES_MASK)) * 4;
  const base = baseOf(load<u32>(entry));
  if (own != NONE) store<u32>(entry, own + 1);
  return base;
}

/** So few changed words that another candidate would gain little. */
const NEAR_WORDS: u32 = 32;

/** Of the candidates so far the one with the fewest changed words, and how many. */
let best: u32 = NONE;
let fewest: u32 = 0;

function compare(at: u32, base: u32): void {
  if (base == NONE || (best != NONE && fewest <= NEAR_WORDS)) return;
  const count = wordDistance(at, history + (base << 12), fewest - 1);
  if (count >= fewest) return;
  best = base;
  fewest = count;
}

function encodeSimilar(at: u32, own: u32, page: u64): u32 {
  const wordsMax = get(SIMILAR_WORDS_MAX);
  const a = hinted(0, own);
  const b = hinted(1, own);
  const c = hinted(2, own);
  const d = hinted(3, own);
  best = NONE;
  fewest = wordsMax + 1;
  // Mostly they are few different ones.
  compare(at, a);
  if (b != a) compare(at, b);
  if (c != a && c != b) compare(at, c);
  if (d != a && d != b && d != c) compare(at, d);
  if (best != NONE) {
    takeWords(wordDelta(at, history + (best << 12), words, masks, wordsMax, false));
    mark(best);
    writeSlot(best, page);
    return KIND_SIMILAR;
  }
  if ((methods & USE_SHARED) == 0 || sharedSimilar() == 0) return NONE;
  const count = wordDelta(at, SHARED_PAGE_AT, words, masks, wordsMax, false);
  if (count > wordsMax) return NONE;
  writeRef();
  takeWords(count);
  return KIND_SHARED_SIMILAR;
}
