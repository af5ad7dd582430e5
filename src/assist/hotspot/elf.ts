/**
 * Finds exported variables of a library in the memory of a running process, by the path that the dynamic linker itself
 * takes: ELF header, program headers, PT_DYNAMIC, DT_GNU_HASH, DT_SYMTAB, DT_STRTAB. No file is opened, so it works from
 * outside of containers, for deleted files, and with any file system.
 */
import type { MemoryRange } from "../ranges.ts";
import { type Mapping, readableEnd } from "./maps.ts";
import { type BoundedMemory, unsupported, type View } from "./memory.ts";

const headerBytes = 4096;
const dynamicBytesMax = 16 << 10;
/** HotSpot exports about a thousand symbols: 10 KiB of hash table. */
const hashBytesMax = 64 << 10;
const symbolBytes = 24;
const chainCountMax = 64;

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_STRTAB = 5;
const DT_SYMTAB = 6;
const DT_GNU_HASH = 0x6ffffef5;

export interface ElfHeader {
  /** What is added to an address of the file to get one of memory. */
  readonly bias: number;
  readonly dynamic: MemoryRange;
}

/** The header page of a library mapped at `view.address`. */
export function parseElfHeader(view: View): ElfHeader {
  // 64 bits, little endian, shared object, x86-64.
  const known = view.u32(0) === 0x464c457f && view.u16(4) === 0x0102;
  if (!known || view.u16(16) !== 3 || view.u16(18) !== 62)
    throw unsupported("has a libjvm.so that is not a library for x86-64");
  const at = view.u64(32);
  const entryBytes = view.u16(54);
  const count = view.u16(56);
  if (entryBytes < 56 || at + count * entryBytes > view.length)
    throw unsupported("has a libjvm.so whose program headers are not in its first page");
  let firstLoad: number | undefined;
  let dynamic: MemoryRange | undefined;
  for (let index = 0; index < count; index++) {
    const entry = at + index * entryBytes;
    const type = view.u32(entry);
    const address = view.u64(entry + 16);
    if (type === PT_LOAD && view.u64(entry + 8) === 0) firstLoad = address;
    if (type === PT_DYNAMIC) dynamic = { address, bytes: view.u64(entry + 40) };
  }
  if (firstLoad === undefined || dynamic === undefined || dynamic.bytes > dynamicBytesMax)
    throw unsupported("has a libjvm.so without a usable dynamic section");
  const bias = view.address - firstLoad;
  return { bias, dynamic: { address: bias + dynamic.address, bytes: dynamic.bytes } };
}

export interface DynamicSection {
  readonly stringTable: number;
  readonly symbolTable: number;
  readonly hashTable: number;
}

/** glibc has put memory's addresses into the section, musl leaves the file's: those are smaller than the library's own. */
export function parseDynamic(view: View, start: number, bias: number): DynamicSection {
  const values = new Map<number, number>();
  for (let at = 0; at + 16 <= view.length; at += 16) {
    const tag = view.u64(at);
    if (tag === 0) break;
    const value = view.u64(at + 8);
    if (!values.has(tag)) values.set(tag, value < start ? value + bias : value);
  }
  const [stringTable, symbolTable, hashTable] = [DT_STRTAB, DT_SYMTAB, DT_GNU_HASH].map((tag) =>
    values.get(tag),
  );
  if (stringTable === undefined || symbolTable === undefined || hashTable === undefined)
    throw unsupported("has a libjvm.so without a GNU hash table of its symbols");
  return { stringTable, symbolTable, hashTable };
}

export function gnuHash(name: string): number {
  let hash = 5381;
  for (let index = 0; index < name.length; index++)
    hash = (Math.imul(hash, 33) + name.charCodeAt(index)) >>> 0;
  return hash;
}

/** Indexes in the symbol table whose hash fits; nearly always one, the name decides. */
export function candidates(table: View, name: string): number[] {
  const bucketCount = table.u32(0);
  const firstSymbol = table.u32(4);
  const bucketsAt = 16 + table.u32(8) * 8;
  const chainsAt = bucketsAt + bucketCount * 4;
  if (bucketCount === 0 || chainsAt > table.length)
    throw unsupported(`has a libjvm.so with a strange hash table (${bucketCount} buckets)`);
  const hash = gnuHash(name);
  const found: number[] = [];
  let index = table.u32(bucketsAt + (hash % bucketCount) * 4);
  if (index < firstSymbol) return found;
  for (let count = 0; count < chainCountMax; count++, index++) {
    const value = table.u32(chainsAt + (index - firstSymbol) * 4);
    if ((value | 1) === (hash | 1)) found.push(index);
    if ((value & 1) === 1) break;
  }
  return found;
}

/** The u64 that each exported variable holds, by name; names that are not exported are missing. Five round trips. */
export async function readVariables(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  start: number,
  names: readonly string[],
): Promise<Map<string, number>> {
  const upTo = (address: number, bytes: number): MemoryRange => ({
    address,
    bytes: readableEnd(mappings, address, bytes) - address,
  });
  const [first] = await memory.read([upTo(start, headerBytes)]);
  const { bias, dynamic } = parseElfHeader(first as View);
  const [section] = await memory.read([dynamic]);
  const tables = parseDynamic(section as View, start, bias);
  const [hashTable] = await memory.read([upTo(tables.hashTable, hashBytesMax)]);
  const wanted = names.flatMap((name) =>
    candidates(hashTable as View, name).map((index) => ({ name, index })),
  );
  const symbols = await memory.read(
    wanted.map(({ index }) => ({
      address: tables.symbolTable + index * symbolBytes,
      bytes: symbolBytes,
    })),
  );
  const pieces = await memory.read(
    symbols.flatMap((symbol, index) => [
      upTo(tables.stringTable + symbol.u32(0), (wanted[index]?.name.length ?? 0) + 1),
      { address: bias + symbol.u64(8), bytes: 8 },
    ]),
  );
  const values = new Map<string, number>();
  for (const [index, { name }] of wanted.entries()) {
    if (pieces[index * 2]?.text(0) === name)
      values.set(name, (pieces[index * 2 + 1] as View).u64(0));
  }
  return values;
}
