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
      savesTraffic: z.boolean().optional(),
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
      goesOn: z.enum(["rounds", "oneRound", "arrived"]).optional(),
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
      firstPartMs: z.number().optional(),
      gcMs: z.number(),
      freezeMs: z.number(),
      scrubMs: z.number(),
      stopMs: z.number(),
      lastRoundMs: z.number(),
      deviceStateMs: z
        .number()
        .optional()
        .meta({ description: "Absent in older records, where it is part of lastRoundMs." }),
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

const compression = z.object({
  codec: z.string(),
  level: z.number().optional(),
  rawBytes: z.number().meta({ description: "Page records that went into the codec." }),
  bodyBytes: z.number().meta({ description: "What it made of them." }),
  ratio: z.number(),
  encodeMs: z.number().meta({ description: "Time of the data path's thread." }),
  memoryBytes: z.number().meta({ description: "Held by the codec at the source." }),
  hitShare: z
    .number()
    .optional()
    .meta({ description: "Of the pages: an earlier version was at hand." }),
  methods: z
    .array(
      z.object({
        name: z.string(),
        batchCount: z.number(),
        pageCount: z.number(),
        rawBytes: z.number(),
        bodyBytes: z.number(),
        encodeMs: z.number(),
      }),
    )
    .readonly()
    .optional()
    .meta({ description: "What auto chose." }),
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
  hintedFreeBytes: z.number().optional(),
  compression: compression.optional(),
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

/** What one way of compressing did to a VM's pages, and what that means under the constraints (src/advise). */
export const methodAdvice = z.looseObject({
  method: z.string(),
  ratio: z.number().meta({ description: "Bytes of page records over bytes sent, in epochs." }),
  encodeMsPerMb: z.number().meta({ description: "CPU time; MB are 10^6 bytes of records." }),
  decodeMbPerS: z.number(),
  memoryBytes: z.number().meta({ description: "What the encoder keeps from batch to batch." }),
  firstCopyRatio: z.number().optional(),
  sustainableBytesPerSecond: z.number().meta({
    description: "How fast the VM may dirty memory before link or CPU time are used up.",
  }),
  limit: z.enum(["link", "cpu"]),
  linkShare: z.number().meta({ description: "Of the link, at the rate that was measured." }),
  cpuShare: z.number().meta({ description: "Of one core, at the rate that was measured." }),
  fitsMemory: z.boolean(),
  fits: z.boolean().meta({ description: "All constraints are met at the rate that was measured." }),
  onFront: z.boolean().meta({ description: "No other has a better ratio for less CPU time." }),
});

export const advice = z.looseObject({
  name: z.string(),
  intervalMs: z.number(),
  epochCount: z.number(),
  epochsBytes: z.number(),
  dirtyBytesPerSecond: z.number(),
  constraints: z.object({
    linkBytesPerSecond: z.number(),
    cpuShare: z.number(),
    memoryBytes: z.number(),
  }),
  methods: z.array(methodAdvice).readonly(),
  leftOut: z.array(z.string()).readonly().meta({ description: "Methods that were not measured." }),
  recommended: z.string().optional(),
  reason: z.string(),
  picture: z.string().meta({ description: "SVG." }),
});

/** A stream of these ends with `finished` or `failed`; closing the connection gives up. */
export const adviceEvent = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("progress"), text: z.string() }),
  z.looseObject({ type: z.literal("finished"), advice }),
  z.looseObject({ type: z.literal("failed"), ...errorReply.shape }),
]);

export const traceProgress = z.looseObject({
  phase: z.enum(["base", "recording", "finishing"]),
  elapsedMs: z.number(),
  memoryBytes: z.number(),
  epochCount: z.number(),
  pageCount: z.number(),
  dirtyPageCount: z.number().meta({ description: "Of the last epoch." }),
  rawBytes: z.number(),
  fileBytes: z.number(),
  doneShare: z
    .number()
    .optional()
    .meta({ description: "While the recording is made smaller: 0 to 1." }),
});

export const traceSummary = z.looseObject({
  path: z.string(),
  ended: z.enum(["duration", "size", "cancelled", "stopped"]),
  memoryBytes: z.number(),
  epochCount: z.number(),
  intervalMs: z.number(),
  medianIntervalMs: z.number(),
  basePageCount: z.number(),
  medianDirtyPages: z.number(),
  rawBytes: z.number(),
  fileBytes: z.number(),
  lateCount: z
    .number()
    .meta({ description: "Epochs that ended although QEMU had not sent everything in time." }),
  recordedMs: z.number(),
});

/** A stream of these ends with `finished` or `failed`; closing the connection ends the recording. */
export const traceEvent = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("progress"), progress: traceProgress }),
  z.looseObject({ type: z.literal("finished"), summary: traceSummary }),
  z.looseObject({ type: z.literal("failed"), ...errorReply.shape }),
]);

export const consoleEvent = z.looseObject({ type: z.literal("text"), text: z.string() });
