/** Reads a VM's console log, which QEMU writes. */
import { open } from "node:fs/promises";

export interface LogPart {
  readonly raw: Uint8Array;
  /** Offset of the byte after it. */
  readonly end: number;
}

/** The last `bytes` of the file, and none before offset `from`; empty when there is no file. */
export async function readLog(path: string, bytes: number, from = 0): Promise<LogPart> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    // Shorter than before: another VM of that name began it anew.
    const start = Math.max(size < from ? 0 : from, size - bytes);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    return { raw: buffer.subarray(0, bytesRead), end: start + bytesRead };
  } catch {
    return { raw: new Uint8Array(0), end: from };
  }
}
