/** What a daemon answers. Objects are loose: a newer daemon may say more. Times are milliseconds since 1970. */
import { z } from "zod";

export const errorReply = z.looseObject({
  error: z.looseObject({ code: z.string(), message: z.string() }),
});

export const check = z.looseObject({
  name: z.string(),
  ok: z.boolean(),
  required: z.boolean(),
  detail: z.string(),
  advice: z.string().optional(),
});

export const doctor = z.looseObject({
  ok: z.boolean().meta({ description: "True when nothing required is missing." }),
  checks: z.array(check),
});

export const host = z.looseObject({
  version: z.string(),
  hostname: z.string(),
  pid: z.int(),
  startedWallMs: z.number(),
  migrationAddress: z.string().nullable().meta({ description: "HOST:PORT for `migrate --to`." }),
  tls: z.boolean(),
  runtimeDirectory: z.string(),
  stateDirectory: z.string(),
});

export const vm = z.looseObject({
  name: z.string(),
  state: z.string().meta({
    description:
      "QEMU's run state (running, paused, postmigrate, …), or arriving, kept, crashed, unknown.",
  }),
  /** One sentence when there is something to know or to do. */
  note: z.string().optional(),
  /** True: this daemon started it. False: adopted. */
  launched: z.boolean(),
  pid: z.int().optional(),
  memoryBytes: z.number().optional(),
  vcpus: z.int().optional(),
  accelerator: z.string().optional(),
  machineType: z.string().optional(),
  qemuVersion: z.string().optional(),
  startedWallMs: z.number().optional(),
  qmpPath: z.string(),
  consoleLogPath: z.string().optional(),
  logPath: z.string().optional(),
  /** The migration that is under way, if any. */
  migration: z.string().optional(),
});

export const progress = z.looseObject({
  role: z.enum(["source", "destination"]),
  phase: z.string(),
  elapsedMs: z.number(),
  round: z.number(),
  memoryBytes: z.number(),
  pageCount: z.number(),
  zeroCount: z.number(),
  droppedCount: z.number(),
  staleCount: z.number(),
  streamBytes: z.number(),
  wireBytes: z.number(),
  bytesPerSecond: z.number(),
  dirtyBytes: z.number(),
  remainingBytes: z.number(),
  dirtyBytesPerSecond: z.number().optional(),
  expectedDowntimeMs: z.number().optional(),
  etaMs: z.number().optional(),
  stalled: z.boolean(),
});

const estimate = z.object({
  totalMs: z.number(),
  wireBytes: z.number(),
  appDowntimeMs: z.number(),
});

/** The applications' part in a migration; docs/ASSIST.md, docs/JAVMM.md. */
export const assist = z.object({
  state: z.enum(["off", "unused", "active", "used", "failed"]),
  text: z.string(),
  participants: z
    .array(
      z.object({
        kind: z.enum(["young", "area"]),
        pid: z.int(),
        name: z.string(),
        disposableBytes: z.number().optional(),
        unsupported: z.string().optional(),
      }),
    )
    .readonly(),
  prediction: z
    .object({
      without: estimate,
      with: estimate,
      saves: z.boolean(),
      pays: z.boolean(),
      text: z.string(),
    })
    .optional(),
  hold: z
    .object({
      waitMs: z.number(),
      readyMs: z.number(),
      gcMs: z.number(),
      freezeMs: z.number(),
      scrubMs: z.number(),
      standstillMs: z.number(),
      scrubbedPages: z.number(),
      promotedBytes: z.number(),
      survivorBytes: z.number(),
      edenBytes: z.number(),
      applicationCount: z.number(),
      jvms: z
        .array(
          z.object({
            name: z.string(),
            how: z.enum(["natural", "provoked", "none"]),
            gcMs: z.number(),
            attempts: z.number(),
          }),
        )
        .readonly(),
    })
    .optional(),
  applicationDowntime: z
    .object({
      totalMs: z.number(),
      gcMs: z.number(),
      freezeMs: z.number(),
      scrubMs: z.number(),
      stopMs: z.number(),
      lastRoundMs: z.number(),
      startMs: z.number(),
      thawMs: z.number(),
    })
    .optional(),
  droppedCacheBytes: z.number().optional(),
  zeroedFreeBytes: z.number().optional(),
});

const roundDetail = z.object({
  index: z.number(),
  startMs: z.number(),
  durationMs: z.number(),
  dirtyBytes: z.number(),
  pageCount: z.number(),
  zeroCount: z.number(),
  droppedCount: z.number(),
  droppedAreaCount: z.number(),
  staleFetchedCount: z.number(),
  compressedAwayBytes: z.number(),
  wireBytes: z.number(),
});

export const report = z.looseObject({
  totalMs: z.number(),
  downtimeMs: z.number().optional(),
  rounds: z.number(),
  memoryBytes: z.number(),
  streamBytes: z.number(),
  wireBytes: z.number(),
  pageCount: z.number(),
  zeroCount: z.number(),
  droppedCount: z.number(),
  staleFetchedCount: z.number(),
  droppedAreaCount: z.number().optional(),
  compressedAwayBytes: z.number().optional(),
  roundDetails: z.array(roundDetail).readonly().optional(),
  assist: assist.optional(),
  verified: z.boolean().optional(),
  verifyMs: z.number().optional(),
});

export const line = z.looseObject({ wallMs: z.number(), text: z.string() });

export const migration = z.looseObject({
  id: z.string().meta({ description: "Unique in this daemon; destinations end in -in." }),
  migrationId: z.string().meta({ description: "The same at both ends." }),
  role: z.enum(["source", "destination"]),
  vm: z.string(),
  peer: z.string(),
  state: z.enum([
    "running",
    "done",
    "failed",
    "cancelled",
    "unconfirmed",
    "uncertain",
    "interrupted",
  ]),
  startedWallMs: z.number(),
  finishedWallMs: z.number().optional(),
  progress: progress.optional(),
  /** In words, once it is over. */
  text: z.string().optional(),
  error: z.looseObject({ code: z.string(), message: z.string() }).optional(),
  report: report.optional(),
  lines: z.array(line),
});

export const expectation = z.looseObject({
  name: z.string(),
  qmpPath: z.string(),
  pid: z.int().optional(),
  sinceWallMs: z.number(),
});

export const consoleTail = z.looseObject({
  text: z.string(),
  /** Offset in the log of the byte after `text`. */
  end: z.number(),
});

export const done = z.looseObject({ text: z.string() });

/**
 * `data` of one server-sent event. A stream begins with `following`: from then on nothing is missed. Then comes the whole of
 * each migration that is under way.
 */
export const migrationEvent = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("following") }),
  z.looseObject({ type: z.literal("migration"), migration }),
  z.looseObject({ type: z.literal("progress"), id: z.string(), progress }),
  z.looseObject({ type: z.literal("line"), id: z.string(), line }),
  z.looseObject({ type: z.literal("finished"), migration }),
  z.looseObject({ type: z.literal("expectation"), name: z.string(), expected: z.boolean() }),
]);

export const consoleEvent = z.looseObject({ type: z.literal("text"), text: z.string() });
