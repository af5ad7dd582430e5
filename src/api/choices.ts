/** What a caller can choose from, apart from the schemas: the command line is to start without those. */

/** As src/codec names them (src/daemon/choices.test.ts). */
export const compressChoices = [
  "none",
  "zero",
  "gzip",
  "zstd",
  "lz4",
  "delta",
  "similarity",
  "hybrid",
  "auto",
] as const;
