/**
 * Reads a migration stream as QEMU writes it, without copying a page and without an object per page.
 *
 * The caller owns a buffer that it fills from a socket and shows the unread part of it with `push(bytes, from, to)`; the
 * reader works in place, answers how far it came, and wants the rest again with more behind it. Whole runs of page
 * records are handed on as [from, to) of the caller's own buffer.
 *
 * One thing is changed in place: the first record of a block carries the block's name. Its 8-byte word is moved to stand
 * right before its page, with the CONTINUE flag set, over the name that is no longer needed. So every record of a run has
 * one form (`pageRecordBytes` or `zeroRecordBytes`) and a run can go to a wire, a codec or another QEMU as it is.
 *
 * Everything in the stream is hostile: lengths are checked against `StreamLimits` before they are used, page addresses
 * against their block. Errors name what was found and at which byte of the stream. A reader that has thrown is dead.
 */
import { assert, GodwitError, unreachable } from "../../base/index.ts";
import {
  commandDataBytes,
  commandNames,
  defaultStreamLimits,
  pageBytes,
  pageRecordBytes,
  RamFlag,
  type RamBlock,
  ramFlagNames,
  SectionType,
  StreamCommand,
  type StreamHead,
  type StreamLimits,
  streamMagic,
  streamVersion,
  zeroRecordBytes,
} from "./format.ts";

/** Told what is found, in stream order. Byte ranges are valid only during the call unless the caller keeps its buffer. */
export interface StreamSink {
  /** Once, when everything before the first page is known. `head.bytes` is a copy. */
  head(head: StreamHead): void;
  /** A run of page and zero records of one block, all with CONTINUE set. */
  pages(block: number, bytes: Uint8Array, from: number, to: number, pages: RunCounts): void;
  /** A command between RAM sections. */
  command(command: number, data: Uint8Array): void;
  /** RAM END is complete: no page follows. `push` returns after this call even if more could be read. */
  ramEnd(): void;
  /** Bytes of device state, verbatim. */
  tail(bytes: Uint8Array, from: number, to: number): void;
}

/** Reused between calls: copy what must last. */
export interface RunCounts {
  pageCount: number;
  zeroCount: number;
}

/** Decides, page by page, what travels now. Called for full pages and for zero pages. */
export interface PageFilter {
  /** False leaves the page out; whoever answers false remembers the page as stale at the destination. */
  keep(block: number, page: number, zero: boolean): boolean;
}

/** Longer runs are handed on in parts, so that what is made of one has a bound: this, and one record more. */
const runBytesMax = 128 << 10;

type State = "magic" | "sections" | "blocks" | "records" | "footer" | "tail";

export class StreamReader {
  readonly #sink: StreamSink;
  readonly #limits: StreamLimits;
  #filter: PageFilter | undefined;
  readonly #counts: RunCounts = { pageCount: 0, zeroCount: 0 };

  #state: State = "magic";
  /** Offset in the stream of the first byte not yet consumed. */
  #offset = 0;
  #headPieces: Uint8Array[] | undefined = [];
  #headBytes = 0;
  #tailBytes = 0;
  #machineType = "";
  #hasReturnPath = false;
  #ramSectionId = -1;
  readonly #blocks: RamBlock[] = [];
  readonly #blockByName = new Map<string, number>();
  /** While the block list is read: bytes of memory that it has yet to name. */
  #memoryLeft = 0;
  /** Block of the last record, or -1; survives across sections, as in QEMU. */
  #block = -1;
  #blockPageCount = 0;
  #sectionIsEnd = false;
  #ramEnded = false;

  constructor(sink: StreamSink, options: { limits?: StreamLimits; filter?: PageFilter } = {}) {
    this.#sink = sink;
    this.#limits = options.limits ?? defaultStreamLimits;
    this.#filter = options.filter;
  }

  /** From the next record on. */
  useFilter(filter: PageFilter): void {
    this.#filter = filter;
  }

  /** Bytes of the stream consumed so far. */
  get offset(): number {
    return this.#offset;
  }

  /** True once RAM END was read: what follows is device state, whose end only a QEMU can tell. */
  get ramEnded(): boolean {
    return this.#ramEnded;
  }

