/** Parallel: ParallelScavengeHeap with a PSYoungGen and a PSOldGen, both in static variables. */
import { GenerationalReader } from "./generational.ts";
import type { HeapCommon } from "./heap.ts";
import { type BoundedMemory, unsupported, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** One round trip. */
export async function openParallel(
  memory: BoundedMemory,
  structs: VmStructs,
  common: HeapCommon,
): Promise<GenerationalReader> {
  const views = await memory.read(
    ["_young_gen", "_old_gen"].map((name) => ({
      address: structs.address(`ParallelScavengeHeap::${name}`),
      bytes: 8,
    })),
  );
  const [young, old] = views.map((view: View) => view.u64(0)) as [number, number];
  if (young === 0 || old === 0) throw unsupported("has not set up its heap yet");
  const inYoung = (name: string): number => young + structs.offset(`PSYoungGen::${name}`);
  const oldSpace = structs.offset("PSOldGen::_object_space");
  return new GenerationalReader(
    structs,
    common,
    [inYoung("_eden_space"), inYoung("_from_space"), inYoung("_to_space"), old + oldSpace],
    ["MutableSpace", "ImmutableSpace"],
  );
}
