/**
 * The destination's data path: frames in, QEMU's stream out, no copy of a page in between.
 *
 * The stream is written anew: sections are opened and closed here, so pages need not arrive in the sections in which the
 * source's QEMU sent them, and others (skipped pages, later decoded ones) can be put among them. All pages go into one PART
 * section, which QEMU accepts at any length.
 *
 * Everything in a frame is hostile: the head is read by the same reader that checks a source's stream, page records are
 * checked against the blocks that the head announced, the rest against sizes.
 */
import type { Socket } from "node:net";
import { GodwitError } from "../../base/index.ts";
import { Decoders, type RecordRange } from "../../codec/index.ts";
import { type Slab, type SlabReceiver, threadIdleMs } from "../../io/index.ts";
import {
  checkRecords,
  defaultStreamLimits,
  encodeCommand,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  ReturnPathReader,
  type RamBlock,
  type StreamHead,
  StreamReader,
  zeroRecordBytes,
} from "../../qemu/stream/index.ts";
import { type Look, UntouchedPages } from "./untouched-pages.ts";
import {
  type Acknowledgement,
  bodyBytesMax,
  type FrameHeader,
  FrameType,
  frameTypeNames,
} from "../wire/index.ts";

export interface DestinationPumpEvents {
  /** QEMU has been given all memory: what it has not read is in the socket's buffer. */
  memoryPassed?(): void;
  /** QEMU says on its return path that it has loaded everything. */
  loaded(): void;
  acknowledge(ack: Acknowledgement): void;
  failed(error: GodwitError): void;
}

/** Largest batch after decoding: as large as a frame's body may be. */
const rawBytesMax = bodyBytesMax[FrameType.pages] as number;

/** QEMU sends one (SWITCHOVER_START). They are written without regard to back-pressure. */
const commandCountMax = 16;

/** Which pages QEMU's process has touched; part of `UntouchedMemory`. */
export interface TouchedMemory {
  has(block: string, pageCount: number): boolean;
  look(block: string, page: number, pageCount: number, onTouched: (page: number) => void): boolean;
}

type Phase = "head" | "pages" | "tail";

export class DestinationPump {
  readonly #receiver: SlabReceiver;
  readonly #events: DestinationPumpEvents;
  readonly #returnPath: ReturnPathReader;
  /** Decoded batches wait in memory for QEMU, so frames wait on the wire for them. */
  readonly #decoders = new Decoders(() => this.#receiver.goOn());
  #socket: Socket | undefined;
  #phase: Phase = "head";
  #head: StreamHead | undefined;
  /** Block of the last record written, as QEMU remembers it. */
  #block = -1;
  #sectionIsOpen = false;
  #stopped = false;
  #isLoaded = false;
  #takenBytes = 0;
  #acknowledgedBytes = 0;
  #queuedCount = 0;
  /** With nothing queued for QEMU; and what the thread had at the beginning of such a time. */
  #idleMs = 0;
  #idleSinceMs: number;
  readonly #threadIdleMs: () => number;
  #tailBytes = 0;
  #commandCount = 0;
  #memory: TouchedMemory | undefined;
  /** By blocks, as they are met; undefined: all of its pages are passed. */
  readonly #untouched: (UntouchedPages | undefined)[] = [];
  /** Of the batch at hand: what QEMU has to be told of it, as pairs of beginning and end. */
  readonly #ranges: number[] = [];

  streamBytes = 0;
  pageCount = 0;
  zeroCount = 0;

  constructor(receiver: SlabReceiver, events: DestinationPumpEvents, idleMs = threadIdleMs) {
    this.#receiver = receiver;
    this.#events = events;
    this.#threadIdleMs = idleMs;
    this.#idleSinceMs = idleMs();
    this.#returnPath = new ReturnPathReader((status) => this.#shut(status));
  }

  get memoryBytes(): number {
    return this.#head?.blocks.reduce((sum, block) => sum + block.lengthBytes, 0) ?? 0;
  }

  get blocks(): StreamHead["blocks"] {
    return this.#head?.blocks ?? [];
  }

  /** Zero pages that are not passed on, as QEMU has zeros there. */
  get untouchedCount(): number {
    return this.#untouched.reduce((sum, one) => sum + (one?.leftOutCount ?? 0), 0);
  }

