export {
  defaultStreamLimits,
  itemBytesMax,
  pageBytes,
  pageRecordBytes,
  type RamBlock,
  type StreamHead,
  type StreamLimits,
  zeroRecordBytes,
} from "./format.ts";
export { type PageFilter, type RunCounts, StreamReader, type StreamSink } from "./reader.ts";
export {
  checkRecords,
  pageOfWord,
  type RecordCounts,
  writePageWord,
  writeZeroRecord,
} from "./records.ts";
export { ReturnPathReader, shutOk, switchoverAck } from "./return-path.ts";
export {
  encodeCommand,
  encodeEof,
  encodeHead,
  encodeNamedWord,
  encodeSectionBegin,
  encodeSectionEnd,
  type HeadParts,
} from "./writer.ts";
