/** The one thing of G1 that the VM's tables do not tell. */
import { type Mapping, mappingAt, readableEnd } from "./maps.ts";
import { type BoundedMemory, isAddress, type View } from "./memory.ts";

/**
 * Where in G1's manager of regions its free list lies. The tables tell what a set of regions looks like and where the old
 * set is, but not this. Every set knows its name, so: the word of the old set that points to "Old …" is its name; the manager's word
 * that points to "Free list" is the same word of the free list. Undefined when there is no such word: then free regions
 * are never dead. One round trip.
 */
export async function freeListOffset(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  manager: View,
  oldSet: View,
): Promise<number | undefined> {
  const text = await readTexts(memory, mappings, [manager, oldSet]);
  const nameAt = wordThat(oldSet, (value) => text(value)?.startsWith("Old ") === true);
  const at = wordThat(manager, (value) => /^(Master )?Free [Ll]ist$/.test(text(value) ?? ""));
  return nameAt === undefined || at === undefined || at < nameAt ? undefined : at - nameAt;
}

function wordThat(view: View, fits: (value: number) => boolean): number | undefined {
  for (let at = 0; at + 8 <= view.length; at += 8) {
    if (fits(view.u64(at))) return at;
  }
  return undefined;
}

type Texts = (address: number) => string | undefined;

/** The beginnings of what the words of these objects point to inside of libjvm.so, in one round trip. */
async function readTexts(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  objects: readonly View[],
): Promise<Texts> {
  const inLibrary = (address: number): boolean => {
    const mapping = mappingAt(mappings, address);
    return mapping?.readable === true && mapping.path.includes("libjvm.so");
  };
  const values = new Set<number>();
  for (const object of objects) {
    for (let at = 0; at + 8 <= object.length; at += 8) {
      const value = object.u64(at);
      if (isAddress(value) && inLibrary(value)) values.add(value);
    }
  }
  const ranges = [...values].map((address) => ({
    address,
    bytes: readableEnd(mappings, address, 32) - address,
  }));
  const views = await memory.read(ranges);
  const texts = new Map(views.map((view) => [view.address, view.text(0)]));
  return (address) => texts.get(address);
}
