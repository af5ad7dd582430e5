export type { StreamsCounts } from "./counts.ts";
export { StreamsDecoder, type StreamsDecoderOptions } from "./decoder.ts";
export {
  StreamsEncoder,
  type StreamsMethod,
  type StreamsOptions,
  streamsMemoryBytesDefault,
} from "./encoder.ts";
export { SharedPages } from "./shared-pages.ts";
