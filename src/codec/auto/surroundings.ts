/**
 * What link, source and thread are able to carry, guessed from what they did. Pure: time comes as an argument.
 *
 * A link shows what it carries only while it is full. While there is room on it and this thread is what bounds, it may have
 * become faster: that is hoped the more the longer it lasts, until a faster method is tried for that hope. A hope that was
 * wrong (the link is full at once) makes the next one grow more slowly.
 */

/** From here on the link counts as full, if the destination has nothing to do meanwhile: else it is that which is full. */
const waitingShareMin = 0.05;
const destinationIdleShareMin = 0.25;
/** What a link is taken for until it was full for the first time, and how soon the double is hoped of it. */
const firstBytesPerMs = 125_000;
const firstHopeDoublesMs = 20;
/** Until then bodies that pile up are a sign that it will be. */
const pileBytesMin = 256 << 10;
const pileShare = 1.3;
/** Waiting before this counts for what the link carries. */
const rememberedMsMax = 300;
const hopeDoublesMs = 200;
const hopePatience = 4;
const hopePatienceMax = 8;
/** Where it may well be full, hope grows as much more slowly. */
const hopeShareOfBusy = 1 / 8;
const fullShareMin = 0.85;
/** The longer it was seen at its limit, the better that is known: at most so much. */
const familiarMsMax = 500;
/** No more can lie at the destination: what may be in flight. */
const lyingBytesMax = 16 << 20;
/** A link that carries less than this share of what was assumed is a disappointment. */
const disappointmentShare = 0.8;

/** With less idle time this thread is what bounds. */
const idleShareMin = 0.1;
/** With less delivered there was nothing to deliver. */
const sourceBytesMin = 512 << 10;
/** A source that has less to send just now is not taken to be slow at once: a second takes this share. */
const sourceDecay = 0.7;

const overheadRememberedMsMax = 500;

/** Threads that help. They are two, but seldom have a core each: the VM's host has other things to do, the VM among them. */
const besideCount = 1.5;

export interface Seen {
  /** Bodies that arrived. */
  readonly bytesPerMs: number;
  /** Share of the time with something to send and no room for it. */
  readonly waitingShare: number;
  /** Share of the time in which this thread had nothing to do, for want of room or of records. */
  readonly idleShare: number;
  /** The same because others had enough to do; not part of the above. */
  readonly besideShare: number;
  /** Share of the time in which the destination had nothing to do. */
  readonly destinationIdleShare: number;
}

export class Link {
  #fullBytesPerMs: number | undefined;
  /** The most that arrived while it was not. */
  #seenBytesPerMs = firstBytesPerMs;
  #rememberedMs = 0;
  /** Of this thread being what bounds, since the link was full. */
  #roomMs = 0;
  #patience = 1;
  #familiarMs = 0;
  #isSettled = false;
  /** What arrived beyond what it is known to carry, and what at most lay at the destination when it began to. */
  #excessBytes = 0;
  #lyingBytes = 0;
  /** Arrived since the look at which the destination had last taken all there was, that look included. */
  #since = { bytes: 0, ms: 0 };
  /** At the latest look the destination had taken all there was. */
  #isDrained = true;

