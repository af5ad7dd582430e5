/** A workspace as the reference kernels see it: bytes, u32 by address, the control block, varints. */
import { layout } from "../layout.ts";

export const none = 0xffffffff;

export class PlainMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly control: Uint32Array;
  /** What the last `readVarint` read. */
  varint = 0;

  constructor(buffer: ArrayBuffer) {
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.control = new Uint32Array(buffer, 0, 64);
  }

  get(field: number): number {
    return this.control[field] as number;
  }

  set(field: number, value: number): void {
    this.control[field] = value;
  }

  add(field: number, value: number): void {
    this.control[field] = this.get(field) + value;
  }

  byte(at: number): number {
    return this.bytes[at] as number;
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  copy(to: number, from: number, bytes: number): void {
    this.bytes.copyWithin(to, from, from + bytes);
  }

  copyPage(to: number, from: number): void {
    this.copy(to, from, layout.pageBytes);
  }

  /** `value` below 2^53. Answers where it ends. */
  writeVarint(at: number, value: number): number {
    let end = at;
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.bytes[end++] = (rest % 128) | 128;
    this.bytes[end++] = rest;
    return end;
  }

  /** At most 8 bytes. Answers where it ends, or 0; what passes 2^53 is rounded, and too large for any use. */
  readVarint(at: number, end: number): number {
    let value = 0;
    let scale = 1;
    for (let i = at; i < Math.min(end, at + 8); i++, scale *= 128) {
      const byte = this.byte(i);
      value += (byte & 127) * scale;
      if (byte >= 128) continue;
      this.varint = value;
      return i + 1;
    }
    return 0;
  }

  /** Page number of the record word at `at`. */
  page(at: number): number {
    return this.view.getUint32(at) * 0x100000 + (this.view.getUint32(at + 4) >>> 12);
  }

  isZero(at: number): boolean {
    for (let i = at; i < at + layout.pageBytes; i += 4) if (this.u32(i) !== 0) return false;
    return true;
  }

  isEqual(a: number, b: number): boolean {
    for (let i = 0; i < layout.pageBytes; i += 4) {
      if (this.u32(a + i) !== this.u32(b + i)) return false;
    }
    return true;
  }
}

/** 0, -1, 1, -2 … become 0, 1, 2, 3 … */
export function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

export function bitCount(value: number): number {
  let count = 0;
  for (let rest = value; rest !== 0; rest &= rest - 1) count++;
  return count;
}
