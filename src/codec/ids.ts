/** The codecs by their id on the wire (docs/formats/frame.md). Ids are never given again. */
export const codecIds = { none: 0, zstd: 1 } as const;
export type CodecName = keyof typeof codecIds;
