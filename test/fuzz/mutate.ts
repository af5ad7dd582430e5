/** Damage to bytes, the kinds that break parsers: see `damages`. All chance comes from the Prng. */
import type { Prng } from "../../src/base/index.ts";

type Damage = (prng: Prng, bytes: Uint8Array, corpus: readonly Uint8Array[]) => Uint8Array;

/** Numbers at the edges of what length and address fields can hold. */
const edges = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0xfff, 0x1000, 2 ** 31, 2 ** 32 - 1];

const damages: Readonly<Record<string, Damage>> = {
  flipBits: (prng, bytes) => {
    for (let i = prng.integer(1, 8); i > 0; i--) {
      const at = place(prng, bytes);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << prng.integer(0, 7));
    }
    return bytes;
  },
  setByte: (prng, bytes) => {
    bytes[place(prng, bytes)] = prng.pick([0x00, 0x7e, 0xff, prng.integer(0, 255)]);
    return bytes;
  },
  /** A field of 2, 4 or 8 bytes becomes an edge value: lengths inflate, addresses leave their block. */
  setField: (prng, bytes) => {
    const width = prng.pick([2, 4, 8]);
    if (bytes.length < width) return bytes;
    const at = Math.min(place(prng, bytes), bytes.length - width);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const value = prng.pick(edges);
    if (width === 2) view.setUint16(at, value & 0xffff);
    else view.setUint32(at + width - 4, value);
    if (width === 8) view.setUint32(at, prng.pick(edges));
    return bytes;
  },
  truncate: (prng, bytes) => bytes.slice(0, place(prng, bytes)),
  remove: (prng, bytes) => {
    const at = place(prng, bytes);
    return join(bytes.subarray(0, at), bytes.subarray(at + prng.pick([1, 4, 8, 9, 4096, 4104])));
  },
  insert: (prng, bytes) => {
    const at = place(prng, bytes);
    const piece = new Uint8Array(prng.integer(1, 16)).map(() => prng.integer(0, 255));
    return join(bytes.subarray(0, at), piece, bytes.subarray(at));
  },
  /** A piece again, at its own end or elsewhere: records, sections and blocks twice. */
  duplicate: (prng, bytes) => {
    const from = place(prng, bytes);
    const length = prng.pick([5, 8, 9, 13, 17, 4104, prng.integer(1, 9000)]);
    const piece = bytes.slice(from, from + length);
    const at = prng.chance(0.5) ? from + piece.length : place(prng, bytes);
    return join(bytes.subarray(0, at), piece, bytes.subarray(at));
  },
  splice: (prng, bytes, corpus) => {
    const other = prng.pick(corpus);
    return join(bytes.subarray(0, place(prng, bytes)), other.subarray(place(prng, other)));
  },
};

/** An input of the corpus with up to six damages; now and then with none, so that the sound way is run too. */
export function mutate(prng: Prng, corpus: readonly Uint8Array[]): Uint8Array {
  let bytes = prng.pick(corpus).slice();
  const count = prng.chance(0.02) ? 0 : prng.integer(1, prng.pick([1, 2, 6]));
  for (let i = 0; i < count; i++) {
    const damage = damages[prng.pick(Object.keys(damages))] as Damage;
    bytes = damage(prng, bytes, corpus).slice();
  }
  return bytes;
}

/** An index; half of them near the start, where formats keep their lengths. 0 for no bytes. */
function place(prng: Prng, bytes: Uint8Array): number {
  const last = Math.max(0, bytes.length - 1);
  return prng.integer(0, prng.chance(0.5) ? Math.min(last, 256) : last);
}

function join(...pieces: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}
