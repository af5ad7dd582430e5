/** What can be set about a codec, and what is wrong with what was set. */
import { GodwitError } from "../base/index.ts";
import { gzipLevels } from "./gzip.ts";
import type { CodecChoice } from "./ids.ts";
import { zstdLevels } from "./zstd.ts";

export interface CodecOptions {
  /** One of `codecLevels`. */
  readonly level?: number | undefined;
  /** What the codec may remember of earlier pages, on either side. */
  readonly memoryBytes?: number | undefined;
}

export const codecMemoryBytesDefault = 256 << 20;
/** Below that a history is not worth having. */
export const codecMemoryBytesMin = 16 << 20;
/** A destination allows no more. */
export const codecMemoryBytesMax = 1 << 30;

/** The levels that a codec knows; without an entry it has none. */
export const codecLevels: Readonly<Partial<Record<CodecChoice, readonly number[]>>> = {
  gzip: gzipLevels,
  zstd: zstdLevels,
  hybrid: zstdLevels,
};

/** Throws CONFIG_INVALID. */
export function checkCodecOptions(codec: CodecChoice, options: CodecOptions): void {
  const { level, memoryBytes } = options;
  const levels = codecLevels[codec];
  if (level !== undefined && levels?.includes(level) !== true) {
    const known =
      levels === undefined ? "no level can be set" : `its levels are ${levels.join(", ")}`;
    throw new GodwitError("CONFIG_INVALID", `level ${level} of codec ${codec}: ${known}`);
  }
  if (memoryBytes === undefined) return;
  // Without memory for a history `auto` chooses among the methods that keep none.
  const least = codec === "auto" ? 0 : codecMemoryBytesMin;
  if (memoryBytes >= least && memoryBytes <= codecMemoryBytesMax) return;
  throw new GodwitError(
    "CONFIG_INVALID",
    `${memoryBytes} bytes of memory for a codec: 16 MiB to 1 GiB are possible`,
  );
}
