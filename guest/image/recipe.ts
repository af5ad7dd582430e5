/**
 * What the test guest is made of: packages, kernel modules, programs. Nothing here downloads or builds;
 * build.ts does. Changing anything in guest/image, guest/workload or guest/agent makes a new image; root disks have recipes of
 * their own (java-recipe.ts, server-recipe.ts).
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { JavaVariant } from "./java-recipe.ts";

export type GuestVariant = "small" | "server" | JavaVariant;

/** The guest is the same on every host: always of this Debian release, whatever the machine runs. */
export const guestSuite = "bookworm";

/** A kernel for virtual machines: virtio as modules, little else. Depends on the package with the files. */
export const kernelMetaPackage = "linux-image-cloud-amd64";
export const busyboxPackage = "busybox-static";

/** Kernel modules in loading order: each after those it depends on. */
export const modules = [
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio_pci_modern_dev",
  "drivers/virtio/virtio_pci_legacy_dev",
  "drivers/virtio/virtio_pci",
  "drivers/virtio/virtio_mmio",
  "drivers/char/virtio_console",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "drivers/block/virtio_blk",
  "drivers/virtio/virtio_balloon",
] as const;

/** Static programs compiled for the guest; the name in /bin and the source under guest/. */
export const guestPrograms = [
  { name: "godwit-writer", source: "workload/writer.c" },
  { name: "godwit-disk", source: "workload/disk.c" },
  { name: "godwit-cache", source: "assist/examples/cache-server.c" },
] as const;

export const compilerFlags = [
  "-std=gnu11",
  "-O2",
  "-static",
  "-s",
  "-Wall",
  "-Wextra",
  "-Werror",
] as const;

/** Names of modules as insmod's caller knows them: the last part of the path. */
export function moduleName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Hash over every file that kernel and initrd depend on, computed without network; about 5 ms. */
export async function recipeHash(guestFolder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const folder of ["image", "workload", "agent", "assist/c", "assist/examples"]) {
    for (const name of (await readdir(join(guestFolder, folder))).toSorted()) {
      if (!/\.(ts|sh|c|h)$/.test(name) || /^(java|server)-/.test(name)) continue;
      hash
        .update(`${folder}/${name}\0`)
        .update(await readFile(join(guestFolder, folder, name)))
        .update("\0");
    }
  }
  return hash.digest("hex").slice(0, 16);
}
