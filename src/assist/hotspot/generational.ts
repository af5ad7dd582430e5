/**
 * Serial and Parallel: an eden, two survivors, an old space; each is used from bottom to top.
 *
 * Whoever allocates moves a space's top before it writes below it, so what lies above top is dead whenever no collection
 * runs: in eden, in the survivor in use, in the idle one (empty but after a failed promotion, so its top is respected
 * too), and in the old space, into which an application allocates only what eden cannot hold. Parallel resizes its young spaces
 * and leaves gaps between them (PSYoungGen::resize_spaces), up to a quarter of them: no space, so nothing lives there.
 */
import { type MemoryRange, mergeRanges } from "../ranges.ts";
import {
  checkedSpace,
  commonRanges,
  disjoint,
  FieldSpan,
  type HeapCommon,
  type HeapReader,
  type RawHeap,
  type Space,
  unused,
  used,
  whole,
} from "./heap.ts";
import { type BoundedMemory, isAddress, unsupported, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** Where the pointers to the four spaces are stored: eden, from, to, old. The collector swaps from and to. */
export type SpacePointers = readonly [number, number, number, number];

export class GenerationalReader implements HeapReader {
  readonly #common: HeapCommon;
  readonly #pointers: SpacePointers;
  readonly #span: FieldSpan;
  readonly #topOffset: number;
  /** The four spaces' objects as last seen. */
  #spaces: number[] = [];

  constructor(
    structs: VmStructs,
    common: HeapCommon,
    pointers: SpacePointers,
    prefixes: readonly string[],
  ) {
    const field = (name: string): number =>
      structs.offset(...prefixes.map((prefix) => `${prefix}::${name}`));
    this.#common = common;
    this.#pointers = pointers;
    this.#topOffset = field("_top");
    this.#span = new FieldSpan([field("_bottom"), this.#topOffset, field("_end")]);
  }

  async read(memory: BoundedMemory): Promise<RawHeap> {
    const fixed: MemoryRange[] = [
      ...commonRanges(this.#common),
      ...this.#pointers.map((address) => ({ address, bytes: 8 })),
    ];
    const known = this.#spaces;
    const views = await memory.read([...fixed, ...known.map((space) => this.#span.range(space))]);
    const now = views.slice(2, 6).map((view) => view.u64(0));
    if (!now.every(isAddress)) throw unsupported("has a generation without a space");
    // From and to change places at each collection: the same four objects in another order need no second look.
    let objects = new Map(known.map((space, index) => [space, views[6 + index] as View]));
    if (!now.every((space) => objects.has(space))) {
      const again = await memory.read([
        ...commonRanges(this.#common),
        ...now.map((space) => this.#span.range(space)),
      ]);
      objects = new Map(now.map((space, index) => [space, again[2 + index] as View]));
      views.splice(0, 2, ...again.slice(0, 2));
      this.#spaces = now;
    }
    const spaces = now.map((space) => this.#space(objects.get(space) as View));
    const active = (views[0] as View).u8(0) !== 0;
    return this.#heap(active, (views[1] as View).u32(0), spaces, (now[0] ?? 0) + this.#topOffset);
  }

  #space(view: View): Space | undefined {
    const [bottom, top, end] = [0, 1, 2].map((index) => this.#span.u64(view, index)) as [
      number,
      number,
      number,
    ];
    return checkedSpace({ bottom, top, end }, this.#common.reserved);
  }

  #heap(
    active: boolean,
    collections: number,
    spaces: readonly (Space | undefined)[],
    topAddress: number,
  ): RawHeap {
    const [eden, from, to, old] = spaces;
    const sound = spaces.every((space) => space !== undefined) && disjoint(spaces.map(whole));
    const youngSpaces = [eden, from, to].map(whole);
    const gaps = sound ? gapsBetween(youngSpaces, whole(old)) : [];
    const young = [...youngSpaces, ...gaps];
    return {
      active,
      collections,
      disposable: mergeRanges([...young, unused(old)]),
      dead: active || !sound ? [] : mergeRanges([...spaces.map(unused), ...gaps]),
      settled: sound,
      edenUsedBytes: used(eden).bytes,
      edenFreeBytes: unused(eden).bytes,
      youngBytes: young.reduce((sum, { bytes }) => sum + bytes, 0),
      survivorUsedBytes: used(from).bytes + used(to).bytes,
      oldUsedBytes: used(old).bytes,
      oldFreeBytes: unused(old).bytes,
      committedBytes: [...young, whole(old)].reduce((sum, { bytes }) => sum + bytes, 0),
      eden: sound && eden !== undefined ? { ...eden, topAddress } : undefined,
    };
  }
}

/** None where it is not certain that nothing lies there. */
function gapsBetween(spaces: readonly MemoryRange[], old: MemoryRange): MemoryRange[] {
  const sorted = spaces.toSorted((a, b) => a.address - b.address);
  const gaps = sorted.slice(1).map(({ address: end }, index) => {
    const { address, bytes } = sorted[index] as MemoryRange;
    return { address: address + bytes, bytes: end - address - bytes };
  });
  const isCertain = spaces.every(({ bytes }) => bytes > 0) && disjoint([...spaces, ...gaps, old]);
  return isCertain ? gaps.filter(({ bytes }) => bytes > 0) : [];
}
