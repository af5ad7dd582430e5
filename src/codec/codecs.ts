import { GodwitError, unreachable } from "../base/index.ts";
import { type Clock, systemClock, threadIdleMs } from "../io/index.ts";
import { AutoEncoder, type Candidate } from "./auto/index.ts";
import { gzipCompressor, gzipDecompressor } from "./gzip.ts";
import { HeldBytes } from "./held-bytes.ts";
import { type CodecChoice, codecIds } from "./ids.ts";
import { lz4Compressor, lz4Decompressor } from "./lz4.ts";
import {
  checkCodecOptions,
  codecMemoryBytesDefault,
  codecMemoryBytesMax,
  codecMemoryBytesMin,
  type CodecOptions,
} from "./options.ts";
import type { BatchDecoder, BatchEncoder } from "./page-batch.ts";
import { StatelessDecoder, StatelessEncoder } from "./stateless.ts";
import { StreamsDecoder, StreamsEncoder } from "./streams/index.ts";
import { zstdCompressor, zstdDecompressor } from "./zstd.ts";

/** Records as they are: nothing is copied. */
const none: BatchEncoder & BatchDecoder = {
  id: codecIds.none,
  name: "none",
  memoryBytes: 0,
  reset: () => {},
  encode: (batch) => batch.pieces,
  decode(body, rawBytes) {
    if (body.to - body.from === rawBytes) return body;
    throw new GodwitError(
      "FRAME_INVALID",
      `a batch of ${body.to - body.from} bytes that claims ${rawBytes}`,
    );
  },
};

interface EncoderOptions extends CodecOptions {
  readonly clock?: Clock | undefined;
  /** Time in which this thread had nothing to do, since whenever; by default as the event loop knows it. */
  readonly idleMs?: (() => number) | undefined;
}

/** A new encoder, with no memory of earlier batches. Throws CONFIG_INVALID when the options do not fit the codec. */
export function createEncoder(codec: CodecChoice, options: EncoderOptions = {}): BatchEncoder {
  checkCodecOptions(codec, options);
  const { level, memoryBytes = codecMemoryBytesDefault } = options;
  switch (codec) {
    case "none":
      return none;
    case "gzip":
      return new StatelessEncoder(gzipCompressor(level));
    case "zstd":
      return new StatelessEncoder(zstdCompressor(level));
    case "lz4":
      return new StatelessEncoder(lz4Compressor);
    case "zero":
    case "delta":
    case "similarity":
      return new StreamsEncoder({ method: codec, memoryBytes });
    case "hybrid":
      return new StreamsEncoder({
        method: codec,
        memoryBytes,
        ...(level === undefined ? {} : { level }),
      });
    case "auto":
      return createAuto(memoryBytes, options);
    default:
      return unreachable(codec);
  }
}

/**
 * A ladder of packs on one encoder, so that all of them write one history. Levels of zstd between and above these gain less
 * than 2 % each; lz4 takes as long as level 1 once its buffers are paid for (2.6 to 3.4 ms/MB of 1.4 to 2.1 in migrations), and shrinks less. Without memory for a history: the same without one.
 */
function createAuto(memoryBytes: number, options: EncoderOptions): BatchEncoder {
  const hasHistory = memoryBytes >= codecMemoryBytesMin;
  let streams: StreamsEncoder | undefined;
  const make = (): StreamsEncoder => {
    if (!hasHistory) return new StreamsEncoder({ method: "zero" });
    try {
      return new StreamsEncoder({ method: "hybrid", memoryBytes });
    } catch (error) {
      // No address space for a history.
      if (!(error instanceof GodwitError) || error.code !== "CONFIG_INVALID") throw error;
      return new StreamsEncoder({ method: "zero" });
    }
  };
  const candidate = (level: number): Candidate => ({
    name: `${hasHistory ? "hybrid-" : ""}zstd-${level}`,
    use() {
      streams ??= make();
      streams.usePack("zstd", level);
      return streams;
    },
    bodyBytes: () => streams?.bytesWith("zstd", level) ?? 0,
    besideBytes: () => streams?.besideBytes ?? 0,
    bare: bareCandidate(level),
  });
  const candidates: readonly Candidate[] = [
    { name: "none", use: () => none, bodyBytes: () => 0 },
    ...[1, 3, 6].map((level) => candidate(level)),
  ];
  const { clock = systemClock, idleMs = threadIdleMs } = options;
  return new AutoEncoder(candidates, (candidates[1] as Candidate).name, clock, idleMs);
}

/** Each batch by itself. */
function bareCandidate(level: number): Candidate {
  let made: StatelessEncoder | undefined;
  const encoder = (): StatelessEncoder => {
    made ??= new StatelessEncoder(zstdCompressor(level));
    return made;
  };
  return { name: `zstd-${level}`, use: encoder, bodyBytes: (batch) => encoder().bytesOf(batch) };
}

/** As much as may be in flight between two godwits; one batch more may be decoded when it is reached. */
const decodedBytesMax = 16 << 20;

/** Of a history at the most: what the encoder was allowed, and some room for how each side counts it. */
const decoderMemoryBytesMax = codecMemoryBytesMax + (64 << 20);

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
    const made = this.#make(id);
    this.#byId.set(id, made);
    return made;
  }

  #make(id: number): BatchDecoder {
    switch (id) {
      case codecIds.gzip:
        return new StatelessDecoder(gzipDecompressor, this.#held);
      case codecIds.zstd:
        return new StatelessDecoder(zstdDecompressor, this.#held);
      case codecIds.lz4:
        return new StatelessDecoder(lz4Decompressor, this.#held);
      case codecIds.streams:
        return new StreamsDecoder(this.#held, { memoryBytesMax: decoderMemoryBytesMax });
      default:
        throw new GodwitError("FRAME_INVALID", `codec ${id} is not known here`);
    }
  }
}
