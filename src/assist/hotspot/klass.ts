/**
 * The class word of a primitive array, needed for writing a dead array into eden.
 *
 * HotSpot's tables lead to the list of all classes, but following it is a round trip for each of a thousand. Heaps are full
 * of primitive arrays, though: every string has one. So a piece of the heap is searched for what looks like the header of
 * an array, and what its class word points to is checked: the class's name ("[B") and its layout must be those of a
 * primitive array. Such classes are made when the VM starts and are never unloaded.
 */
import type { MemoryRange } from "../ranges.ts";
import type { MemoryWrite } from "./heap.ts";
import { type Mapping, readableEnd } from "./maps.ts";
import { type BoundedMemory, isAddress, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

export interface ArrayClass {
  readonly name: string;
  /** The class word as it stands in an object's header. */
  readonly word: number;
  readonly wordBytes: 4 | 8;
  /** Bytes before the first element. */
  readonly headerBytes: number;
  readonly elementBytes: number;
}

/** Basic types in layout helpers, by the name of their array's class. */
const elementTypes: Readonly<Record<string, { readonly type: number; readonly shift: number }>> = {
  "[I": { type: 10, shift: 2 },
  "[B": { type: 8, shift: 0 },
  "[C": { type: 5, shift: 1 },
  "[J": { type: 11, shift: 3 },
};
const elementCountMax = 1 << 20;
const candidateCountMax = 64;

/** Where to look, and how class words are written. */
export interface ClassEncoding {
  readonly compressed: boolean;
  readonly base: number;
  readonly shift: number;
}

/** Three round trips. `ranges`: pieces of the heap that hold objects. */
export async function findArrayClass(
  memory: BoundedMemory,
  structs: VmStructs,
  mappings: readonly Mapping[],
  encoding: ClassEncoding,
  ranges: readonly MemoryRange[],
): Promise<ArrayClass | undefined> {
  const views = await memory.read(ranges);
  const words = candidateWords(views, encoding);
  const addressOf = (word: number): number =>
    encoding.compressed ? encoding.base + word * 2 ** encoding.shift : word;
  const layoutAt = structs.offset("Klass::_layout_helper");
  const nameAt = structs.offset("Klass::_name");
  const addresses = words.map(addressOf);
  const classes = await readEach(memory, mappings, addresses, [
    [layoutAt, 4],
    [nameAt, 8],
  ]);
  const lengthAt = structs.offset("Symbol::_length");
  const bodyAt = structs.offset("Symbol::_body", "Symbol::_body[0]");
  const symbols = await readEach(
    memory,
    mappings,
    classes.map((parts) => parts?.[1]?.u64(0) ?? 0),
    [
      [lengthAt, 2],
      [bodyAt, 2],
    ],
  );
  for (const [index, word] of words.entries()) {
    const [length, body] = symbols[index] ?? [];
    const layout = classes[index]?.[0]?.u32(0);
    if (length?.u16(0) !== 2 || body === undefined || layout === undefined) continue;
    const found = arrayClass(String.fromCharCode(...body.bytes), layout, word, encoding);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Class words of what looks like arrays, the most frequent first. */
function candidateWords(views: readonly View[], { compressed }: ClassEncoding): number[] {
  const counts = new Map<number, number>();
  for (const view of views) {
    const end = view.length - 24;
    for (let at = 0; at <= end; at += 8) {
      // Unlocked, no hash, of any age.
      const mark = view.u32(at);
      if ((mark & ~0x78) !== 1 || view.u32(at + 4) !== 0) continue;
      const word = compressed ? view.u32(at + 8) : view.u64(at + 8);
      const length = view.u32(at + (compressed ? 12 : 16));
      if (word === 0 || length === 0 || length > elementCountMax) continue;
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return [...counts.entries()]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, candidateCountMax)
    .map(([word]) => word);
}

/** The 32 bits of a layout helper: tag 3 (primitive array), header bytes, element type, log2 of the element's bytes. */
export function arrayClass(
  name: string,
  layout: number,
  word: number,
  { compressed }: ClassEncoding,
): ArrayClass | undefined {
  const element = elementTypes[name];
  if (element === undefined) return undefined;
  const headerBytes = (layout >>> 16) & 0xff;
  const possible = compressed ? [16] : [20, 24];
  const fits =
    layout >>> 30 === 3 &&
    ((layout >>> 8) & 0xff) === element.type &&
    (layout & 0xff) === element.shift &&
    possible.includes(headerBytes);
  if (!fits) return undefined;
  const wordBytes = compressed ? 4 : 8;
  return { name, word, wordBytes, headerBytes, elementBytes: 1 << element.shift };
}

/** Parts ([offset, bytes]) of many objects; undefined for those whose address is none or that cannot be read. */
async function readEach(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  objects: readonly number[],
  parts: readonly (readonly [number, number])[],
): Promise<(View[] | undefined)[]> {
  const bytesMax = Math.max(...parts.map(([offset, bytes]) => offset + bytes));
  const good = objects.map(
    (object) => isAddress(object) && readableEnd(mappings, object, bytesMax) === object + bytesMax,
  );
  const ranges = objects.flatMap((object, index) =>
    good[index] === true
      ? parts.map(([offset, bytes]) => ({ address: object + offset, bytes }))
      : [],
  );
  const views = await memory.read(ranges);
  let next = 0;
  return good.map((isGood) => {
    if (!isGood) return undefined;
    next += parts.length;
    return views.slice(next - parts.length, next);
  });
}

/** Largest array written: far from every limit on lengths, and a multiple of every element. */
const arrayBytesMax = 2 ** 30;
const arrayCountMax = 64;

/**
 * Headers of dead arrays that fill [from, to) exactly; undefined when that cannot be done (too small for one header, or
 * more than 64 GiB).
 */
export function fillWithArrays(
  array: ArrayClass,
  from: number,
  to: number,
): MemoryWrite[] | undefined {
  const writes: MemoryWrite[] = [];
  for (let at = from; at < to; ) {
    const left = to - at;
    // What is left for the last one must hold a header.
    const bytes = left <= arrayBytesMax ? left : Math.min(arrayBytesMax, left - 64);
    if (bytes < array.headerBytes || bytes % 8 !== 0 || writes.length === arrayCountMax)
      return undefined;
    const length = Math.floor((bytes - array.headerBytes) / array.elementBytes);
    writes.push({ address: at, bytes: arrayHeader(array, length) });
    at += bytes;
  }
  return writes;
}

function arrayHeader({ word, wordBytes }: ArrayClass, length: number): Uint8Array {
  const bytes = new Uint8Array(8 + wordBytes + 4);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 1n, true);
  if (wordBytes === 4) view.setUint32(8, word, true);
  else view.setBigUint64(8, BigInt(word), true);
  view.setUint32(8 + wordBytes, length, true);
  return bytes;
}
