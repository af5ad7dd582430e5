/**
 * What a VM definition may say. The descriptions are part of the published JSON schema, docs/vm-definition.schema.json,
 * which editors show while one types; a test keeps that file equal to this one.
 */
import { z } from "zod";

const sizeUnits: Readonly<Record<string, number>> = {
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** "512M", "5G", "5GiB" → bytes; undefined when it is not a size. Units are powers of two. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?$/i.exec(text);
  const unit = sizeUnits[match?.[2]?.toUpperCase() ?? ""];
  if (match === null || unit === undefined) return undefined;
  const bytes = Number(match[1]) * unit;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const mebibyte = 2 ** 20;

const sizeHint = 'write a size with its unit, like "512M" or "5G": whole mebibytes, at least 1M';

const memory = z
  .union(
    [
      z
        .string()
        .max(32)
        .regex(/^\d+(\.\d+)?\s*[KMGTkmgt](i?B)?$/, sizeHint)
        .transform((text) => parseSize(text) ?? 0),
      // As a parsed definition has it, when it comes from another godwit.
      z.int(),
    ],
    sizeHint,
  )
  .refine((bytes) => bytes >= mebibyte && bytes % mebibyte === 0, sizeHint)
  .meta({
    description:
      'Guest memory with its unit, like "512M" or "5G" (powers of two, whole mebibytes); a bare number is bytes.',
  });

/** Definitions also come from peers. */
const charactersMax = 4096;
const entriesMax = 256;
const boundedText = z.string().max(charactersMax);

const path = boundedText.min(1).regex(/^[^\0]*$/, "must not contain NUL");

const disk = z.strictObject({
  file: path
    .optional()
    .meta({ description: "Image file or block device; relative to the definition's folder." }),
  nbd: z
    .strictObject({
      socket: path.meta({ description: "Unix socket of the NBD server." }),
      export: boundedText.default("").meta({ description: "Name of the export." }),
    })
    .optional()
    .meta({ description: "A disk served by an NBD server on a unix socket, instead of `file`." }),
  format: z
    .enum(["raw", "qcow2"])
    .optional()
    .meta({ description: "Default: qcow2 when the file's name ends so, else raw." }),
  interface: z
    .enum(["virtio-blk", "ide"])
    .default("virtio-blk")
    .meta({ description: "What the guest sees. ide is for guests without virtio drivers." }),
  readOnly: z.boolean().default(false),
  cache: z
    .enum(["writeback", "none", "writethrough", "directsync", "unsafe"])
    .default("writeback")
    .meta({ description: "As in QEMU. none and directsync need O_DIRECT." }),
});

const mac = z
  .string()
  .regex(
    /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i,
    'must be a unicast address like "52:54:00:12:34:56"',
  )
  .transform((text) => text.toLowerCase())
  .optional()
  .meta({
    description:
      "Default: derived from the VM's name and the card's position, so that source and destination agree.",
  });

/** Interface names are at most 15 bytes in Linux. */
const interfaceName = z.string().regex(/^[^\s/]{1,15}$/, "must be a network interface's name");
const port = z.int().min(1).max(65535);

const network = z.discriminatedUnion("type", [
  z
    .strictObject({
      type: z.literal("user"),
      mac,
      forwards: z
        .array(
          z.strictObject({
            protocol: z.enum(["tcp", "udp"]).default("tcp"),
            hostAddress: boundedText.default("127.0.0.1"),
            hostPort: port,
            guestPort: port,
          }),
        )
        .max(entriesMax)
        .default([]),
    })
    .meta({ description: "User-mode network; connections break when the VM moves." }),
  z
    .strictObject({ type: z.literal("tap"), mac, interface: interfaceName })
    .meta({ description: "A tap interface that exists already on each host." }),
  z
    .strictObject({ type: z.literal("bridge"), mac, bridge: interfaceName })
    .meta({ description: "A tap made by qemu-bridge-helper and put into this bridge." }),
  z
    .strictObject({ type: z.literal("stream"), mac, socket: path })
    .meta({ description: "Ethernet frames over a unix socket on which somebody listens." }),
]);

const slotsPerKind = 8;

export const definitionSchema = z
  .strictObject({
    name: z
      .string()
      .regex(
        /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/,
        "must be 1 to 63 letters, digits, dots, underscores and hyphens, with a letter or digit at both ends",
      )
      .meta({ description: "Unique on the host; identity of the VM when it moves." }),
    memory,
    vcpus: z.int().min(1).max(1024).default(1).meta({ description: "Number of virtual CPUs." }),
    machine: z
      .string()
      .max(64)
      .regex(
        /^(q35|pc|microvm|pc-q35-[\w.]+|pc-i440fx-[\w.]+)$/,
        "must be q35, pc, microvm, or a versioned type like pc-q35-10.0",
      )
      .default("q35")
      .meta({
        description:
          "QEMU machine type. q35 and pc mean the newest version of the QEMU that starts the VM first; the destination is told which that was.",
      }),
    accelerator: z
      .enum(["auto", "kvm", "tcg"])
      .default("auto")
      .meta({ description: "auto is kvm where it works, else tcg (emulation)." }),
    cpu: boundedText.min(1).optional().meta({
      description:
        "QEMU CPU model. Default: host under kvm (source and destination must then have the same CPU), max,-erms,-fsrm under tcg.",
    }),
    uuid: z.uuid().optional().meta({ description: "Default: derived from the name." }),
    kernel: path.optional().meta({ description: "Linux kernel to boot directly." }),
    initrd: path.optional(),
    commandLine: boundedText.optional().meta({ description: "For the kernel." }),
    disks: z.array(disk).max(slotsPerKind).default([]),
    networks: z.array(network).max(slotsPerKind).default([]),
    agent: z
      .boolean()
      .default(true)
      .meta({ description: "The virtio-serial port org.godwit.agent.0, for the guest agent." }),
    balloon: z
      .union([z.boolean(), z.strictObject({ freePageHint: z.boolean().default(false) })])
      .default(true)
      .meta({
        description:
          "virtio-balloon. freePageHint: during a migration the guest tells QEMU which memory it does not use, and QEMU leaves it out.",
      }),
    rng: z.boolean().default(true),
    binary: path.optional().meta({ description: "QEMU to use instead of the one that is found." }),
    extraArguments: z
      .array(boundedText)
      .max(entriesMax)
      .default([])
      .meta({ description: "Appended to QEMU's command line as they are." }),
  })
  .meta({ title: "godwit VM definition" });

/** A definition as it is used: defaults filled in, sizes in bytes. */
export type VmDefinition = z.output<typeof definitionSchema>;
export type DiskDefinition = z.output<typeof disk>;
export type NetworkDefinition = z.output<typeof network>;

/** The JSON schema of what one may write; committed as docs/vm-definition.schema.json. */
export function definitionJsonSchema(): object {
  return z.toJSONSchema(definitionSchema, { io: "input" });
}
