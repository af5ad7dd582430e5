/** Which release a JVM is, and whether the rules of this folder were proved for it. */
import { type Mapping, readableEnd } from "./maps.ts";
import { type BoundedMemory, isAddress, unsupported } from "./memory.ts";

/**
 * Tables are read by name and would mostly fit others too. But when memory is dead is a matter of how a release's collectors
 * work, so the list has what was tried.
 */
const knownReleases = [8, 11, 17, 21, 25] as const;
const versionBytesMax = 128;

/** The VM's own text, such as "17.0.19+10-Debian-1deb12u1" or, for release 8, "25.402-b06". One round trip. */
export async function releaseOf(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  address: number,
  isEight: boolean,
): Promise<string> {
  const bytes = readableEnd(mappings, address, versionBytesMax) - address;
  if (!isAddress(address) || bytes <= 0) throw unsupported("has not started yet");
  const [view] = await memory.read([{ address, bytes }]);
  const text = view?.text(0) ?? "";
  if (!/^[\x20-\x7e]+$/.test(text)) throw unsupported("has a version that is no text");
  return isEight ? `8 (${text})` : text;
}

export function assertKnownRelease(version: string, isEight: boolean): void {
  const release = isEight ? 8 : Number(/^\d+/.exec(version)?.[0]);
  if (!knownReleases.some((known) => known === release)) {
    throw unsupported(
      `is of release ${version}; releases ${knownReleases.join(", ")} can be assisted`,
    );
  }
}
