/** Serial: GenCollectedHeap (8 to 21) or SerialHeap (25), with a DefNewGeneration and a TenuredGeneration. */
import { GenerationalReader } from "./generational.ts";
import type { HeapCommon } from "./heap.ts";
import { type BoundedMemory, unsupported, type View } from "./memory.ts";
import type { VmStructs } from "./vm-structs.ts";

/** One round trip. */
export async function openSerial(
  memory: BoundedMemory,
  structs: VmStructs,
  common: HeapCommon,
): Promise<GenerationalReader> {
  const [youngAt, oldAt] = generationPointers(structs, common.heapAddress);
  const views = await memory.read([
    { address: youngAt, bytes: 8 },
    { address: oldAt, bytes: 8 },
  ]);
  const [young, old] = views.map((view: View) => view.u64(0)) as [number, number];
  if (young === 0 || old === 0) throw unsupported("has not set up its heap yet");
  const inYoung = (name: string): number => young + structs.offset(`DefNewGeneration::${name}`);
  const oldSpace = structs.offset(
    "TenuredGeneration::_the_space",
    "OneContigSpaceCardGeneration::_the_space",
  );
  return new GenerationalReader(
    structs,
    common,
    [inYoung("_eden_space"), inYoung("_from_space"), inYoung("_to_space"), old + oldSpace],
    ["ContiguousSpace", "Space"],
  );
}

/** Release 8 has an array of generations, whose first element's name in the tables is "_gens". */
function generationPointers(structs: VmStructs, heap: number): [number, number] {
  const array = structs.optionalOffset("GenCollectedHeap::_gens", "GenCollectedHeap::_gens[0]");
  if (array !== undefined) return [heap + array, heap + array + 8];
  const young = structs.offset("SerialHeap::_young_gen", "GenCollectedHeap::_young_gen");
  const old = structs.offset("SerialHeap::_old_gen", "GenCollectedHeap::_old_gen");
  return [heap + young, heap + old];
}