  /** What it is assumed to carry. */
  get bytesPerMs(): number {
    if (this.#fullBytesPerMs === undefined) {
      return this.#seenBytesPerMs * 2 ** (this.#roomMs / firstHopeDoublesMs);
    }
    const doublesMs = (hopeDoublesMs + this.#familiarMs) * this.#patience;
    return this.#fullBytesPerMs * 2 ** (this.#roomMs / doublesMs);
  }

  /** For how long it was seen to be full, and not faster since; at most half a second. */
  get familiarMs(): number {
    return this.#familiarMs;
  }

  get wasFull(): boolean {
    return this.#fullBytesPerMs !== undefined;
  }

  /** It carries about what it is known to carry, whatever is hoped of it. */
  isUsed(bytesPerMs: number): boolean {
    return this.#fullBytesPerMs !== undefined && bytesPerMs >= this.#fullBytesPerMs * fullShareMin;
  }

  /** No hope from here on: it is what it was seen to be. */
  settle(): void {
    this.#isSettled = true;
    this.#roomMs = 0;
  }

  /** `pilesUp`: more is sent than arrives. Answers true when it carries much less than was assumed. */
  seen(seen: Seen, elapsedMs: number, pilesUp: boolean): boolean {
    const { waitingShare, idleShare } = seen;
    const bytesPerMs = this.#withoutLying(seen, elapsedMs);
    if (isFull(seen)) {
      // What a destination took that was busy for a part of the time says as much less of the link.
      const share = waitingShare * Math.min(1, seen.destinationIdleShare);
      return bytesPerMs > 0 && this.#full(bytesPerMs, elapsedMs * share, elapsedMs);
    }
    const isBusy = !this.#isSettled && idleShare < idleShareMin;
    if (isBusy && (this.wasFull || !pilesUp)) {
      this.#roomMs += elapsedMs * (this.#mayBeFull(bytesPerMs) ? hopeShareOfBusy : 1);
    }
    this.#seenBytesPerMs = Math.max(this.#seenBytesPerMs, bytesPerMs);
    if (this.#fullBytesPerMs !== undefined && bytesPerMs > this.#fullBytesPerMs) {
      if (bytesPerMs > this.#fullBytesPerMs * 1.2) this.#familiarMs = 0;
      this.#fullBytesPerMs = bytesPerMs;
    }
    return false;
  }

  /** Though nobody waits for it: the destination is what bounds, or it carries about what it is known to carry. */
  #mayBeFull(bytesPerMs: number): boolean {
    return this.wasFull && (!this.#isDrained || this.isUsed(bytesPerMs));
  }

  /**
   * What arrived per ms. What the destination left lying arrives with what the link carries: as long as that may be the reason it
   * counts as no more than the link is known to carry, whatever is hoped of it.
   */
  #withoutLying({ bytesPerMs, destinationIdleShare }: Seen, elapsedMs: number): number {
    const known = this.#fullBytesPerMs ?? this.bytesPerMs;
    this.#excessBytes = Math.max(0, this.#excessBytes + (bytesPerMs - known) * elapsedMs);
    const since = {
      bytes: this.#since.bytes + bytesPerMs * elapsedMs,
      ms: this.#since.ms + elapsedMs,
    };
    const lyingBytes = this.#lyingBytes;
    const wasDrained = this.#isDrained;
    this.#isDrained = destinationIdleShare >= destinationIdleShareMin;
    // Of one that was idle in part nobody knows when that was.
    const untakenShare = 1 - Math.min(1, destinationIdleShare);
    const untakenBytes = Math.min(lyingBytesMax, known * elapsedMs) * untakenShare;
    const before = this.#isDrained ? 0 : lyingBytes;
    this.#lyingBytes = Math.min(lyingBytesMax, before + untakenBytes);
    this.#since = this.#isDrained ? { bytes: bytesPerMs * elapsedMs, ms: elapsedMs } : since;
    if (bytesPerMs <= known) return bytesPerMs;
    const isCounted = this.#excessBytes > lyingBytes;
    if (isCounted || (this.#isDrained && !wasDrained)) this.#excessBytes = 0;
    if (!isCounted) return this.#fullBytesPerMs ?? this.#seenBytesPerMs;
    return Math.min(bytesPerMs, Math.max(known, since.bytes / since.ms));
  }

  /** What waited for room but little was perhaps not full all the time. */
  #full(bytesPerMs: number, weightMs: number, elapsedMs: number): boolean {
    const assumed = this.bytesPerMs;
    const before = this.#fullBytesPerMs ?? bytesPerMs;
    const share = bytesPerMs > before ? 1 : weightMs / (weightMs + this.#rememberedMs);
    const now = before + (bytesPerMs - before) * share;
    const hoped = this.#roomMs > 0 && this.wasFull;
    this.#fullBytesPerMs = now;
    this.#rememberedMs = Math.min(rememberedMsMax, this.#rememberedMs + weightMs);
    this.#familiarMs = Math.min(familiarMsMax, this.#familiarMs + elapsedMs);
    this.#roomMs = 0;
    const disappoints = now < assumed * disappointmentShare;
    if (hoped)
      this.#patience = disappoints ? Math.min(hopePatienceMax, this.#patience * hopePatience) : 1;
    return disappoints;
  }
}

/** Rates in bytes per ms: what there is besides the methods. */
export class Surroundings {
  readonly link = new Link();
  #sourceBytesPerMs = Number.POSITIVE_INFINITY;
  #sourceMs = 0;
  #sourceRawBytes = 0;
  #overheadMs = 0;
  #overheadBytes = 0;
  /** Since the last look. */
  #rawBytes = 0;
  #bodyBytes = 0;
  #encodeMs = 0;
  idleShare = 0;
  readonly besideCount = besideCount;

  /** What the source delivers at most, as records; Infinity: more than was asked of it. */
  get sourceBytesPerMs(): number {
    return this.#sourceBytesPerMs;
  }

  /** What a byte of records costs this thread besides encoding: receiving and sending it. */
  get overheadMsPerByte(): number {
    return this.#overheadBytes === 0 ? 0 : this.#overheadMs / this.#overheadBytes;
  }

  /** A batch was taken; `ms`: all that was spent on it, trials included. */
  encoded(rawBytes: number, bodyBytes: number, ms: number): void {
    this.#rawBytes += rawBytes;
    this.#bodyBytes += bodyBytes;
    this.#encodeMs += ms;
  }

  /** Answers what there is to conclude: nothing yet, or that the link is not what it seemed, or nothing special. */
  seen(seen: Seen, elapsedMs: number): "unclear" | "disappointing" | "clear" {
    this.idleShare = seen.idleShare;
    const pilesUp = this.#bodyBytes > seen.bytesPerMs * elapsedMs * pileShare + pileBytesMin;
    const disappoints = this.link.seen(seen, elapsedMs, pilesUp);
    this.#lookAtSource(seen, elapsedMs);
    this.#lookAtThread(seen.idleShare + seen.besideShare, elapsedMs);
    this.#rawBytes = 0;
    this.#bodyBytes = 0;
    this.#encodeMs = 0;
    if (disappoints) return "disappointing";
    return pilesUp && !this.link.wasFull ? "unclear" : "clear";
  }

  /** Or at the destination, if it is that which takes no more. */
  #lookAtSource(seen: Seen, elapsedMs: number): void {
    if (isFull(seen) || seen.idleShare < idleShareMin) {
      this.#sourceBytesPerMs = Number.POSITIVE_INFINITY;
      this.#sourceMs = 0;
      this.#sourceRawBytes = 0;
      return;
    }
    this.#sourceMs += elapsedMs;
    this.#sourceRawBytes += this.#rawBytes;
    if (this.#sourceRawBytes < sourceBytesMin) return;
    const rate = this.#sourceRawBytes / this.#sourceMs;
    const before = this.#sourceBytesPerMs * sourceDecay ** (this.#sourceMs / 1000);
    this.#sourceBytesPerMs = Number.isFinite(before) ? Math.max(rate, before) : rate;
    this.#sourceMs = 0;
    this.#sourceRawBytes = 0;
  }

  #lookAtThread(idleShare: number, elapsedMs: number): void {
    if (this.#rawBytes === 0) return;
    const keep = Math.max(0, 1 - elapsedMs / overheadRememberedMsMax);
    const ms = Math.max(0, elapsedMs * (1 - idleShare) - this.#encodeMs);
    this.#overheadMs = this.#overheadMs * keep + ms;
    this.#overheadBytes = this.#overheadBytes * keep + this.#rawBytes;
  }
}

/** Of a link: what there is to send has to wait for room, and the destination for what is sent. */
export function isFull({ waitingShare, destinationIdleShare }: Seen): boolean {
  return waitingShare >= waitingShareMin && destinationIdleShare >= destinationIdleShareMin;
}
