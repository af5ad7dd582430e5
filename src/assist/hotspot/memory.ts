/**
 * The two primitives by which a JVM is read from outside, and the guard that every read of this folder passes.
 *
 * What is read belongs to somebody else and may be hostile: tables that never end, pointers to anywhere. So all work has a
 * bound in requests and in bytes, ranges are checked before they are asked for, and every surprise is an
 * ASSIST_UNSUPPORTED that says in a sentence what was found.
 */
import { GodwitError } from "../../base/index.ts";
import type { MemoryRange } from "../ranges.ts";

/** A process in the guest; all ranges of one `read` travel in one round trip. */
export interface ProcessMemory {
  /** The text of /proc/PID/maps. */
  maps(): Promise<string>;
  read(ranges: readonly MemoryRange[]): Promise<Uint8Array[]>;
}

/** Largest user-space address plus one, on x86-64 without five-level paging; a JVM never asks for more. */
export const addressMax = 2 ** 47;

/** Why this JVM travels as ordinary memory. `reason` goes on after "this JVM …". */
export function unsupported(reason: string, cause?: unknown): GodwitError {
  return new GodwitError("ASSIST_UNSUPPORTED", `this JVM ${reason}`, { cause });
}

export interface Budget {
  readonly requestCountMax: number;
  readonly bytesMax: number;
}

/** About three times what the hungriest release takes. */
export const openBudget: Budget = { requestCountMax: 40, bytesMax: 8 << 20 };
export const snapshotBudget: Budget = { requestCountMax: 6, bytesMax: 16 << 20 };

/** Failures that mean "this memory is not there", as opposed to a lost agent. */
const unreadableCodes = new Set(["AGENT_FAILED", "MEMORY_READ"]);

/** Reads within a budget. One for each job: opening, a snapshot. */
export class BoundedMemory {
  readonly #memory: ProcessMemory;
  readonly #budget: Budget;
  #requestCount = 0;
  #bytes = 0;

  constructor(memory: ProcessMemory, budget: Budget) {
    this.#memory = memory;
    this.#budget = budget;
  }

  get requestCount(): number {
    return this.#requestCount;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async maps(): Promise<string> {
    this.#spend(0);
    const text = await this.#memory.maps();
    this.#spend(text.length, 0);
    return text;
  }

  /** One round trip; an empty list costs nothing. */
  async read(ranges: readonly MemoryRange[]): Promise<View[]> {
    if (ranges.length === 0) return [];
    let total = 0;
    for (const { address, bytes } of ranges) {
      if (!isAddress(address) || !(bytes > 0) || !isAddress(address + bytes - 1)) {
        throw unsupported(`has a table that points nowhere: ${bytes} bytes at ${hex(address)}`);
      }
      total += bytes;
    }
    this.#spend(total);
    const pieces = await this.#readAll(ranges);
    return ranges.map(({ address, bytes }, index) => {
      const piece = pieces[index];
      if (piece?.length !== bytes)
        throw unsupported(`was read short: ${piece?.length} of ${bytes} bytes at ${hex(address)}`);
      return new View(piece, address);
    });
  }

  async #readAll(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    try {
      return await this.#memory.read(ranges);
    } catch (error) {
      if (!(error instanceof GodwitError) || !unreadableCodes.has(error.code)) throw error;
      throw unsupported("has tables that lead to memory which cannot be read", error);
    }
  }

  #spend(bytes: number, requestCount = 1): void {
    this.#requestCount += requestCount;
    this.#bytes += bytes;
    const { requestCountMax, bytesMax } = this.#budget;
    if (this.#requestCount > requestCountMax || this.#bytes > bytesMax) {
      throw unsupported(
        `has tables that do not end: more than ${bytesMax >> 20} MiB or ${requestCountMax} requests to read them`,
      );
    }
  }
}

export function isAddress(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 4096 && value < addressMax;
}

export function hex(value: number): string {
  return Number.isSafeInteger(value) ? `0x${value.toString(16)}` : String(value);
}

/** Little-endian words of a piece of memory that knows where it came from. */
export class View {
  readonly bytes: Uint8Array;
  readonly address: number;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, address: number) {
    this.bytes = bytes;
    this.address = address;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  u8(at: number): number {
    return this.#view.getUint8(this.#within(at, 1));
  }

  u16(at: number): number {
    return this.#view.getUint16(this.#within(at, 2), true);
  }

  u32(at: number): number {
    return this.#view.getUint32(this.#within(at, 4), true);
  }

  /** Rounded above 2^53: compare only. */
  u64(at: number): number {
    return Number(this.#view.getBigUint64(this.#within(at, 8), true));
  }

  /** An unsigned word of 1, 2, 4 or 8 bytes. */
  word(at: number, bytes: number): number {
    if (bytes === 8) return this.u64(at);
    if (bytes === 4) return this.u32(at);
    return bytes === 2 ? this.u16(at) : this.u8(at);
  }

  /** The C string at `at` in ASCII; undefined when it does not end within the view or within `bytesMax`. */
  text(at: number, bytesMax = 128): string | undefined {
    if (at < 0 || at >= this.length) return undefined;
    const end = this.bytes.indexOf(0, at);
    if (end < 0 || end - at > bytesMax) return undefined;
    return String.fromCharCode(...this.bytes.subarray(at, end));
  }

  #within(at: number, bytes: number): number {
    if (at >= 0 && at + bytes <= this.length) return at;
    throw unsupported(
      `has a structure larger than what was read: ${at} + ${bytes} of ${this.length}`,
    );
  }
}
