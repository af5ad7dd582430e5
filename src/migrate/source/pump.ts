/**
 * The source's data path: QEMU's stream in, frames out, no copy of a page in between unless a codec makes one.
 *
 *   QEMU ──unix──▶ slabs ──▶ StreamReader ──runs──▶ batch ──frame──▶ channel ──▶ other godwit
 *                              └─ SkipMap leaves pages out
 *
 * A batch may be with other threads for a while (encoder `later`); the outbox keeps all that follows in its order.
 * Reading stops (back-pressure up to QEMU, whose guest runs on) for any of the reasons in `HoldReason`.
 */
import type { Socket } from "node:net";
import { GodwitError } from "../../base/index.ts";
import type { BatchEncoder } from "../../codec/index.ts";
import {
  adoptSocket,
  type Clock,
  defaultSlabOptions,
  type Slab,
  type SlabOptions,
  SlabReceiver,
} from "../../io/index.ts";
import {
  type RunCounts,
  shutOk,
  switchoverAck,
  type StreamHead,
  StreamReader,
  type StreamSink,
} from "../../qemu/stream/index.ts";
import type { FrameChannel } from "../channel.ts";
import type { SkipMap } from "../skip-map.ts";
import {
  type Acknowledgement,
  batchBytesTarget,
  type FrameHeader,
  FrameType,
} from "../wire/index.ts";
import { batchHeader, BatchSender } from "./batch-sender.ts";
import { OwedPages, type PageSource } from "./owed-pages.ts";

/**
 * window: too much in flight. pace: the bandwidth limit. stale: skipped pages go before what follows. round: a round is not to
 * end so soon. owner: the session. beside: enough batches are with other threads.
 */
export type HoldReason = "window" | "pace" | "stale" | "round" | "owner" | "beside";

export interface SourcePumpEvents {
  /** The head has arrived and is valid. */
  began(head: StreamHead): void;
  failed(error: GodwitError): void;
  /** QEMU closed the stream. */
  ended(): void;
}

/** Between two looks at whether other threads have enough to do. */
const pieceBytes = 512 << 10;

export class SourcePump implements StreamSink {
  readonly receiver: SlabReceiver;
  readonly #clock: Clock;
  readonly #channel: FrameChannel;
  readonly #events: SourcePumpEvents;
  #skip: SkipMap | undefined;
  readonly #readPages: PageSource;
  readonly sender: BatchSender;
  #owed: OwedPages | undefined;
  readonly #reader: StreamReader;
  readonly #holds = new Set<HoldReason>();
  #socket: Socket | undefined;
  #slab: Slab | undefined;
  #ramEnded = false;
  #isStarving = false;
  #owing: Promise<void> = Promise.resolve();
  #stopped = false;
  #mayStop = false;
  #batch: Uint8Array[] = [];
  #batchHeader: FrameHeader = batchHeader(0);

  pageCount = 0;
  #zeroCount = 0;
  /** QEMU waits for `allowSwitchover`. Without the capability it would take that word for an error. */
  isGated = false;

  constructor(options: {
    clock: Clock;
    channel: FrameChannel;
    events: SourcePumpEvents;
    skip: SkipMap | undefined;
    encoder: BatchEncoder;
    readPages: PageSource;
    bandwidthBytesPerSecond: number;
    slabs?: SlabOptions;
  }) {
    this.#clock = options.clock;
    this.#channel = options.channel;
    this.#events = options.events;
    this.#skip = options.skip;
    const { clock, channel, encoder, bandwidthBytesPerSecond } = options;
    this.sender = new BatchSender({
      clock,
      channel,
      encoder,
      bandwidthBytesPerSecond,
      failed: (error) => this.#fail(error),
      moved: () => this.#moved(),
    });
    this.#readPages = options.readPages;
    this.#reader = new StreamReader(this);
    if (options.skip !== undefined) this.useSkip(options.skip);
    this.receiver = new SlabReceiver(
      options.slabs ?? defaultSlabOptions,
      (slab, from, to) => this.#consume(slab, from, to),
      (starving) => {
        this.#isStarving = starving;
        this.#tellLink();
      },
    );
  }

