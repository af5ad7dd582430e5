/**
 * The connection between two godwits: frames out, frames in, keep-alive, and the bound on what is in flight. The same at
 * both ends; what the frames mean is decided by the sessions.
 */
import type { Socket } from "node:net";
import { type ErrorRecord, GodwitError } from "../base/index.ts";
import { type Clock, type Slab, SlabReceiver, type SlabOptions } from "../io/index.ts";
import {
  type Acknowledgement,
  encodeAckBody,
  encodeControlBody,
  encodeHeader,
  encodePreamble,
  FrameDecoder,
  type FrameHeader,
  FrameType,
  frameHeaderBytes,
  plainHeader,
} from "./wire/index.ts";

export interface ChannelEvents {
  /** A frame other than keep-alive. The body is `slab.bytes[from, to)`; hold the slab to keep it. */
  frame(header: FrameHeader, slab: Slab, from: number, to: number): void;
  /** Called once; nothing follows. */
  lost(error: GodwitError): void;
}

/** Silence after which the peer counts as lost. */
export const peerSilenceMs = 15_000;
const aliveEveryMs = 2_000;
/** More than a socket's high-water mark, so that "drain" follows. */
const ackQueueBytesMax = 256 << 10;

export class FrameChannel {
  readonly receiver: SlabReceiver;
  readonly #clock: Clock;
  readonly #events: ChannelEvents;
  readonly #decoder: FrameDecoder;
  readonly #silenceMs: number;
  #socket: Socket | undefined;
  #slab: Slab | undefined;
  #sequence = 0;
  #lost = false;
  /** An acknowledgement that waits for the socket to drain. */
  #lateAck: Acknowledgement | undefined;
  #lastSentMs: number;
  #lastHeardMs: number;
  #stopTimer: () => void = () => {};
  /** Bytes given to the socket, frame headers included. */
  wireBytes = 0;

