export { createEncoder, Decoders } from "./codecs.ts";
export { HeldBytes } from "./held-bytes.ts";
export { type CodecName, codecIds } from "./ids.ts";
export {
  type BatchDecoder,
  type BatchEncoder,
  batchBytesMax,
  type PageBatch,
  type RecordRange,
} from "./page-batch.ts";
export { ZstdDecoder, ZstdEncoder, zstdLevelDefault, zstdLevels } from "./zstd.ts";
