/** What callers may ask of a daemon. Strict: an unknown key is an error, so that a misspelt option is not ignored. */
import { z } from "zod";
import { compressChoices } from "../choices.ts";

/** The same rule as a VM definition's `name`; it becomes a file name, so nothing else may pass. */
export const vmName = z
  .string()
  .regex(
    /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/,
    "must be 1 to 63 letters, digits, dots, underscores and hyphens, with a letter or digit at both ends",
  );

export const migrationId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/, "must be 1 to 64 letters, digits and hyphens");

const absolutePath = z.string().regex(/^\/[^\0]*$/, "must be an absolute path");
const port = z.int().min(1).max(65535);
const duration = z
  .int()
  .min(0)
  .max(7 * 24 * 3600 * 1000);

export const startVm = z.strictObject({
  /** YAML or JSON text of a VM definition (docs/vm-definition.schema.json). */
  text: z.string().min(1).max(1_000_000).meta({ description: "VM definition in YAML or JSON." }),
  source: z.string().max(4096).optional().meta({ description: "Names the text in errors." }),
  baseDirectory: absolutePath
    .optional()
    .meta({ description: "Relative paths in the definition start here." }),
  name: vmName.optional().meta({ description: "Instead of the definition's own name." }),
  paused: z.boolean().default(false).meta({ description: "Do not run the guest yet." }),
});

export const stopVm = z.strictObject({
  how: z
    .enum(["powerdown", "kill"])
    .default("powerdown")
    .meta({ description: "powerdown presses the power button; kill ends QEMU at once." }),
  timeoutMs: duration
    .default(60_000)
    .meta({ description: "How long to wait for a powerdown; 0 = do not wait." }),
});

export const continueVm = z.strictObject({
  force: z.boolean().default(false).meta({
    description: "Also run a VM that was handed over. Only when it certainly runs nowhere else.",
  }),
});

/** Mirrors MigrateOptions of src/migrate/job.ts; every field has a default there. */
export const migrateOptions = z.strictObject({
  downtimeLimitMs: z.int().min(1).max(600_000).optional(),
  bandwidthBytesPerSecond: z.int().min(0).optional().meta({ description: "0 = no limit." }),
  timeoutMs: duration.optional().meta({ description: "For the whole migration; 0 = none." }),
  timeoutAction: z.enum(["cancel", "switch-over"]).optional(),
  whenStalled: z.enum(["switch-over", "continue", "cancel"]).optional(),
  verify: z.boolean().optional().meta({ description: "Compare all memory before the start." }),
  assist: z.enum(["auto", "off", "require"]).optional().meta({
    description: "Whether applications in the guest say which memory need not travel.",
  }),
  gc: z.enum(["auto", "wait", "provoke", "none"]).optional().meta({
    description: "How a Java VM comes to a garbage collection before the switch-over.",
  }),
  assistTimeoutMs: duration.optional().meta({
    description: "How long applications may take to get ready for the switch-over.",
  }),
  dropCaches: z.boolean().optional().meta({
    description: "The guest gives up its clean page cache before the first round.",
  }),
  compress: z
    .enum(compressChoices)
    .optional()
    .meta({ description: "How what travels is compressed; auto chooses while it sends." }),
  compressLevel: z.int().min(-100).max(100).optional().meta({
    description: "Of gzip (1 to 9), zstd or hybrid (-7 to 9, without -1 and 0).",
  }),
  compressMemoryBytes: z
    .int()
    .min(0)
    .max(2 ** 30)
    .optional()
    .meta({
      description:
        "What delta, similarity, hybrid and auto may remember of earlier pages, at both ends.",
    }),
  dropShare: z.number().min(0).max(1).optional().meta({ description: "For tests only." }),
  dropSeed: z.int().min(0).optional().meta({ description: "For tests only." }),
});

const target = {
  host: z.string().min(1).max(255).meta({ description: "Name or address of the destination." }),
  port: port.default(7470),
  insecure: z.boolean().default(false).meta({
    description:
      "Allow plain TCP to another machine: anyone on the way can read and change memory.",
  }),
  options: migrateOptions.default({}),
};

export const migrateVm = z
  .strictObject({ vm: vmName.meta({ description: "A VM of this daemon." }), ...target })
  .meta({ title: "Migrate a VM that this daemon started" });

export const sendVm = z
  .strictObject({
    qmpPath: absolutePath.meta({ description: "QMP socket of a QEMU that somebody else started." }),
    name: vmName.meta({ description: "The name under which the destination waits for it." }),
    pid: z.int().positive().optional(),
    ...target,
  })
  .meta({ title: "Migrate any QEMU" });

export const startMigration = z.union([migrateVm, sendVm]);

export const expectVm = z.strictObject({
  name: vmName,
  qmpPath: absolutePath.meta({
    description: "QMP socket of a QEMU that was started with -incoming defer.",
  }),
  pid: z.int().positive().optional(),
});

/** Constraints under which a VM's pages would be compressed, and how long to look at it. */
export const adviseVm = z.strictObject({
  linkBytesPerSecond: z.int().min(1).default(125_000_000),
  cpuShare: z.number().gt(0).max(1).default(0.2).meta({ description: "Of one core." }),
  memoryBytes: z
    .int()
    .min(2 ** 20)
    .default(256 * 2 ** 20)
    .meta({ description: "For what a method keeps of earlier pages." }),
  durationMs: z.int().min(500).max(60_000).default(5_000),
  intervalMs: z.int().min(25).max(10_000).default(100),
});

/** What to record of a VM, and into which file (docs/formats/trace.md). */
export const traceVm = z.strictObject({
  path: absolutePath.max(4096).meta({
    description:
      "On the daemon's host, in a folder that its user may write to; must not be there yet.",
  }),
  intervalMs: z.int().min(10).max(60_000).default(100),
  durationMs: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(10_000)
    .meta({ description: "After the base image." }),
  base: z.enum(["full", "touched", "none"]).default("full").meta({
    description: "All memory as it was first, only pages that are written later, or nothing.",
  }),
  pages: z
    .int()
    .min(1)
    .max(65_536)
    .default(1)
    .meta({ description: "Keep one of so many pages, with all their versions." }),
  fileBytesMax: z
    .int()
    .min(2 ** 20)
    .default(4 * 2 ** 30)
    .meta({ description: "The recording ends when its file has grown to this." }),
  workload: z
    .string()
    .max(255)
    .default("")
    .meta({ description: "What runs in the VM, for readers." }),
  note: z.string().max(4000).default(""),
});

export const consoleQuery = z.strictObject({
  bytes: z.coerce.number().int().min(0).max(4_194_304).default(65_536),
});
