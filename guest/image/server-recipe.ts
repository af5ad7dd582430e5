/**
 * What the root disk with servers is made of: PostgreSQL, Redis and a C compiler, whose memory is recorded by
 * scripts/record-traces.ts. Apart from recipe.ts, as Java's is.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Installed with all that they depend on ... */
export const serverRoots: readonly string[] = [
  "postgresql-15",
  "redis-server",
  "redis-tools",
  "gcc",
  "libc6-dev",
  "dash",
  "coreutils",
  "util-linux",
  "tzdata",
];

/** ... but for what only their install scripts need, and 200 MB of libraries for what is switched off. */
export function isNeeded(name: string): boolean {
  if (/perl|^lib(llvm|z3|asan|tsan|lsan|ubsan|itm|gomp|quadmath|semanage|pam-modules)/.test(name))
    return false;
  return /^(lib|postgresql-(client-)?15|redis|gcc|cpp|binutils|linux-libc-dev|dash|coreutils|util-linux|tzdata|zlib1g)/.test(
    name,
  );
}

/** Folders whose C files the compiler compiles in the guest. */
export const compiledFolders: readonly string[] = ["agent"];

/** Hash over every file that the disk depends on. */
export async function serverRecipeHash(guestFolder: string): Promise<string> {
  const hash = createHash("sha256");
  const files = ["image/server-disk.ts", "image/server-recipe.ts", "workload/pattern.h"];
  for (const folder of ["workload/server", ...compiledFolders]) {
    for (const name of (await readdir(join(guestFolder, folder))).toSorted()) {
      if (/\.(c|h|sh)$/.test(name)) files.push(`${folder}/${name}`);
    }
  }
  for (const file of files) {
    hash
      .update(`${file}\0`)
      .update(await readFile(join(guestFolder, file)))
      .update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}
