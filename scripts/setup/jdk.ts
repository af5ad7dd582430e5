/**
 * Java runtimes of several releases from Debian packages, unpacked with their own libraries and loader into the cache
 * folder. For the tests that read JVMs from outside; the machine itself stays untouched.
 *
 *   $CACHE/jdk/17/bin/java    wrapper script: runs the unpacked java
 *   $CACHE/jdk/17/root/       what the packages brought
 *
 * A release comes from the Debian suite that has it, whose C library is mostly not the machine's. QEMU is started with its
 * own loader as a program (qemu.ts); java is not content with that, for it finds its home by /proc/self/exe, which would
 * be the loader. So the path of the loader is written into the unpacked java instead (`setInterpreter`).
 */
import {
  chmod,
  cp,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { PrivateApt } from "./apt.ts";
import {
  cacheFolder,
  exists,
  makeDirectoryAtOnce,
  run,
  say,
  withTemporaryFolder,
} from "./shell.ts";

/** Where a release is found. Guest images take the same packages. */
export const jdkPackages = {
  8: { suite: "sid", package: "openjdk-8-jre-headless", home: "usr/lib/jvm/java-8-openjdk-amd64" },
  11: {
    suite: "bullseye",
    package: "openjdk-11-jre-headless",
    home: "usr/lib/jvm/java-11-openjdk-amd64",
  },
  17: {
    suite: "bookworm",
    package: "openjdk-17-jre-headless",
    home: "usr/lib/jvm/java-17-openjdk-amd64",
  },
  21: {
    suite: "trixie",
    package: "openjdk-21-jre-headless",
    home: "usr/lib/jvm/java-21-openjdk-amd64",
  },
  25: {
    suite: "trixie",
    package: "openjdk-25-jre-headless",
    home: "usr/lib/jvm/java-25-openjdk-amd64",
  },
} as const satisfies Record<number, { suite: string; package: string; home: string }>;

export type JdkRelease = keyof typeof jdkPackages;

export const jdkReleases = [8, 11, 17, 21, 25] as const satisfies readonly JdkRelease[];

/** What java needs to run programs without a screen; the package's other dependencies are for screens, sound and printers. */
export const jdkLibraryPackages = ["libc6", "libgcc-s1", "libstdc++6", "zlib1g"] as const;

const libraryFolders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] as const;
const loader = "ld-linux-x86-64.so.2";

/** The wrapper of a release, there or not. */
export function javaPath(release: JdkRelease): string {
  return join(cacheFolder(), "jdk", String(release), "bin/java");
}

/** Makes sure the release is unpacked and gives the path of its java. Without network when it is there. */
export async function ensureJdk(release: JdkRelease): Promise<string> {
  const java = javaPath(release);
  if (await exists(java)) return java;
  const { suite, package: name, home } = jdkPackages[release];
  const folder = dirname(dirname(java));
  say(`setup: downloading and unpacking Java ${release} of Debian ${suite} (about 50 MB)`);
  await withTemporaryFolder(dirname(folder), async (temporary) => {
    const aptFolder = join(temporary, "apt");
    await mkdir(aptFolder);
    const apt = await PrivateApt.open(suite, aptFolder);
    const unpacked = join(temporary, "unpacked");
    await apt.unpack([name, ...jdkLibraryPackages], unpacked);
    await makeDirectoryAtOnce(folder, (made) => fill(unpacked, made, folder, home));
  });
  const text = (await run("sh", ["-c", '"$0" -version 2>&1', java])).toString();
  say(`setup: ${text.split("\n")[0]} in ${folder}`);
  return java;
}

async function fill(unpacked: string, made: string, final: string, home: string): Promise<void> {
  const root = join(made, "root");
  await cp(join(unpacked, home), join(root, home), { recursive: true, verbatimSymlinks: true });
  await cp(join(unpacked, "etc"), join(root, "etc"), { recursive: true, verbatimSymlinks: true });
  // All libraries go into one folder, whether the release has merged /lib into /usr/lib or not.
  for (const folder of libraryFolders) {
    if (!(await exists(join(unpacked, folder)))) continue;
    await cp(join(unpacked, folder), join(root, "lib"), {
      recursive: true,
      verbatimSymlinks: true,
    });
  }
  await rm(join(root, "lib/gconv"), { recursive: true, force: true });
  await makeLinksRelative(root, home);
  const program = await programOf(root, home);
  const bytes = await readFile(join(root, program));
  await writeFile(join(root, program), setInterpreter(bytes, join(final, "root/lib", loader)));
  await mkdir(join(made, "bin"));
  const script = [
    "#!/bin/sh",
    "# Written by scripts/setup/jdk.ts. Runs the unpacked program with its own libraries.",
    `export LD_LIBRARY_PATH='${join(final, "root/lib")}'`,
    `exec '${join(final, "root", program)}' "$@"`,
    "",
  ];
  await writeFile(join(made, "bin/java"), script.join("\n"));
  await chmod(join(made, "bin/java"), 0o755);
}

/** Release 8 keeps the program under jre/. */
async function programOf(root: string, home: string): Promise<string> {
  const inner = join(home, "jre/bin/java");
  return (await exists(join(root, inner))) ? inner : join(home, "bin/java");
}

/** Debian's runtimes have links to /etc/java-*: they are pointed to the unpacked etc. */
async function makeLinksRelative(root: string, folder: string): Promise<void> {
  for (const name of await readdir(join(root, folder))) {
    const path = join(folder, name);
    const stat = await lstat(join(root, path));
    if (stat.isDirectory()) await makeLinksRelative(root, path);
    if (!stat.isSymbolicLink()) continue;
    const target = await readlink(join(root, path));
    if (!target.startsWith("/")) continue;
    await rm(join(root, path));
    await symlink(relative(dirname(join(root, path)), join(root, target)), join(root, path));
  }
}

const PT_INTERP = 3;

/**
 * A copy of a 64-bit ELF program that asks the kernel for another loader. The kernel reads the loader's path at the file
 * offset that the program header tells, wherever that is: so the path goes to the file's end.
 */
export function setInterpreter(program: Uint8Array, path: string): Uint8Array {
  const text = Buffer.from(`${path}\0`);
  const bytes = Buffer.concat([program, text]);
  const headers = Number(bytes.readBigUInt64LE(32));
  const [entryBytes, count] = [bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  for (let index = 0; index < count; index++) {
    const at = headers + index * entryBytes;
    if (bytes.readUInt32LE(at) !== PT_INTERP) continue;
    bytes.writeBigUInt64LE(BigInt(program.length), at + 8);
    bytes.writeBigUInt64LE(BigInt(text.length), at + 32);
    bytes.writeBigUInt64LE(BigInt(text.length), at + 40);
    return bytes;
  }
  throw new Error("the program has no interpreter to replace");
}