  /** Takes the connection to the waiting QEMU. `memory`: what is known of its process's. */
  open(socket: Socket, memory?: TouchedMemory): void {
    this.#memory = memory;
    if (this.#stopped) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    socket.on("data", (bytes: Uint8Array) => this.#guard(() => this.#returnPath.push(bytes)));
    socket.on("error", (error) => this.#fail(`QEMU refused the stream: ${error.message}`));
    socket.on("close", () => {
      if (!this.#isLoaded) this.#fail("QEMU closed the stream");
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#socket?.destroy();
  }

  /** Everything is loaded: QEMU may close its end when it likes. */
  release(): void {
    this.#stopped = true;
    this.#socket?.end();
  }

  /** Takes one stream frame (head to tail); throws FRAME_INVALID, STREAM_* or PROTOCOL_ORDER. */
  frame(header: FrameHeader, slab: Slab, from: number, to: number): void {
    if (this.#stopped) return;
    const socket = this.#socket;
    if (socket === undefined) this.#order(header, "before QEMU waits for it");
    socket.cork();
    try {
      this.#dispatch(socket, header, slab, from, to);
    } finally {
      process.nextTick(() => socket.uncork());
    }
  }

  #dispatch(socket: Socket, header: FrameHeader, slab: Slab, from: number, to: number): void {
    switch (header.type) {
      case FrameType.head:
        if (this.#phase !== "head" || this.#head !== undefined) this.#order(header, "again");
        this.#readHead(slab, from, to);
        this.#phase = "pages";
        return this.#passBody(socket, slab, from, to);
      case FrameType.pages:
        if (this.#phase !== "pages") this.#order(header, "outside RAM");
        return this.#pages(socket, header, slab, from, to);
      case FrameType.command:
        if (this.#phase !== "pages" || to - from < 2) this.#order(header, "outside RAM");
        return this.#command(socket, slab, from, to);
      case FrameType.ramEnd:
        if (this.#phase !== "pages") this.#order(header, "outside RAM");
        return this.#endRam(socket);
      case FrameType.tail:
        if (this.#phase !== "tail") this.#order(header, "before the end of RAM");
        this.#tailBytes += to - from;
        if (this.#tailBytes > defaultStreamLimits.tailBytesMax) this.#order(header, "without end");
        return this.#passBody(socket, slab, from, to);
      default:
        this.#order(header, "among stream frames");
    }
  }

  #readHead(slab: Slab, from: number, to: number): void {
    let head: StreamHead | undefined;
    const nothing = (): never => {
      throw new GodwitError("FRAME_INVALID", "a head frame that holds more than the head");
    };
    const sink = { pages: nothing, command: nothing, ramEnd: nothing, tail: nothing };
    const reader = new StreamReader({
      ...sink,
      head: (found) => {
        head = found;
      },
    });
    const end = reader.push(slab.bytes, from, to);
    if (head === undefined || end !== to)
      throw new GodwitError("FRAME_INVALID", "an incomplete head");
    this.#head = head;
  }

  #pages(socket: Socket, header: FrameHeader, slab: Slab, from: number, to: number): void {
    const head = this.#head as StreamHead;
    const block = head.blocks[header.block];
    if (block === undefined) {
      throw invalid(header, `for block ${header.block} of ${head.blocks.length}`);
    }
    if (header.rawBytes > rawBytesMax)
      throw invalid(header, `of ${header.rawBytes} bytes, decoded`);
    const body = { bytes: slab.bytes, from, to, hold: () => this.#holdSlab(slab) };
    const records = this.#decoders.get(header.codec).decode(body, header.rawBytes);
    this.#checkRecords(header, records, block);
    this.#select(records, block);
    this.#passRecords(socket, records, block, to - from);
    if (this.#decoders.isFull) this.#receiver.holdBack();
  }

  /** What of these records QEMU has to be told. */
  #select({ bytes, from, to }: RecordRange, block: RamBlock): void {
    const untouched = this.#untouchedOf(block);
    if (untouched !== undefined) untouched.select(viewOf(bytes), from, to, this.#ranges);
    else this.#ranges.splice(0, Number.POSITIVE_INFINITY, from, to);
  }

  #untouchedOf({ index, name, pageCount }: RamBlock): UntouchedPages | undefined {
    const memory = this.#memory;
    if (memory === undefined) return undefined;
    if (!(index in this.#untouched)) {
      const look: Look = (page, count, onTouched) => memory.look(name, page, count, onTouched);
      const isJudged = memory.has(name, pageCount);
      this.#untouched[index] = isJudged ? new UntouchedPages(pageCount, look) : undefined;
    }
    return this.#untouched[index];
  }

  #passRecords(socket: Socket, records: RecordRange, block: RamBlock, bodyBytes: number): void {
    const ranges = this.#ranges;
    if (ranges.length === 0) {
      // Whoever lent the memory may use it again.
      records.hold()();
      this.#countIdle();
      this.#taken(bodyBytes);
      return;
    }
    if (!this.#sectionIsOpen) {
      this.#write(socket, encodeSectionBegin((this.#head as StreamHead).ramSectionId, "part"));
      this.#sectionIsOpen = true;
    }
    if (block.index !== this.#block) {
      this.#block = block.index;
      const first = ranges[0] as number;
      this.#write(socket, namedWord({ ...records, from: first }, block.name));
      ranges[0] = first + 8;
    }
    // Writes are done in their order: the last one stands for all.
    for (let i = 0; i < ranges.length; i += 2) {
      const [from, to] = ranges.slice(i, i + 2) as [number, number];
      if (i + 2 === ranges.length) this.#pass(socket, { ...records, from, to }, bodyBytes);
      else this.#write(socket, records.bytes.subarray(from, to));
    }
  }

  #checkRecords(header: FrameHeader, records: RecordRange, block: RamBlock): void {
    const { from, to } = records;
    if (to - from < zeroRecordBytes) throw invalid(header, "without a page");
    const counts = checkRecords(viewOf(records.bytes), from, to, block.pageCount);
    if (typeof counts === "string") throw invalid(header, `with ${counts}`);
    if (counts.pageCount !== header.pageCount || counts.zeroCount !== header.zeroCount) {
      throw invalid(header, "whose counts are wrong");
    }
    this.pageCount += counts.pageCount;
    this.zeroCount += counts.zeroCount;
  }

  #command(socket: Socket, slab: Slab, from: number, to: number): void {
    if (++this.#commandCount > commandCountMax) {
      throw new GodwitError("FRAME_INVALID", `more than ${commandCountMax} stream commands`);
    }
    this.#closeSection(socket);
    const command = ((slab.bytes[from] as number) << 8) | (slab.bytes[from + 1] as number);
    // The only command that a source may send here: docs/formats/qemu-stream.md.
    if (command !== 11)
      throw new GodwitError("FRAME_INVALID", `stream command ${command} among pages`);
    this.#write(socket, encodeCommand(11, slab.bytes.subarray(from + 2, to)));
    this.#taken(to - from);
  }

  #endRam(socket: Socket): void {
    this.#closeSection(socket);
    const id = (this.#head as StreamHead).ramSectionId;
    this.#write(socket, encodeSectionBegin(id, "end"));
    this.#write(socket, encodeSectionEnd(id), () => this.#events.memoryPassed?.());
    this.#phase = "tail";
  }

  #closeSection(socket: Socket): void {
    if (!this.#sectionIsOpen) return;
    this.#sectionIsOpen = false;
    this.#write(socket, encodeSectionEnd((this.#head as StreamHead).ramSectionId));
  }

  #write(socket: Socket, bytes: Uint8Array, passed?: () => void): void {
    this.streamBytes += bytes.length;
    socket.write(bytes, passed);
  }

  #holdSlab(slab: Slab): () => void {
    this.#receiver.hold(slab);
    return () => this.#receiver.release(slab);
  }

  #passBody(socket: Socket, slab: Slab, from: number, to: number): void {
    const hold = (): (() => void) => this.#holdSlab(slab);
    this.#pass(socket, { bytes: slab.bytes, from, to, hold }, to - from);
  }

  /** Writes a range where it lies; `bodyBytes` of frame are acknowledged once QEMU has it. */
  #pass(socket: Socket, range: RecordRange, bodyBytes: number): void {
    this.streamBytes += range.to - range.from;
    const release = range.hold();
    this.#countIdle();
    this.#queuedCount++;
    socket.write(range.bytes.subarray(range.from, range.to), () => {
      release();
      if (--this.#queuedCount === 0) this.#idleSinceMs = this.#threadIdleMs();
      this.#taken(bodyBytes);
    });
  }

  /** Until now, if nothing is queued for QEMU. */
  #countIdle(): void {
    if (this.#queuedCount > 0) return;
    const nowMs = this.#threadIdleMs();
    this.#idleMs += nowMs - this.#idleSinceMs;
    this.#idleSinceMs = nowMs;
  }

  /** Acknowledges by the quarter MiB, and whenever nothing is queued. */
  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    const due = this.#takenBytes - this.#acknowledgedBytes;
    if (due === 0 || (due < 256 << 10 && this.#queuedCount > 0)) return;
    this.#acknowledgedBytes = this.#takenBytes;
    this.#events.acknowledge({ takenBytes: this.#takenBytes, idleMs: this.#idleMs });
  }

  #shut(status: number): void {
    if (status !== 0) this.#fail(`QEMU could not load the state (status ${status})`);
    else if (this.#phase !== "tail")
      this.#fail("QEMU says that it is done before it has everything");
    else if (!this.#stopped) {
      // From here on QEMU closes the stream as it likes.
      this.#isLoaded = true;
      this.#events.loaded();
    }
  }

  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }

  #fail(message: string): void {
    if (this.#stopped) return;
    this.stop();
    this.#events.failed(new GodwitError("MIGRATION_FAILED", message));
  }

  #order(header: FrameHeader, when: string): never {
    throw new GodwitError("PROTOCOL_ORDER", `a ${frameTypeNames[header.type]} frame ${when}`);
  }
}

function invalid(header: FrameHeader, what: string): GodwitError {
  return new GodwitError("FRAME_INVALID", `pages frame ${header.sequence} ${what}`);
}

/** The first record's word of a run, with the block's name. */
function namedWord(records: RecordRange, blockName: string): Uint8Array {
  const view = viewOf(records.bytes);
  const { from } = records;
  return encodeNamedWord(view.getUint32(from), view.getUint32(from + 4), blockName);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