  /** From now on pages are left out. */
  useSkip(skip: SkipMap): void {
    this.#skip = skip;
    this.#owed = new OwedPages({
      sender: this.sender,
      skip,
      readPages: this.#readPages,
      isStopped: () => this.#stopped,
    });
    this.#reader.useFilter(skip);
  }

  get zeroCount(): number {
    return this.#zeroCount + this.blankCount;
  }

  /** Of the zero pages, those announced before QEMU came to them. */
  get blankCount(): number {
    return this.#owed?.blankCount ?? 0;
  }

  /** Left out before, and read from the guest's memory since. */
  get staleFetchedCount(): number {
    return this.#owed?.fetchedCount ?? 0;
  }

  /** Bytes of QEMU's stream read so far. */
  get streamBytes(): number {
    return this.#reader.offset;
  }

  get isEnded(): boolean {
    return this.#ramEnded;
  }

  /** Takes the connection that QEMU made to us. */
  open(accepted: Socket): void {
    if (this.#stopped) {
      accepted.destroy();
      return;
    }
    const socket = adoptSocket(accepted, this.receiver);
    this.#socket = socket;
    socket.on("error", (error) =>
      this.#fail(new GodwitError("IO", `the stream failed: ${error.message}`)),
    );
    socket.on("end", () => this.#ended());
    socket.on("close", () => this.#ended());
    if (this.#mayStop) socket.write(switchoverAck);
  }

  /** Tells QEMU that the destination has everything: the hand-over. Resolves when the kernel has it. */
  handOver(): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      if (socket === undefined || socket.destroyed) {
        reject(new GodwitError("IO", "QEMU closed the stream before the hand-over"));
        return;
      }
      socket.write(shutOk, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** With capability `switchover-ack` QEMU does not stop the VM before it was told this, whatever its limits say. */
  allowSwitchover(): void {
    if (this.#mayStop || !this.isGated) return;
    this.#mayStop = true;
    this.#socket?.write(switchoverAck);
  }

  /** Closes the stream: before the hand-over QEMU then resumes its VM. */
  stop(): void {
    this.#stopped = true;
    this.sender.close();
    this.#socket?.destroy();
  }

  /** No bandwidth limit from here on: the VM is stopped, every millisecond counts. */
  liftBandwidth(): void {
    this.sender.liftBandwidth();
    this.unhold("pace");
  }

  hold(reason: HoldReason): void {
    this.#holds.add(reason);
    this.#tellLink();
    if (reason === "beside") this.sender.link.waitsBeside(this.#clock.nowMs());
    this.receiver.holdBack();
  }

  unhold(reason: HoldReason): void {
    if (!this.#holds.delete(reason)) return;
    if (reason === "beside") this.sender.link.goesOnBeside(this.#clock.nowMs());
    this.#tellLink();
    if (this.#holds.size > 0) return;
    this.receiver.goOn();
  }

  /** Whether it is the link that keeps records from being read. Slabs are kept by what waits for it as it is. */
  #tellLink(): void {
    const holds = [...this.#holds];
    const starves = this.#isStarving && holds.every(isForRoom);
    if (starves || holds.some(isForRoom)) this.sender.link.waits(this.#clock.nowMs());
    else this.sender.link.goesOn(this.#clock.nowMs());
  }

  acknowledged(ack: Acknowledgement, bytesPerMs: number): void {
    this.sender.acknowledged(ack, bytesPerMs);
    if (this.sender.hasRoom) this.unhold("window");
  }

  // StreamSink

  head(head: StreamHead): void {
    if (head.blocks.length > 0xffff)
      throw new GodwitError("STREAM_UNSUPPORTED", "too many RAM blocks");
    this.sender.send(FrameType.head, [head.bytes]);
    this.#events.began(head);
  }

  pages(block: number, bytes: Uint8Array, from: number, to: number, counts: RunCounts): void {
    const header = this.#batchHeader;
    if (
      header.bodyBytes > 0 &&
      (header.block !== block || header.bodyBytes + to - from > batchBytesTarget)
    ) {
      this.#flush();
    }
    const batch = this.#batchHeader;
    batch.block = block;
    batch.bodyBytes += to - from;
    batch.pageCount += counts.pageCount;
    batch.zeroCount += counts.zeroCount;
    this.#batch.push(bytes.subarray(from, to));
  }

  command(command: number, data: Uint8Array): void {
    this.#flush();
    const body = Buffer.concat([Uint8Array.of(command >>> 8, command), data]);
    this.sender.send(FrameType.command, [body]);
  }

  ramEnd(): void {
    this.#flush();
    this.#ramEnded = true;
  }

  tail(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; at += batchBytesTarget) {
      const piece = bytes.subarray(at, Math.min(to, at + batchBytesTarget));
      this.sender.send(FrameType.tail, [piece], this.#holdSlab());
    }
  }

  #consume(slab: Slab, from: number, to: number): number {
    if (this.#stopped) return to;
    this.#slab = slab;
    let at = from;
    this.#channel.cork();
    try {
      for (let next = -1; next !== at && this.#holds.size === 0; ) {
        const wasEnded = this.#ramEnded;
        next = at;
        at = this.#reader.push(slab.bytes, at, Math.min(to, at + pieceBytes));
        // What is left of a piece may be a part of something.
        if (at === next) at = this.#reader.push(slab.bytes, at, to);
        if (!wasEnded && this.#ramEnded) this.#endRam();
        if (this.sender.isBesideFull) this.hold("beside");
      }
      this.#flush();
    } catch (error) {
      this.#fail(error);
      return to;
    } finally {
      this.#channel.uncork();
    }
    this.#restrain();
    return at;
  }

  /** Stops reading when too much is in flight, or to keep to the bandwidth. */
  #restrain(): void {
    if (this.sender.isWindowFull) this.hold("window");
    if (this.sender.isBesideFull) this.hold("beside");
    if (!this.#holds.has("pace")) this.#pace();
  }

  #pace(): void {
    const waitMs = this.sender.debtMs();
    if (waitMs < 1) {
      this.unhold("pace");
      return;
    }
    this.hold("pace");
    this.#clock.after(waitMs, () => this.#pace());
  }

  /** The VM is stopped and QEMU has sent all it knows to be dirty: what was left out follows, then the end of RAM. */
  #endRam(): void {
    if (this.#owed === undefined || this.#skip?.staleCount === 0) {
      this.sender.send(FrameType.ramEnd, []);
      return;
    }
    this.hold("stale");
    // Now nothing is disposable any more: the destination's memory is to be equal.
    this.#owed.send(true).then(
      () => {
        this.sender.send(FrameType.ramEnd, []);
        this.unhold("stale");
      },
      (error: unknown) => this.#fail(error),
    );
  }

  /**
   * Sends what was left out and is no longer disposable, while the VM runs. A page that is written meanwhile may arrive torn:
   * QEMU then knows it to be dirty and sends it again.
   */
  sendOwed(): Promise<void> {
    this.#owing = this.#owing.then(() => this.#sendOwedNow());
    return this.#owing;
  }

  async #sendOwedNow(): Promise<void> {
    if (this.#owed === undefined || this.#isOver || this.#skip?.owedCount === 0) return;
    this.hold("stale");
    try {
      await this.#owed.send(false);
    } finally {
      this.unhold("stale");
    }
  }

  /** Announces disposable pages as zero of which nothing was sent yet, so that they need not be sent when they are. */
  async sendBlank(): Promise<void> {
    if (!this.#isOver) await this.#owed?.sendBlank(() => this.#isOver);
  }

  /** Nothing is sent any more while the VM runs. */
  get #isOver(): boolean {
    return this.#ramEnded || this.#stopped;
  }

  #flush(): void {
    const header = this.#batchHeader;
    if (header.bodyBytes === 0) return;
    this.pageCount += header.pageCount;
    this.#zeroCount += header.zeroCount;
    this.sender.sendBatch(header, this.#batch, this.#holdSlab());
    this.#batch = [];
    this.#batchHeader = batchHeader(0);
  }

  /** Batches came back from other threads and went out. */
  #moved(): void {
    this.#restrain();
    if (this.sender.isBesideLow) this.unhold("beside");
  }

  /** Keeps the current slab until the returned function is called. */
  #holdSlab(): () => void {
    const slab = this.#slab as Slab;
    this.receiver.hold(slab);
    return () => this.receiver.release(slab);
  }

  #ended(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#events.ended();
  }

  #fail(error: unknown): void {
    if (this.#stopped) return;
    this.stop();
    this.#events.failed(
      error instanceof GodwitError ? error : new GodwitError("IO", String(error), { cause: error }),
    );
  }
}

/** The link's reasons; the others are ours. */
function isForRoom(reason: HoldReason): boolean {
  return reason === "window" || reason === "pace";
}
