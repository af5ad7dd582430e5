/**
 * The root disk of variant "java": the JRE's packages unpacked into a folder, a test class compiled with
 * the JRE's own compiler, and `mke2fs -d` over the folder. The packages' install scripts never run; what
 * they would set up and Java needs is made here.
 */
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { PrivateApt } from "../../scripts/setup/apt.ts";
import { run, say } from "../../scripts/setup/shell.ts";

/** init.sh finds the disk by this. */
const diskLabel = "godwit-root";
/** Free space is not needed (the disk is read-only), room for the file system's own tables is. */
const spareBytes = 24 * 1024 * 1024;
const unneeded = [
  "usr/share/doc",
  "usr/share/man",
  "usr/share/locale",
  "usr/share/info",
  "usr/share/i18n",
  "usr/lib/x86_64-linux-gnu/gconv",
  "boot",
];

export async function makeJavaDisk(
  apt: PrivateApt,
  packages: readonly string[],
  temporary: string,
  diskPath: string,
): Promise<void> {
  say(
    `guest: downloading and unpacking the Java runtime (${packages.length} packages, about 75 MB)`,
  );
  const root = join(temporary, "java-root");
  await apt.unpack(packages, root);
  for (const path of unneeded) await rm(join(root, path), { recursive: true, force: true });
  for (const path of ["proc", "sys", "dev", "tmp", "run", "opt/workload"])
    await mkdir(join(root, path), { recursive: true });
  const jvm = "usr/lib/jvm/java-17-openjdk-amd64";
  // Debian's alternatives and configuration files come from install scripts.
  await symlink(`/${jvm}/bin/java`, join(root, "usr/bin/java"));
  await compileClasses(root, join(root, jvm));
  const bytes = await folderBytes(root);
  const megabytes = Math.ceil((bytes * 1.06 + spareBytes) / 1048576);
  say(`guest: writing the root disk (${megabytes} MB)`);
  const options = [
    "-q",
    "-t",
    "ext4",
    "-O",
    "^has_journal",
    "-L",
    diskLabel,
    "-m",
    "0",
    "-d",
    root,
  ];
  await run("mke2fs", [...options, "-E", "root_owner=0:0", diskPath, `${megabytes}M`]);
}

/** Compiles image/*.java into /opt/workload with the unpacked JRE, started by its own loader. */
async function compileClasses(root: string, jvm: string): Promise<void> {
  const sources = (await readdir(import.meta.dirname)).filter((name) => name.endsWith(".java"));
  const libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map((path) =>
    join(root, path),
  );
  const launcher = [
    "--library-path",
    [...libraries, join(jvm, "lib")].join(":"),
    join(jvm, "bin/java"),
  ];
  const compiler = [
    "-m",
    "jdk.compiler/com.sun.tools.javac.Main",
    "-d",
    join(root, "opt/workload"),
  ];
  const files = sources.map((name) => join(import.meta.dirname, name));
  await run(join(root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), [
    ...launcher,
    ...compiler,
    ...files,
  ]);
}

async function folderBytes(folder: string): Promise<number> {
  const text = (await run("du", ["-s", "-B", "1", "--apparent-size", folder])).toString();
  return Number.parseInt(text, 10);
}
