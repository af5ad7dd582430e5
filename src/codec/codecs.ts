/** The codecs by their id on the wire. Ids are never given again. */
import { GodwitError } from "../base/index.ts";
import type { BatchDecoder, BatchEncoder } from "./page-batch.ts";

export const codecIds = { none: 0 } as const;
export type CodecName = keyof typeof codecIds;

/** Records as they are: nothing is copied. */
const none: BatchEncoder & BatchDecoder = {
  id: codecIds.none,
  name: "none",
  encode: (batch) => batch.pieces,
  decode(body, rawBytes) {
    if (body.to - body.from === rawBytes) return body;
    throw new GodwitError(
      "FRAME_INVALID",
      `a batch of ${body.to - body.from} bytes that claims ${rawBytes}`,
    );
  },
};

const encoders: Readonly<Record<CodecName, () => BatchEncoder>> = { none: () => none };

/** A new encoder, with no memory of earlier batches. */
export function createEncoder(name: CodecName): BatchEncoder {
  return encoders[name]();
}

/** All decoders of one connection; each is made when its codec is first met. */
export class Decoders {
  readonly #byId = new Map<number, BatchDecoder>();

  /** Fails with FRAME_INVALID when the codec is not known here. */
  get(id: number): BatchDecoder {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    if (id !== codecIds.none)
      throw new GodwitError("FRAME_INVALID", `codec ${id} is not known here`);
    this.#byId.set(id, none);
    return none;
  }
}