  constructor(
    clock: Clock,
    slabs: SlabOptions,
    events: ChannelEvents,
    silenceMs: number = peerSilenceMs,
  ) {
    this.#clock = clock;
    this.#silenceMs = silenceMs;
    this.#events = events;
    this.#lastSentMs = clock.nowMs();
    this.#lastHeardMs = clock.nowMs();
    const receiver = new SlabReceiver(slabs, (slab, from, to) => this.#received(slab, from, to));
    this.#decoder = new FrameDecoder({
      version: () => {},
      frame: (header, _bytes, from, to) => {
        if (header.type === FrameType.alive || this.#lost) return;
        events.frame(header, this.#slab as Slab, from, to);
      },
      get isHeldBack() {
        return receiver.isHeldBack;
      },
    });
    this.receiver = receiver;
  }

  get isLost(): boolean {
    return this.#lost;
  }

  /** Takes the connected socket; its bytes arrive through `receiver`. */
  open(socket: Socket): void {
    // Finished while it was being connected.
    if (this.#lost) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#lose(`the connection failed: ${error.message}`));
    socket.on("end", () => this.#lose("the other godwit closed the connection"));
    socket.on("drain", () => this.#drained());
    socket.on("close", () => this.#lose("the connection ended"));
    socket.write(encodePreamble());
    this.#lastHeardMs = this.#clock.nowMs();
    this.#tick();
  }

  sendControl(message: object): void {
    const body = encodeControlBody(message);
    this.#send(plainHeader(FrameType.control, body.length, 0), [body]);
  }

  /** Total bytes. A peer that does not read gets one acknowledgement when it does, not a queue of them. */
  sendAck(ack: Acknowledgement): void {
    const waits = this.#socket !== undefined && this.#socket.writableLength > ackQueueBytesMax;
    if (waits) {
      this.#lateAck = ack;
      return;
    }
    const body = encodeAckBody(ack);
    this.#send(plainHeader(FrameType.ack, body.length, 0), [body]);
  }

  #drained(): void {
    const ack = this.#lateAck;
    this.#lateAck = undefined;
    if (ack !== undefined) this.sendAck(ack);
  }

  /** A frame of bytes that stay unchanged until `sent` is called. */
  sendBytes(type: FrameType, pieces: readonly Uint8Array[], sent?: () => void): void {
    let bodyBytes = 0;
    for (const piece of pieces) bodyBytes += piece.length;
    this.#send(plainHeader(type, bodyBytes, 0), pieces, sent);
  }

  /** As `sendBytes`; `header.bodyBytes` is the length of the pieces, the sequence is filled in. */
  sendPages(header: FrameHeader, pieces: readonly Uint8Array[], sent: () => void): void {
    this.#send(header, pieces, sent);
  }

  cork(): void {
    this.#socket?.cork();
  }

  uncork(): void {
    this.#socket?.uncork();
  }

  /**
   * Sends what was queued, then ends; resolves when the peer has ended too, at the latest after `ms`. Until then what it
   * still sends is read and dropped: closing with bytes unread would reset the connection, and the peer would lose our
   * last words.
   */
  async finish(ms: number): Promise<void> {
    const socket = this.#socket;
    this.#lost = true;
    this.#stopTimer();
    if (socket === undefined || socket.destroyed) return;
    await new Promise<void>((resolve) => {
      const stop = this.#clock.after(ms, resolve);
      socket.once("close", () => {
        stop();
        resolve();
      });
      socket.end();
    });
    socket.destroy();
  }

  destroy(): void {
    this.#lost = true;
    this.#stopTimer();
    this.#socket?.destroy();
  }

  #received(slab: Slab, from: number, to: number): number {
    this.#lastHeardMs = this.#clock.nowMs();
    if (this.#lost) return to;
    this.#slab = slab;
    try {
      return this.#decoder.push(slab.bytes as Buffer, from, to);
    } catch (error) {
      this.#fail(error);
      return to;
    }
  }

  #send(header: FrameHeader, pieces: readonly Uint8Array[], sent?: () => void): void {
    const socket = this.#socket;
    if (socket === undefined || this.#lost) {
      sent?.();
      return;
    }
    header.sequence = this.#sequence;
    this.#sequence = (this.#sequence + 1) >>> 0;
    const last = pieces.length - 1;
    const bytes = encodeHeader(header, pieces);
    this.wireBytes += frameHeaderBytes + header.bodyBytes;
    this.#lastSentMs = this.#clock.nowMs();
    if (last < 0) {
      socket.write(bytes, sent);
      return;
    }
    socket.cork();
    socket.write(bytes);
    for (let i = 0; i < last; i++) socket.write(pieces[i] as Uint8Array);
    socket.write(pieces[last] as Uint8Array, sent);
    socket.uncork();
  }

  /** Shows life when nothing else does, and notices a silent peer; not while we ourselves refuse to listen. */
  #tick(): void {
    const nowMs = this.#clock.nowMs();
    if (this.receiver.isPaused) this.#lastHeardMs = nowMs;
    if (nowMs - this.#lastHeardMs > this.#silenceMs) {
      this.#lose(`the other godwit was silent for ${this.#silenceMs / 1000} s`);
      return;
    }
    if (nowMs - this.#lastSentMs >= aliveEveryMs / 2) {
      this.#send(plainHeader(FrameType.alive, 0, 0), []);
    }
    this.#stopTimer = this.#clock.after(aliveEveryMs, () => this.#tick());
  }

  #lose(message: string): void {
    this.#fail(new GodwitError("PEER_LOST", message));
  }

  #fail(error: unknown): void {
    if (this.#lost) return;
    this.destroy();
    this.#events.lost(
      error instanceof GodwitError ? error : new GodwitError("IO", String(error), { cause: error }),
    );
  }
}

/** Shown to the peer: codes and texts only, no cause, no stack. */
export function peerError(error: ErrorRecord): { code: ErrorRecord["code"]; message: string } {
  return { code: error.code, message: error.message.slice(0, 2000) };
}
