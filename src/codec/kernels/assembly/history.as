// The encoder's knowledge of its slots: which page lies where, what may go, what was sent before.
import {
  COUNT_EVICTED,
  COUNT_REJECTED,
  COUNTS,
  HAND,
  HIGH,
  HIGH_BEFORE,
  KEYS_AT,
  MARK_USED,
  MARK_VALUED,
  MARKS_AT,
  NONE,
  SEEN_AT,
  SEEN_MASK,
  SLOT_COUNT,
  TABLE_AT,
  TABLE_MASK,
  TOUCHED,
  TOUCHED_AT,
  TURN,
} from "./layout";
import { add, get, set } from "./memory";

/** No page has this key. */
export const NO_KEY: u64 = 0xffffffffffffffff;
/** So many slots are looked at for one that may go. */
const SWEEP_MAX: u32 = 64;

@inline function spread(key: u64): u32 {
  const low = <u32>key * 0x9e3779b1 + <u32>(key >> 32) * 0x85ebca77;
  return (low ^ (low >> 15)) * 0xc2b2ae3d;
}

@inline function place(key: u64): u32 {
  const h = spread(key);
  return (h ^ (h >> 13)) & get(TABLE_MASK);
}

@inline export function keyAt(slot: u32): u64 {
  return load<u64>(get(KEYS_AT) + (slot << 3));
}

/** The slot of a page, or NONE. Linear probing; an entry is the slot's number plus one, 0 when free. */
export function findSlot(key: u64): u32 {
  const table = get(TABLE_AT);
  const mask = get(TABLE_MASK);
  let i = place(key);
  let entry = load<u32>(table + (i << 2));
  while (entry != 0 && keyAt(entry - 1) != key) {
    i = (i + 1) & mask;
    entry = load<u32>(table + (i << 2));
  }
  return entry - 1;
}

function insert(key: u64, slot: u32): void {
  const table = get(TABLE_AT);
  const mask = get(TABLE_MASK);
  let i = place(key);
  while (load<u32>(table + (i << 2)) != 0) i = (i + 1) & mask;
  store<u32>(table + (i << 2), slot + 1);
  store<u64>(get(KEYS_AT) + (slot << 3), key);
}

/** Moves what follows back, so that no gap cuts a probe short. */
function remove(key: u64): void {
  const table = get(TABLE_AT);
  const mask = get(TABLE_MASK);
  let gap = place(key);
  for (; ; gap = (gap + 1) & mask) {
    const entry = load<u32>(table + (gap << 2));
    if (entry != 0 && keyAt(entry - 1) == key) break;
  }
  const slot = load<u32>(table + (gap << 2)) - 1;
  for (let i = (gap + 1) & mask; ; i = (i + 1) & mask) {
    const entry = load<u32>(table + (i << 2));
    if (entry == 0) break;
    const home = place(keyAt(entry - 1));
    if (((i - home) & mask) < ((i - gap) & mask)) continue;
    store<u32>(table + (gap << 2), entry);
    gap = i;
  }
  store<u32>(table + (gap << 2), 0);
  store<u64>(get(KEYS_AT) + (slot << 3), NO_KEY);
}

/** Whether the page was sent before, as far as is known; from now on it was. */
function wasSeen(key: u64): bool {
  const bit = spread(key) & get(SEEN_MASK);
  const at = get(SEEN_AT) + (bit >> 3);
  const byte = load<u8>(at);
  const mask: u8 = 1 << (<u8>bit & 7);
  store<u8>(at, byte | mask);
  return (byte & mask) != 0;
}

/** A slot that was not used since the hand came by last, or NONE. */
function sweep(): u32 {
  const count = get(SLOT_COUNT);
  const marks = get(MARKS_AT);
  let hand = get(HAND);
  let found = NONE;
  for (let i: u32 = 0; i < SWEEP_MAX && found == NONE; i++) {
    const mark = load<u8>(marks + hand);
    if ((mark & MARK_USED) == 0) found = hand;
    else store<u8>(marks + hand, mark & ~<u8>MARK_USED);
    hand = hand + 1 == count ? 0 : hand + 1;
  }
  set(HAND, hand);
  return found;
}

/**
 * Whether the page may have the slot. Of pages that all come again, more than there are slots, most must stay where they are,
 * or each would be let go right before it is needed: a slot that was of use changes its page only every eighth time.
 */
function mayTake(slot: u32): bool {
  if ((load<u8>(get(MARKS_AT) + slot) & MARK_VALUED) == 0 || keyAt(slot) == NO_KEY) return true;
  const turn = get(TURN);
  set(TURN, turn + 1);
  return (turn & 7) == 0;
}

/** Remembers that the slot was of use. */
export function mark(slot: u32): void {
  store<u8>(get(MARKS_AT) + slot, MARK_USED | MARK_VALUED);
}

/** A slot for a page that has none, or NONE: while there are free ones every page gets one, then only pages sent before. */
export function admit(key: u64): u32 {
  const seen = wasSeen(key);
  const high = get(HIGH);
  if (high < get(SLOT_COUNT)) {
    set(HIGH, high + 1);
    insert(key, high);
    store<u8>(get(MARKS_AT) + high, 0);
    return high;
  }
  const slot = seen && high > 0 ? sweep() : NONE;
  if (slot == NONE || !mayTake(slot)) {
    add(COUNTS + COUNT_REJECTED, 1);
    return NONE;
  }
  const old = keyAt(slot);
  if (old != NO_KEY) {
    remove(old);
    add(COUNTS + COUNT_EVICTED, 1);
  }
  insert(key, slot);
  store<u8>(get(MARKS_AT) + slot, MARK_VALUED);
  return slot;
}

/** Remembers that a batch changed the slot. */
export function touch(slot: u32): void {
  const count = get(TOUCHED);
  store<u32>(TOUCHED_AT + (count << 2), slot);
  set(TOUCHED, count + 1);
}

/**
 * The last batch will not reach the decoder: forgets every slot that it changed. Those that it took for the first time go
 * back, because a decoder expects new slots one after another.
 */
export function drop(): void {
  for (let i: u32 = 0; i < get(TOUCHED); i++) {
    const key = keyAt(load<u32>(TOUCHED_AT + (i << 2)));
    if (key != NO_KEY) remove(key);
  }
  set(HIGH, get(HIGH_BEFORE));
  set(TOUCHED, 0);
}
