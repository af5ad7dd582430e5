/**
 * Control messages: small JSON objects inside control frames. Everything about order and meaning is in
 * docs/protocols/migrate.md. Checked with zod at the border, once.
 */
import { z } from "zod";
import { type ErrorCode, errorCodes, GodwitError } from "../../base/index.ts";

const text = z.string().max(4096);
const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const codes = Object.keys(errorCodes) as ErrorCode[];
const errorRecord = z.object({
  /** A code that a newer peer invented is read as PEER_FAILED. */
  code: z.enum([...codes, "INTERNAL"]).catch("PEER_FAILED"),
  message: text,
});

/** A hash of every chunk of every migrated block, in stream order. */
const memoryHashes = z.object({
  chunkBytes: count,
  blocks: z
    .array(
      z.object({
        name: z.string().max(255),
        lengthBytes: count,
        /** SHA-256 of each chunk, base64, joined without separator (44 characters each). */
        hashes: z.string().max(480 << 10),
      }),
    )
    .max(1024),
});
export type MemoryHashes = z.infer<typeof memoryHashes>;

const offer = z.object({
  type: z.literal("offer"),
  /** Names this migration in both daemons' logs and journals. */
  migrationId: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  vmName: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
  /** The source VM's definition; absent when the destination is to use a QEMU that waits there under `vmName`. */
  definition: z.record(z.string(), z.unknown()).optional(),
  source: z.object({ godwitVersion: text, qemuVersion: text, host: text }),
  /** True when the source VM runs: then the destination VM is started at the end, else left paused. */
  run: z.boolean(),
  verify: z.boolean(),
});

const sourceMessage = z.discriminatedUnion("type", [
  offer,
  /** Asks for the hashes of the loaded memory. */
  z.object({ type: z.literal("verify"), chunkBytes: count.min(1 << 20).max(1 << 30) }),
  /** The source VM is stopped for good: the destination's is the VM from now on. */
  z.object({
    type: z.literal("handed-over"),
    /** Applications in the guest stand still, and are to be let go once it runs. */
    thaw: z.boolean().default(false),
  }),
  z.object({ type: z.literal("abort"), error: errorRecord }),
  /** First and only message of a connection that reports how an interrupted migration ended at the source. */
  z.object({
    type: z.literal("resolve"),
    migrationId: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
    outcome: z.enum(["handed-over", "aborted"]),
  }),
]);
export type SourceMessage = z.infer<typeof sourceMessage>;
export type OfferMessage = z.infer<typeof offer>;

const destinationMessage = z.discriminatedUnion("type", [
  /** QEMU waits for the stream. */
  z.object({ type: z.literal("ready"), qemuVersion: text, host: text }),
  /** The whole state is in QEMU's memory; the VM is stopped. */
  z.object({
    type: z.literal("loaded"),
    /** From when QEMU had been given all memory until it had loaded the devices' state. */
    deviceStateMs: z.number().nonnegative().default(0),
  }),
  z.object({ type: z.literal("hashes"), memory: memoryHashes }),
  /** The VM runs here (or is paused, if the source's was). `resumedWallMs`: time of QEMU's RESUME event. */
  z.object({
    type: z.literal("running"),
    loadedWallMs: z.number().nonnegative(),
    continueMs: z.number().nonnegative(),
    resumedWallMs: z.number().nonnegative(),
    /** From the VM's start until its applications went on. */
    thawMs: z.number().nonnegative().default(0),
  }),
  z.object({ type: z.literal("failed"), error: errorRecord }),
  /** Answer to "resolve". */
  z.object({ type: z.literal("resolved"), state: text }),
]);
export type DestinationMessage = z.infer<typeof destinationMessage>;

export function parseSourceMessage(body: Buffer): SourceMessage {
  return parse(sourceMessage, body);
}

export function parseDestinationMessage(body: Buffer): DestinationMessage {
  return parse(destinationMessage, body);
}

function parse<T>(schema: z.ZodType<T>, body: Buffer): T {
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new GodwitError("FRAME_INVALID", "a control message is not JSON", { cause: error });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new GodwitError(
    "FRAME_INVALID",
    `a control message is not valid: ${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`,
  );
}
