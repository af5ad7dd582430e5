/**
 * Where in this process's memory a buffer lies, without native code.
 *
 * JavaScript is not told addresses. But a process may read its own memory through /proc/self/mem, so: write 16 random bytes into
 * the buffer, look for them in every mapping that is large enough, then change them and look again at the place found. Only
 * the buffer itself changes with the buffer; copies (the scan's own among them) do not. So the answer is certain.
 *
 * Cost: one pass over the private anonymous memory that could hold the buffer, once per declared area. Figures: docs/ASSIST.md.
 */
import { randomFillSync } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const markerBytes = 16;
const chunkBytes = 4 * 1024 * 1024;

/**
 * The address of the first byte, or undefined if it was not found. The buffer's first 16 bytes are put back.
 * @param {Uint8Array} bytes
 * @returns {number | undefined}
 */
export function addressOf(bytes) {
  const marker = bytes.subarray(0, markerBytes);
  const kept = Uint8Array.from(marker);
  const memory = openSync("/proc/self/mem", "r");
  try {
    randomFillSync(marker);
    const candidates = mappings(bytes.byteLength);
    for (const { begin } of candidates) {
      // Memory just allocated most often lies at the very start of a mapping (mappings grow downwards): looked at first,
      // because that is one small read where a scan may be gigabytes.
      const address = scan(memory, begin, begin + 4096, marker);
      if (address !== undefined) return address;
    }
    for (const { begin, end } of candidates) {
      const address = scan(memory, begin, end - bytes.byteLength, marker);
      if (address !== undefined) return address;
    }
    return undefined;
  } finally {
    marker.set(kept);
    closeSync(memory);
  }
}

/**
 * Private anonymous writable mappings of at least this size.
 * @param {number} bytes
 * @returns {{ begin: number, end: number }[]}
 */
function mappings(bytes) {
  const found = [];
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0\s*(\S*)/.exec(line);
    if (match === null) continue;
    const name = match[3] ?? "";
    if (name !== "" && name !== "[heap]" && !name.startsWith("[anon")) continue;
    const begin = Number.parseInt(match[1] ?? "", 16);
    const end = Number.parseInt(match[2] ?? "", 16);
    if (end - begin >= bytes) found.push({ begin, end });
  }
  // The smallest first: often it is the buffer's own.
  return found.toSorted((a, b) => a.end - a.begin - (b.end - b.begin));
}

/**
 * Looks for the marker at every place from begin to last.
 * @param {number} memory
 * @param {number} begin
 * @param {number} last
 * @param {Uint8Array} marker
 * @returns {number | undefined}
 */
function scan(memory, begin, last, marker) {
  const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, last - begin + markerBytes));
  let at = begin;
  while (at <= last) {
    const want = Math.min(chunk.length, last + markerBytes - at);
    const got = read(memory, chunk.subarray(0, want), at);
    if (got < markerBytes) return undefined;
    const found = chunk.subarray(0, got).indexOf(marker);
    if (found < 0) {
      at += got - (markerBytes - 1);
    } else if (isBuffer(memory, at + found, marker)) {
      return at + found;
    } else {
      at += found + 1;
    }
  }
  return undefined;
}

/**
 * Changes the marker and looks whether the memory at this address changes with it.
 * @param {number} memory
 * @param {number} address
 * @param {Uint8Array} marker
 */
function isBuffer(memory, address, marker) {
  randomFillSync(marker);
  const now = Buffer.alloc(markerBytes);
  return read(memory, now, address) === markerBytes && now.equals(marker);
}

/**
 * Bytes read; 0 where nothing can be read.
 * @param {number} memory
 * @param {Buffer} into
 * @param {number} address
 */
function read(memory, into, address) {
  try {
    return readSync(memory, into, 0, into.length, address);
  } catch {
    return 0;
  }
}
