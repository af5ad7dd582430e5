// Where everything lies in the workspace. The same numbers stand in ../layout.ts; a test compares them.

export const PAGE_BYTES: u32 = 4096;
export const PAGE_RECORD_BYTES: u32 = 4104;
export const ZERO_RECORD_BYTES: u32 = 9;
export const NONE: u32 = 0xffffffff;

// The control block: u32 each, at 4 times the number. First what the host writes once.
export const METHODS: u32 = 0;
export const SLOT_COUNT: u32 = 1;
export const DELTA_WORDS_MAX: u32 = 2;
export const SIMILAR_WORDS_MAX: u32 = 3;
export const KEYS_AT: u32 = 4;
export const TABLE_AT: u32 = 5;
export const TABLE_MASK: u32 = 6;
export const MARKS_AT: u32 = 7;
export const SEEN_AT: u32 = 8;
export const SEEN_MASK: u32 = 9;
export const COPIES_AT: u32 = 10;
export const COPIES_MASK: u32 = 11;
export const SKETCHES_AT: u32 = 12;
export const SKETCHES_MASK: u32 = 13;
export const HISTORY_AT: u32 = 14;
// Then what lasts from batch to batch.
export const TURN: u32 = 15;
export const HIGH: u32 = 16;
export const HAND: u32 = 17;
export const HIGH_BEFORE: u32 = 18;
export const TOUCHED: u32 = 19;
// Then what a call answers.
export const RECORDS: u32 = 20;
export const STREAMS_AT: u32 = 21;
export const LENGTHS: u32 = 24;
export const COUNTS: u32 = 32;
export const COUNT_COUNT: u32 = 24;

// Bits of METHODS.
export const USE_DELTA: u32 = 1;
export const USE_XBZRLE: u32 = 2;
export const USE_COPIES: u32 = 4;
export const USE_SIMILAR: u32 = 8;
export const USE_SPARSE: u32 = 16;
export const USE_SHARED: u32 = 32;

// Kinds of records. From `RAW` on, bit 0 says that the page is kept in a slot.
export const KIND_ZERO: u32 = 0;
export const KIND_ZERO_FULL: u32 = 1;
export const KIND_SAME: u32 = 2;
export const KIND_DELTA: u32 = 3;
export const KIND_RAW: u32 = 4;
export const KIND_COPY: u32 = 6;
export const KIND_SIMILAR: u32 = 8;
export const KIND_SPARSE: u32 = 10;
export const KIND_SHARED: u32 = 12;
export const KIND_SHARED_SIMILAR: u32 = 14;

// Bits of a slot's mark: used since the hand came by, and worth keeping (used ever, or taken in place of another).
export const MARK_USED: u32 = 1;
export const MARK_VALUED: u32 = 2;

// Numbers in COUNTS: kinds 0 to 15, then these.
export const COUNT_HITS: u32 = 16;
export const COUNT_MISSES: u32 = 17;
export const COUNT_EVICTED: u32 = 18;
export const COUNT_REJECTED: u32 = 19;

// Small things, by address.
export const HASH_AT: u32 = 0x400;
export const SKETCH_AT: u32 = 0x420;
export const TAIL_AT: u32 = 0x440;
export const MASK_AT: u32 = 0x480;
export const TOUCHED_AT: u32 = 0x800;
export const ZERO_PAGE_AT: u32 = 0x1000;
export const SHARED_PAGE_AT: u32 = 0x2000;

// Encoder: the streams while they are written, what is answered (header, small streams, raw pages), and the batch.
export const KINDS_AT: u32 = 0x4000;
export const PAGES_AT: u32 = 0x24000;
export const SLOTS_AT: u32 = 0xa4000;
export const TOPS_AT: u32 = 0xa6000;
export const MASKS_AT: u32 = 0xa8000;
export const WORDS_AT: u32 = 0x130000;
export const REFS_AT: u32 = 0x1b8000;
export const RAWS_AT: u32 = 0x300000;
export const INPUT_AT: u32 = 0x390000;
export const ENCODER_END: u32 = 0x420000;

// Decoder: header and streams, then regions for records, of which each takes a batch.
export const HEADER_BYTES: u32 = 72;
export const BODY_AT: u32 = 0x4000;
export const OUT_AT: u32 = 0x94000;
export const OUT_BYTES: u32 = 0x80000;

// What `encode` and `decode` answer.
export const OK: u32 = 0;
export const BAD_RECORD: u32 = 1;
export const BAD_LENGTH: u32 = 2;
export const BAD_KIND: u32 = 3;
export const BAD_PAGE: u32 = 4;
export const BAD_SLOT: u32 = 5;
export const BAD_KEY: u32 = 6;
export const BAD_MASK: u32 = 7;
export const BAD_SHARED: u32 = 8;
export const BAD_REST: u32 = 9;