  /** For the end of the socket: throws when the stream stopped before RAM END. */
  assertComplete(): void {
    if (this.#state !== "tail") this.#invalid("the stream ended before the device state", 0);
  }

  /**
   * Consumes what is complete in `bytes[from, to)`; answers the new `from`. Whoever calls must be able to show at least
   * `itemBytesMax` bytes at once, else a long item never becomes complete.
   */
  push(bytes: Uint8Array, from: number, to: number): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = from;
    for (;;) {
      const next = this.#step(bytes, view, at, to);
      assert(next >= at && next <= to, "the reader consumed what is not there");
      this.#consumed(bytes, at, next);
      const endedRam = this.#ramEnded && this.#state === "sections" && next > at;
      if (next === at || endedRam) return next;
      at = next;
    }
  }

  #step(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    switch (this.#state) {
      case "records":
        return this.#records(bytes, view, at, to);
      case "footer":
        return this.#footer(view, at, to);
      case "tail":
        return this.#passTail(bytes, at, to);
      case "magic":
        return this.#magic(view, at, to);
      case "sections":
        return this.#section(bytes, view, at, to);
      case "blocks":
        return this.#blockList(bytes, view, at, to);
      default:
        return unreachable(this.#state);
    }
  }

  /** Advances the stream offset and, before the first page, keeps a copy of the head. */
  #consumed(bytes: Uint8Array, from: number, to: number): void {
    if (to === from) return;
    this.#offset += to - from;
    if (this.#headPieces === undefined) return;
    this.#headBytes += to - from;
    if (this.#headBytes > this.#limits.headBytesMax) {
      this.#invalid(`more than ${this.#limits.headBytesMax} bytes before the first page`, 0);
    }
    this.#headPieces.push(copyOf(bytes, from, to));
    if (this.#state === "sections" && this.#ramSectionId >= 0) this.#finishHead();
  }

  #finishHead(): void {
    const bytes = new Uint8Array(this.#headBytes);
    let at = 0;
    for (const piece of this.#headPieces ?? []) {
      bytes.set(piece, at);
      at += piece.length;
    }
    this.#headPieces = undefined;
    this.#sink.head({
      bytes,
      machineType: this.#machineType,
      ramSectionId: this.#ramSectionId,
      blocks: this.#blocks,
      hasReturnPath: this.#hasReturnPath,
    });
  }

  #magic(view: DataView, at: number, to: number): number {
    if (to - at < 8) return at;
    const magic = view.getUint32(at);
    if (magic !== streamMagic) {
      this.#invalid(`the stream begins with ${hex(magic)}, not with "QEVM"`, 0);
    }
    const version = view.getUint32(at + 4);
    if (version !== streamVersion) {
      this.#unsupported(`stream version ${version}; godwit reads version ${streamVersion}`, 4);
    }
    this.#state = "sections";
    return at + 8;
  }

  #section(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (to - at < 1) return at;
    const type = bytes[at] as number;
    if (this.#machineType === "" && type !== SectionType.configuration) {
      this.#unsupported(`section type ${hex(type)} where the machine type belongs`, 0);
    }
    switch (type) {
      case SectionType.configuration:
        return this.#configuration(bytes, view, at, to);
      case SectionType.subsection:
        return this.#subsection(bytes, view, at, to);
      case SectionType.command:
        return this.#command(bytes, view, at, to);
      case SectionType.start:
        return this.#start(bytes, view, at, to);
      case SectionType.part:
      case SectionType.end:
        return this.#partOrEnd(view, at, to, type === SectionType.end);
      case SectionType.full:
      case SectionType.eof:
        return this.#beginTail(bytes, at, to, type);
      default:
        return this.#invalid(`section type ${hex(type)} does not exist`, 0);
    }
  }

  #configuration(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (this.#headPieces === undefined || this.#machineType !== "") {
      this.#invalid("a second configuration section", 0);
    }
    if (to - at < 5) return at;
    const length = view.getUint32(at + 1);
    if (length === 0 || length > 255) this.#invalid(`a machine type of ${length} bytes`, 1);
    if (to - at < 5 + length) return at;
    this.#machineType = latin1(bytes, at + 5, length);
    return at + 5 + length;
  }

  /** Subsections of the configuration carry no length: only those whose form is known can be passed. */
  #subsection(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (this.#headPieces === undefined) this.#invalid("a subsection between RAM sections", 0);
    if (to - at < 2) return at;
    const nameLength = bytes[at + 1] as number;
    const body = at + 2 + nameLength + 4;
    if (to < body + 4) return at;
    const name = latin1(bytes, at + 2, nameLength);
    switch (name) {
      case "configuration/target-page-bits": {
        const bits = view.getUint32(body);
        if (bits !== 12) this.#unsupported(`guest pages of 2^${bits} bytes; godwit knows 4096`, 0);
        return body + 4;
      }
      case "configuration/uuid":
        return to < body + 16 ? at : body + 16;
      case "configuration/capabilities":
        return this.#capabilities(bytes, view, at, body, to);
      default:
        return this.#unsupported(`configuration subsection ${printable(name)}`, 0);
    }
  }

  /** u32 count, then count x (u8 length, name): capabilities that change the stream; none is carried. */
  #capabilities(bytes: Uint8Array, view: DataView, at: number, body: number, to: number): number {
    const count = view.getUint32(body);
    if (count > 64) this.#invalid(`${count} capabilities`, body - at);
    if (count === 0) return body + 4;
    if (to < body + 5) return at;
    const length = bytes[body + 4] as number;
    if (to < body + 5 + length) return at;
    const name = latin1(bytes, body + 5, length);
    return this.#unsupported(
      `capability ${printable(name)}: switch it off to migrate with godwit`,
      0,
    );
  }

  #command(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (to - at < 5) return at;
    const command = view.getUint16(at + 1);
    const length = view.getUint16(at + 3);
    const name = commandNames[command];
    if (name === undefined) this.#unsupported(`command ${command}, which godwit does not know`, 1);
    const dataBytes = commandDataBytes[command];
    if (dataBytes === undefined) {
      this.#unsupported(`command ${name}: switch it off to migrate with godwit`, 1);
    }
    if (length !== dataBytes) this.#invalid(`command ${name} with ${length} bytes of data`, 3);
    if (to - at < 5 + length) return at;
    if (command === StreamCommand.openReturnPath) this.#hasReturnPath = true;
    const end = at + 5 + length;
    if (this.#headPieces === undefined) this.#sink.command(command, copyOf(bytes, at + 5, end));
    return end;
  }

  /** START ram: u32 id | u8 n | "ram" | u32 instance | u32 version | u64 total|MEM_SIZE; then the block list. */
  #start(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (to - at < 6) return at;
    const nameLength = bytes[at + 5] as number;
    const sizes = at + 6 + nameLength + 8;
    if (to < sizes) return at;
    const name = latin1(bytes, at + 6, nameLength);
    if (name !== "ram") {
      this.#unsupported(`iterable section ${printable(name)}; godwit carries only "ram"`, 5);
    }
    if (this.#ramSectionId >= 0) this.#invalid('a second START of section "ram"', 0);
    const version = view.getUint32(sizes - 4);
    if (version !== 4) {
      this.#unsupported(`section "ram" version ${version}; godwit knows 4`, sizes - 4 - at);
    }
    if (to - sizes < 8) return at;
    const low = view.getUint32(sizes + 4);
    if ((low & 0xfff) !== RamFlag.memorySize) {
      this.#invalid('section "ram" without sizes', sizes - at);
    }
    this.#memoryLeft = view.getUint32(sizes) * 2 ** 32 + (low >>> 12) * pageBytes;
    if (this.#memoryLeft > this.#limits.memoryBytesMax) {
      this.#invalid(`${this.#memoryLeft} bytes of memory`, sizes - at);
    }
    this.#ramSectionId = view.getUint32(at + 1);
    this.#state = "blocks";
    return sizes + 8;
  }

  /** One block, u8 n | name | u64 length, until the lengths make up the total; then EOS and footer. */
  #blockList(bytes: Uint8Array, view: DataView, at: number, to: number): number {
    if (this.#memoryLeft === 0) return this.#endOfBlocks(view, at, to);
    if (to - at < 1) return at;
    const nameLength = bytes[at] as number;
    const lengthAt = at + 1 + nameLength;
    if (to - lengthAt < 8) return at;
    const name = latin1(bytes, at + 1, nameLength);
    const lengthBytes = view.getUint32(lengthAt) * 2 ** 32 + view.getUint32(lengthAt + 4);
    this.#addBlock(name, lengthBytes);
    this.#memoryLeft -= lengthBytes;
    return lengthAt + 8;
  }

  /** EOS and footer are consumed together, so that the head ends with the section. */
  #endOfBlocks(view: DataView, at: number, to: number): number {
    if (to - at < 8) return at;
    const low = view.getUint32(at + 4);
    if (view.getUint32(at) !== 0 || low !== RamFlag.eos) {
      const flag = ramFlagNames[low];
      if (flag !== undefined) this.#unsupported(`RAM record ${flag}`, 0);
      this.#invalid("the block list does not end where its sizes say", 0);
    }
    if (to - at < 13) return at;
    this.#checkFooter(view, at + 8, 8);
    this.#state = "sections";
    return at + 13;
  }

  #addBlock(name: string, lengthBytes: number): void {
    const index = this.#blocks.length;
    if (name === "") this.#invalid("a RAM block without a name", 0);
    if (this.#blockByName.has(name)) this.#invalid(`RAM block ${printable(name)} twice`, 0);
    if (index >= this.#limits.blockCountMax) this.#invalid(`more than ${index} RAM blocks`, 0);
    if (lengthBytes === 0 || lengthBytes % pageBytes !== 0 || lengthBytes > this.#memoryLeft) {
      this.#invalid(`RAM block ${printable(name)} of ${lengthBytes} bytes`, 0);
    }
    this.#blocks.push({ index, name, lengthBytes, pageCount: lengthBytes / pageBytes });
    this.#blockByName.set(name, index);
  }

  #partOrEnd(view: DataView, at: number, to: number, isEnd: boolean): number {
    if (to - at < 5) return at;
    const id = view.getUint32(at + 1);
    if (this.#ramSectionId < 0 || id !== this.#ramSectionId) {
      this.#invalid(`PART or END of section ${id}, which was not started`, 1);
    }
    if (this.#ramEnded) this.#invalid("RAM goes on after its END", 0);
    this.#sectionIsEnd = isEnd;
    this.#state = "records";
    return at + 5;
  }

  /** The hot loop: about ten operations a page. */
  #records(bytes: Uint8Array, view: DataView, from: number, to: number): number {
    const counts = this.#counts;
    const filter = this.#filter;
    let at = from;
    let runFrom = from;
    counts.pageCount = 0;
    counts.zeroCount = 0;
    while (to - at >= 8) {
      const low = view.getUint32(at + 4);
      const flags = low & 0xfff;
      let record: number;
      if (flags === (RamFlag.page | RamFlag.continue)) {
        if (to - at < pageRecordBytes) break;
        record = pageRecordBytes;
      } else if (flags === (RamFlag.zero | RamFlag.continue)) {
        if (to - at < zeroRecordBytes) break;
        record = zeroRecordBytes;
        if (bytes[at + 8] !== 0) this.#invalid("a zero page with a fill byte", at - from);
      } else {
        this.#emit(bytes, runFrom, at);
        const next = this.#rareRecord(bytes, view, from, at, to, flags);
        if (next < 0) return this.#endOfRecords(at);
        if (next === at) return at;
        // #rareRecord left the record's new start in `next`: it is read again in its plain form.
        at = next;
        runFrom = next;
        continue;
      }
      const page = view.getUint32(at) * 0x100000 + (low >>> 12);
      if (page >= this.#blockPageCount) this.#outside(page, at - from);
      const zero = record === zeroRecordBytes;
      if (filter !== undefined && !filter.keep(this.#block, page, zero)) {
        this.#emit(bytes, runFrom, at);
        runFrom = at + record;
      } else if (zero) counts.zeroCount++;
      else counts.pageCount++;
      at += record;
      if (at - runFrom >= runBytesMax) {
        this.#emit(bytes, runFrom, at);
        runFrom = at;
      }
    }
    this.#emit(bytes, runFrom, at);
    return at;
  }

  #emit(bytes: Uint8Array, from: number, to: number): void {
    if (to === from) return;
    this.#sink.pages(this.#block, bytes, from, to, this.#counts);
    this.#counts.pageCount = 0;
    this.#counts.zeroCount = 0;
  }

  #outside(page: number, offset: number): never {
    const name = this.#blocks[this.#block]?.name;
    if (name === undefined) this.#invalid("a page before its block was named", offset);
    this.#invalid(`page ${page} of RAM block ${name}, which has ${this.#blockPageCount}`, offset);
  }

  /**
   * EOS: answers -1. A record with a block name: moves its word in front of its data, selects the block, and answers the
   * new start. Not complete: answers `at`. Anything else is refused.
   */
  #rareRecord(
    bytes: Uint8Array,
    view: DataView,
    from: number,
    at: number,
    to: number,
    flags: number,
  ): number {
    const low = view.getUint32(at + 4);
    if (flags === RamFlag.eos) {
      if (view.getUint32(at) !== 0 || low !== RamFlag.eos)
        this.#invalid("EOS with an address", at - from);
      return -1;
    }
    if (flags !== RamFlag.page && flags !== RamFlag.zero) {
      for (const [flag, name] of Object.entries(ramFlagNames)) {
        if ((flags & Number(flag)) !== 0) this.#unsupported(`RAM record ${name}`, at - from);
      }
      this.#invalid(`RAM record with flags ${hex(flags)}`, at - from);
    }
    if (to - at < 9) return at;
    const nameLength = bytes[at + 8] as number;
    if (to - at < 9 + nameLength) return at;
    const name = latin1(bytes, at + 9, nameLength);
    const block = this.#blockByName.get(name);
    if (block === undefined) this.#invalid(`unknown RAM block ${printable(name)}`, at - from);
    this.#block = block;
    this.#blockPageCount = (this.#blocks[block] as RamBlock).pageCount;
    const start = at + 1 + nameLength;
    const high = view.getUint32(at);
    view.setUint32(start, high);
    view.setUint32(start + 4, low | RamFlag.continue);
    return start;
  }

  /** `at` stands on EOS. */
  #endOfRecords(at: number): number {
    this.#state = "footer";
    return at + 8;
  }

  #footer(view: DataView, at: number, to: number): number {
    if (to - at < 5) return at;
    this.#checkFooter(view, at, 0);
    this.#state = "sections";
    if (this.#sectionIsEnd) {
      this.#ramEnded = true;
      this.#sink.ramEnd();
    }
    return at + 5;
  }

  /** `offset` is how far `at` lies behind the bytes consumed. */
  #checkFooter(view: DataView, at: number, offset: number): void {
    if (view.getUint8(at) !== SectionType.footer) {
      this.#invalid("a RAM section without footer", offset);
    }
    const id = view.getUint32(at + 1);
    if (id !== this.#ramSectionId) {
      this.#invalid(`the footer of section ${id} in section ${this.#ramSectionId}`, offset + 1);
    }
  }

  /** Device state follows RAM END; before it, it would be state that godwit cannot delimit (virtio-mem's early setup). */
  #beginTail(bytes: Uint8Array, at: number, to: number, type: number): number {
    if (!this.#ramEnded) {
      if (type === SectionType.eof) this.#invalid("end of stream before RAM END", 0);
      if (to - at < 6) return at;
      const nameLength = bytes[at + 5] as number;
      if (to - at < 6 + nameLength) return at;
      const name = latin1(bytes, at + 6, nameLength);
      this.#unsupported(`device state ${printable(name)} before the end of RAM`, 0);
    }
    this.#state = "tail";
    return this.#passTail(bytes, at, to);
  }

  #passTail(bytes: Uint8Array, at: number, to: number): number {
    if (to === at) return at;
    this.#tailBytes += to - at;
    if (this.#tailBytes > this.#limits.tailBytesMax) {
      this.#invalid(`more than ${this.#limits.tailBytesMax} bytes of device state`, 0);
    }
    this.#sink.tail(bytes, at, to);
    return to;
  }

  #invalid(what: string, offset: number): never {
    throw new GodwitError(
      "STREAM_INVALID",
      `migration stream: ${what} (byte ${this.#offset + offset})`,
    );
  }

  #unsupported(what: string, offset: number): never {
    throw new GodwitError(
      "STREAM_UNSUPPORTED",
      `migration stream: ${what} (byte ${this.#offset + offset})`,
    );
  }
}

/** `slice` would not do: on a Buffer it shares the memory. */
function copyOf(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return new Uint8Array(bytes.subarray(from, to));
}

function latin1(bytes: Uint8Array, at: number, length: number): string {
  let text = "";
  for (let i = at; i < at + length; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}

/** Names from the stream go into messages and terminals: quoted, control characters escaped, shortened. */
function printable(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
