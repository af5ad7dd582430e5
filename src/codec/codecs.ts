import { GodwitError, unreachable } from "../base/index.ts";
import { HeldBytes } from "./held-bytes.ts";
import { type CodecName, codecIds } from "./ids.ts";
import type { BatchDecoder, BatchEncoder } from "./page-batch.ts";
import { ZstdDecoder, ZstdEncoder } from "./zstd.ts";

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

/** A new encoder, with no memory of earlier batches. `level`: one of `zstdLevels`. */
export function createEncoder(name: CodecName, options: { level?: number } = {}): BatchEncoder {
  switch (name) {
    case "none":
      return none;
    case "zstd":
      return new ZstdEncoder(options.level);
    default:
      return unreachable(name);
  }
}

/** As much as may be in flight between two godwits; one batch more may be decoded when it is reached. */
const decodedBytesMax = 16 << 20;

/** All decoders of one connection; each is made when its codec is first met. */
export class Decoders {
  readonly #byId = new Map<number, BatchDecoder>([[none.id, none]]);
  readonly #held: HeldBytes;

  /** `onRoom` is called when `isFull` ends. */
  constructor(onRoom: () => void = () => {}) {
    this.#held = new HeldBytes(decodedBytesMax, onRoom);
  }

  /** True when no more should be decoded until enough of what was decoded is released. */
  get isFull(): boolean {
    return this.#held.isFull;
  }

  /** Fails with FRAME_INVALID when the codec is not known here. */
  get(id: number): BatchDecoder {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    if (id !== codecIds.zstd)
      throw new GodwitError("FRAME_INVALID", `codec ${id} is not known here`);
    const made = new ZstdDecoder(this.#held);
    this.#byId.set(id, made);
    return made;
  }
}
