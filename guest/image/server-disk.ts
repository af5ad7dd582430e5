/**
 * The root disk of the variant "server": packages unpacked into a folder, the workloads beside them, and `mke2fs -d` over it.
 * The packages' install scripts never run; what they would set up and the servers need is made here.
 */
import { copyFile, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PrivateApt } from "../../scripts/setup/apt.ts";
import { run, say } from "../../scripts/setup/shell.ts";
import { compilerFlags } from "./recipe.ts";
import { compiledFolders } from "./server-recipe.ts";

/** init.sh finds the disk by this. */
const diskLabel = "godwit-root";
/** For the file system's own tables; the disk is read-only. */
const spareBytes = 32 * 1024 * 1024;
const unneeded = ["doc", "man", "locale", "info", "perl5", "bash-completion"].map(
  (name) => `usr/share/${name}`,
);

export interface ServerDiskOptions {
  readonly packages: readonly string[];
  readonly apt: PrivateApt;
  /** Empty, on the cache's file system. */
  readonly temporary: string;
  readonly guestFolder: string;
  readonly diskPath: string;
}

export async function makeServerDisk(options: ServerDiskOptions): Promise<void> {
  const { packages, apt, temporary, guestFolder, diskPath } = options;
  const root = join(temporary, "server-root");
  say(`guest: downloading and unpacking ${packages.length} packages of Debian ${apt.suite}`);
  await apt.unpack(packages, root);
  for (const path of unneeded) await rm(join(root, path), { recursive: true, force: true });
  for (const path of ["proc", "sys", "dev", "tmp", "run", "etc", "opt/workload/source"]) {
    await mkdir(join(root, path), { recursive: true });
  }
  await writeFile(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/tmp:/bin/sh\npostgres:x:1000:1000:postgres:/tmp:/bin/sh\n",
  );
  await writeFile(join(root, "etc/group"), "root:x:0:\npostgres:x:1000:\n");
  await addWorkloads(guestFolder, join(root, "opt/workload"));
  const bytes = Number.parseInt(
    (await run("du", ["-s", "-B", "1", "--apparent-size", root])).toString(),
    10,
  );
  const megabytes = Math.ceil((bytes * 1.06 + spareBytes) / 1048576);
  say(`guest: writing the root disk (${megabytes} MB)`);
  const words = ["-q", "-t", "ext4", "-O", "^has_journal", "-L", diskLabel, "-m", "0", "-d", root];
  // Thousands of small headers: more inodes than is usual for the size.
  await run("mke2fs", [...words, "-i", "8192", "-E", "root_owner=0:0", diskPath, `${megabytes}M`]);
}

async function addWorkloads(guestFolder: string, target: string): Promise<void> {
  const folder = join(guestFolder, "workload/server");
  await copyFile(join(folder, "run.sh"), join(target, "run.sh"));
  const words = ["-o", join(target, "redis-load"), join(folder, "redis-load.c")];
  await run("gcc", [...compilerFlags, ...words]);
  for (const name of compiledFolders) {
    for (const file of await readdir(join(guestFolder, name))) {
      if (!/\.[ch]$/.test(file)) continue;
      await copyFile(join(guestFolder, name, file), join(target, "source", file));
    }
  }
}
