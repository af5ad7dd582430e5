export { type CodecName, codecIds, createEncoder, Decoders } from "./codecs.ts";
export type { BatchDecoder, BatchEncoder, PageBatch, RecordRange } from "./page-batch.ts";
