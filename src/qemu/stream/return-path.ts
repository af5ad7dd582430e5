/**
 * The return path: small messages that a destination QEMU sends back on the socket of the stream (QEMU's
 * docs/devel/migration/main.rst, "Return path"). godwit reads them from the destination QEMU, where SHUT 0 means that the
 * whole state is loaded, and writes SHUT 0 to the source QEMU, which is the instant at which the source hands over.
 *
 *   u16 type | u16 length | data       SHUT: u32 status, 0 = loaded      PONG: u32
 */
import { GodwitError } from "../../base/index.ts";
import { ReturnMessage } from "./format.ts";

/** `SHUT 0`: to a source QEMU this says "loaded, you may let go"; it answers with state `completed`. */
export const shutOk: Uint8Array = Uint8Array.of(0, 1, 0, 4, 0, 0, 0, 0);

/** To a source QEMU with the capability `switchover-ack` (8.1 and newer): from now on it may stop the VM. */
export const switchoverAck: Uint8Array = Uint8Array.of(0, ReturnMessage.switchoverAck, 0, 0);

/** Longest data of any message that godwit accepts (REQ_PAGES_ID with a 255-byte name has 268). */
const dataBytesMax = 1024;

export class ReturnPathReader {
  readonly #onShut: (status: number) => void;
  #pending: Uint8Array = new Uint8Array(0);
  /** Offset of the next message on the return path, for error texts. */
  #offset = 0;

  constructor(onShut: (status: number) => void) {
    this.#onShut = onShut;
  }

  /** Takes any number of bytes; throws STREAM_INVALID or STREAM_UNSUPPORTED. */
  push(bytes: Uint8Array): void {
    const all =
      this.#pending.length === 0 ? bytes : new Uint8Array(Buffer.concat([this.#pending, bytes]));
    let at = 0;
    const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
    while (all.length - at >= 4) {
      const type = view.getUint16(at);
      const length = view.getUint16(at + 2);
      if (length > dataBytesMax) {
        throw this.#error("STREAM_INVALID", `a message of ${length} bytes`);
      }
      if (all.length - at < 4 + length) break;
      this.#message(type, length, view, at + 4);
      at += 4 + length;
      this.#offset += 4 + length;
    }
    // A copy: the caller's memory is used again.
    this.#pending = new Uint8Array(all.subarray(at));
  }

  #message(type: number, length: number, view: DataView, at: number): void {
    switch (type) {
      case ReturnMessage.pong:
        return;
      case ReturnMessage.shut:
        if (length !== 4) throw this.#error("STREAM_INVALID", `SHUT of ${length} bytes`);
        this.#onShut(view.getUint32(at));
        return;
      default:
        throw this.#error("STREAM_UNSUPPORTED", `message type ${type}`);
    }
  }

  #error(code: "STREAM_INVALID" | "STREAM_UNSUPPORTED", what: string): GodwitError {
    return new GodwitError(code, `return path: ${what} (byte ${this.#offset})`);
  }
}
