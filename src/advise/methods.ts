/**
 * The ways of compressing that are compared: codecs with their settings, by the name under which they are reported. What a
 * method keeps of earlier pages is bounded by the same number of bytes for all.
 */
import {
  type BatchEncoder,
  codecMemoryBytesMax,
  codecMemoryBytesMin,
  createEncoder,
} from "../codec/index.ts";
import { StreamsEncoder, type StreamsOptions } from "../codec/streams/index.ts";

export interface Method {
  readonly name: string;
  /** True: it knows earlier pages, so it is fed the first copy before epochs are judged. */
  readonly keepsPages: boolean;
  /** True: one well-known compressor by itself, with nothing of godwit's. */
  readonly isSingle: boolean;
  /** A new encoder without memory of earlier pages, which will keep no more than this. */
  readonly make: (memoryBytes: number) => BatchEncoder;
}

function single(codec: "gzip" | "zstd" | "lz4", level?: number): Method {
  return {
    name: level === undefined ? codec : `${codec}-${level}`,
    keepsPages: false,
    isSingle: true,
    make: () => createEncoder(codec, level === undefined ? {} : { level }),
  };
}

function streams(name: string, options: StreamsOptions): Method {
  return {
    name,
    keepsPages: options.method !== "zero",
    isSingle: false,
    make: (memoryBytes) => {
      const bytes = Math.min(Math.max(memoryBytes, codecMemoryBytesMin), codecMemoryBytesMax);
      return new StreamsEncoder({ ...options, memoryBytes: bytes });
    },
  };
}

/** In the order in which they are shown. */
export const methods: readonly Method[] = [
  { name: "none", keepsPages: false, isSingle: false, make: () => createEncoder("none") },
  streams("zero", { method: "zero", pack: "none" }),
  single("gzip", 1),
  single("gzip", 6),
  single("zstd", 1),
  single("zstd", 3),
  single("zstd", 9),
  single("lz4"),
  streams("delta", { method: "delta", pack: "none" }),
  streams("delta-xbzrle", { method: "delta", pack: "none", delta: "xbzrle" }),
  streams("delta+zstd-1", { method: "delta", pack: "zstd", level: 1 }),
  streams("similarity", { method: "similarity", pack: "none" }),
  streams("similarity+zstd-1", { method: "similarity", pack: "zstd", level: 1 }),
  streams("hybrid", { method: "hybrid", pack: "none" }),
  streams("hybrid+lz4", { method: "hybrid", pack: "lz4" }),
  streams("hybrid+zstd-1", { method: "hybrid", pack: "zstd", level: 1 }),
];
