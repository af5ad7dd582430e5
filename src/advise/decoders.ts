/** The decoders of one connection, with pages that they share with those of other connections. */
import { type BatchDecoder, codecIds, Decoders, HeldBytes } from "../codec/index.ts";
import { type SharedPages, StreamsDecoder } from "../codec/streams/index.ts";

/** What is measured is released at once, so that this is never reached. */
const heldBytesMax = 16 << 20;

/** `shared`: what the sink has of all its VMs. */
export function makeDecoders(shared?: SharedPages): { get(id: number): BatchDecoder } {
  const decoders = new Decoders();
  if (shared === undefined) return decoders;
  const streams = new StreamsDecoder(new HeldBytes(heldBytesMax, () => {}), { shared });
  return { get: (id) => (id === codecIds.streams ? streams : decoders.get(id)) };
}
