/**
 * The root disk of the variants with Java: packages unpacked into a folder, the workloads compiled with the runtime's
 * own compiler, and `mke2fs -d` over the folder. The packages' install scripts never run; what they would set up and Java
 * needs is made here.
 */
import { lstat, mkdir, readdir, readlink, rm, symlink } from "node:fs/promises";
import { join, relative } from "node:path";
import { PrivateApt } from "../../scripts/setup/apt.ts";
import { run, say } from "../../scripts/setup/shell.ts";
import { compilerOf, type JavaRelease, packagesOf } from "./java-recipe.ts";

/** init.sh finds the disk by this. */
const diskLabel = "godwit-root";
/** Free space is not needed (the disk is read-only), room for the file system's own tables is. */
const spareBytes = 24 * 1024 * 1024;
const unneeded = [
  "usr/share/doc",
  "usr/share/man",
  "usr/share/locale",
  "usr/share/info",
  "usr/share/maven-repo",
  "usr/lib/x86_64-linux-gnu/gconv",
];
const classFolder = "opt/workload";

export interface JavaDiskOptions {
  readonly release: JavaRelease;
  /** Of the release's suite. */
  readonly apt: PrivateApt;
  /** Empty, on the cache's file system. */
  readonly temporary: string;
  readonly guestFolder: string;
  readonly diskPath: string;
}

export async function makeJavaDisk(options: JavaDiskOptions): Promise<void> {
  const { release, apt, temporary, diskPath } = options;
  const root = join(temporary, "java-root");
  say(`guest: downloading and unpacking Java ${release.version} of Debian ${release.suite}`);
  await apt.unpack(packagesOf(release), root);
  for (const path of unneeded) await rm(join(root, path), { recursive: true, force: true });
  for (const path of ["proc", "sys", "dev", "tmp", "run", classFolder])
    await mkdir(join(root, path), { recursive: true });
  // Debian's alternatives, and since trixie the links between / and /usr, come from install scripts.
  await mkdir(join(root, "usr/bin"), { recursive: true });
  await symlink(`/${javaHome(release)}/bin/java`, join(root, "usr/bin/java"));
  for (const name of ["lib", "lib64"]) await linkToUsr(root, name);
  await linkWithin(root, javaHome(release));
  await compileClasses(options, root);
  const bytes = await folderBytes(root);
  const megabytes = Math.ceil((bytes * 1.06 + spareBytes) / 1048576);
  say(`guest: writing the root disk (${megabytes} MB)`);
  const words = ["-q", "-t", "ext4", "-O", "^has_journal", "-L", diskLabel, "-m", "0", "-d", root];
  await run("mke2fs", [...words, "-E", "root_owner=0:0", diskPath, `${megabytes}M`]);
}

const javaHome = ({ version }: JavaRelease): string =>
  version === 8
    ? "usr/lib/jvm/java-8-openjdk-amd64/jre"
    : `usr/lib/jvm/java-${version}-openjdk-amd64`;

async function linkToUsr(root: string, name: string): Promise<void> {
  const present = await lstat(join(root, name)).catch(() => undefined);
  if (present === undefined) await symlink(`usr/${name}`, join(root, name));
}

/**
 * Debian's Java reads its configuration through links to /etc; made relative, they also lead there while the root is a
 * folder of a machine that has another Java, or none.
 */
async function linkWithin(root: string, folder: string): Promise<void> {
  const found = await readdir(join(root, folder), { recursive: true, withFileTypes: true });
  for (const entry of found.filter((one) => one.isSymbolicLink())) {
    const path = join(entry.parentPath, entry.name);
    const target = await readlink(path);
    if (!target.startsWith("/")) continue;
    await rm(path);
    await symlink(relative(entry.parentPath, join(root, target)), path);
  }
}

/** Compiles workload/java/*.java into /opt/workload with an unpacked Java, started by its own loader. */
async function compileClasses(options: JavaDiskOptions, root: string): Promise<void> {
  const { release, temporary, guestFolder } = options;
  const compiler = compilerOf(release);
  const isOwn = compiler.version === release.version;
  const at = isOwn ? root : join(temporary, "compiler");
  if (!isOwn) {
    await mkdir(join(temporary, "apt-compiler"));
    const apt = await PrivateApt.open(compiler.suite, join(temporary, "apt-compiler"));
    await apt.unpack(packagesOf(compiler), at);
    await linkWithin(at, javaHome(compiler));
  }
  const folder = join(guestFolder, "workload/java");
  const version = String(release.version);
  const sources = (await readdir(folder)).filter((name) => name.endsWith(".java"));
  const jvm = join(at, javaHome(compiler));
  const libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map((path) =>
    join(at, path),
  );
  await run(join(at, await loaderOf(at)), [
    "--library-path",
    [...libraries, join(jvm, "lib")].join(":"),
    join(jvm, "bin/java"),
    "-m",
    "jdk.compiler/com.sun.tools.javac.Main",
    "-d",
    join(root, classFolder),
    ...(isOwn ? [] : ["-nowarn", "-source", version, "-target", version]),
    ...sources.map((name) => join(folder, name)),
  ]);
}

async function loaderOf(root: string): Promise<string> {
  const name = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
  const present = await lstat(join(root, "usr", name)).catch(() => undefined);
  return present === undefined ? name : join("usr", name);
}

async function folderBytes(folder: string): Promise<number> {
  const text = (await run("du", ["-s", "-B", "1", "--apparent-size", folder])).toString();
  return Number.parseInt(text, 10);
}
