export { createEncoder, Decoders } from "./codecs.ts";
export { HeldBytes } from "./held-bytes.ts";
export { type CodecChoice, type CodecName, codecChoices, codecIds, codecNames } from "./ids.ts";
export {
  checkCodecOptions,
  codecLevels,
  codecMemoryBytesDefault,
  codecMemoryBytesMax,
  codecMemoryBytesMin,
  type CodecOptions,
} from "./options.ts";
export {
  type BatchDecoder,
  type BatchEncoder,
  type Encoded,
  type LinkState,
  type MethodUsage,
  batchBytesMax,
  bodyGrowthBytesMax,
  type PageBatch,
  type RecordRange,
} from "./page-batch.ts";
