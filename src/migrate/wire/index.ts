export { decodeAckBody, FrameDecoder, type FrameSink } from "./decode.ts";
export {
  encodeAckBody,
  encodeControlBody,
  encodeHeader,
  encodePreamble,
  plainHeader,
} from "./encode.ts";
export {
  type Acknowledgement,
  batchBytesTarget,
  bodyBytesMax,
  type FrameHeader,
  FrameType,
  frameHeaderBytes,
  frameTypeNames,
} from "./format.ts";
export {
  type DestinationMessage,
  type MemoryHashes,
  type OfferMessage,
  parseDestinationMessage,
  parseSourceMessage,
  type SourceMessage,
} from "./messages.ts";
