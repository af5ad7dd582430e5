/** The codecs by their id on the wire (docs/formats/frame.md). Ids are never given again. */
export const codecIds = { none: 0, zstd: 1, gzip: 2, lz4: 3, streams: 4 } as const;

/** What can be asked for. The methods that look at each page by itself (zero, delta, similarity, hybrid) share one id. */
export const codecNames = [
  "none",
  "zero",
  "gzip",
  "zstd",
  "lz4",
  "delta",
  "similarity",
  "hybrid",
] as const;
export type CodecName = (typeof codecNames)[number];

/** `auto` chooses among them while it sends. */
export type CodecChoice = CodecName | "auto";
export const codecChoices: readonly CodecChoice[] = [...codecNames, "auto"];
