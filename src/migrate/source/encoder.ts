/** The encoder of a migration; where this machine has no room for a history of pages, one that does without. */
import { GodwitError } from "../../base/index.ts";
import { type BatchEncoder, checkCodecOptions, createEncoder } from "../../codec/index.ts";
import type { Clock } from "../../io/index.ts";
import type { MigrateOptions } from "../job.ts";

type Options = Pick<MigrateOptions, "compress" | "compressLevel" | "compressMemoryBytes">;

/**
 * Fails with CONFIG_INVALID for options that do not fit the codec. `say` is told when it is not the codec that was asked for;
 * the destination need not be, as each frame names its own.
 */
export function encoderFor(
  { compress, compressLevel: level, compressMemoryBytes: memoryBytes }: Options,
  clock: Clock,
  say: (text: string) => void,
  create = createEncoder,
): BatchEncoder {
  checkCodecOptions(compress, { level, memoryBytes });
  try {
    return create(compress, { level, memoryBytes, clock });
  } catch (error) {
    // The options are sound: what is left is that the address space was not to be had.
    if (!(error instanceof GodwitError) || error.code !== "CONFIG_INVALID") throw error;
    const codec = compress === "hybrid" ? "zstd" : "lz4";
    say(`compression with ${codec} instead of ${compress}: ${error.message}`);
    return create(codec, { level: codec === "zstd" ? level : undefined, clock });
  }
}
