/**
 * One memory for a codec's state, and the kernels on it. It is asked for at its full size, of which the kernel of the machine
 * gives what is touched: a history that fills takes its memory page by page, and no view is ever detached by growth.
 */
import { assert } from "../../base/index.ts";
import {
  createKernels,
  createMemory,
  type KernelBuild,
  type KernelHost,
  type Kernels,
  layout,
} from "../kernels/index.ts";
import { checksumAt } from "./body.ts";

export class Workspace {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Fields by the first numbers of `layout`. */
  readonly control: Uint32Array;
  readonly kernels: Kernels;

  constructor(bytes: number, build: KernelBuild, host: (workspace: Workspace) => KernelHost) {
    const memory = createMemory(bytes);
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.control = new Uint32Array(memory.buffer, 0, 64);
    this.kernels = createKernels(build, memory, host(this));
  }

  get(field: number): number {
    return this.control[field] as number;
  }

  /** Goes on with the hash that `encode` or `decode` left, to eight bytes at `layout.hashAt`. */
  checksum(headerAt: number, smallBytes: number): void {
    const { kernels } = this;
    kernels.hashUpdate(headerAt, checksumAt);
    kernels.hashUpdate(headerAt + layout.headerBytes, smallBytes);
    kernels.hashEnd();
  }
}

/** Powers of two serve as masks. */
export function powerOfTwoFrom(least: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, least)));
}

/** Where an encoder's tables lie, for so many slots; in bytes from the workspace's beginning. */
function encoderTables(slotCount: number) {
  const tableCount = powerOfTwoFrom(2 * slotCount);
  const hintCount = powerOfTwoFrom(slotCount);
  let at: number = layout.encoderEnd;
  const take = (bytes: number): number => {
    const from = at;
    at += Math.ceil(bytes / 64) * 64;
    return from;
  };
  const tables = {
    keysAt: take(8 * slotCount),
    marksAt: take(slotCount),
    tableAt: take(4 * tableCount),
    tableMask: tableCount - 1,
    seenAt: take(2 * hintCount),
    seenMask: 16 * hintCount - 1,
    copiesAt: take(4 * hintCount),
    copiesMask: hintCount - 1,
    sketchesAt: take(16 * hintCount),
    sketchesMask: 4 * hintCount - 1,
    historyAt: take(0),
    end: 0,
  };
  tables.historyAt = Math.ceil(at / layout.pageBytes) * layout.pageBytes;
  tables.end = tables.historyAt + slotCount * layout.pageBytes;
  assert(tables.end <= 2 ** 32, "a workspace has 32-bit addresses");
  return tables;
}

/** As many slots as `memoryBytes` holds together with their tables; none when it is too little for one. */
export function tablesWithin(memoryBytes: number) {
  const room = Math.max(0, memoryBytes - layout.encoderEnd);
  let slotCount = Math.floor(room / (layout.pageBytes + 1));
  let tables = encoderTables(slotCount);
  while (slotCount > 0 && tables.end > memoryBytes) {
    slotCount -= Math.ceil((tables.end - memoryBytes) / layout.pageBytes);
    tables = encoderTables(Math.max(0, slotCount));
  }
  return { ...tables, slotCount: Math.max(0, slotCount) };
}
