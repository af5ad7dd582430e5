/**
 * QEMU from Debian packages, unpacked with its own libraries and loader into the cache folder.
 *
 * Why not the machine's QEMU: under TCG, QEMU 7.2 (Debian 12) loses dirty pages and corrupts migrated
 * guests, so tests need 10.x; and a fixed version makes their results comparable. The machine itself
 * stays untouched: nothing is installed, no library is shared.
 *
 *   $CACHE/qemu/10.0.13/qemu-system-x86_64   wrapper script: starts QEMU with the unpacked loader
 *   $CACHE/qemu/10.0.13/qemu-img             the same for qemu-img
 *   $CACHE/qemu/10.0.13/root/                what the packages brought
 *   $CACHE/qemu/default -> 10.0.13
 */
import { chmod, copyFile, cp, mkdir, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PrivateApt } from "./apt.ts";
import {
  cacheFolder,
  exists,
  makeDirectoryAtOnce,
  pointLink,
  run,
  say,
  subfolder,
  withTemporaryFolder,
} from "./shell.ts";

export type QemuRelease = {
  /** Debian suite that carries it. */
  readonly suite: string;
  /** Name of the symlink to the unpacked version. */
  readonly link: string;
};

/** `default` serves everything; the other one is for tests of godwit between versions of QEMU. */
export const qemuReleases = {
  qemu: { suite: "trixie", link: "default" },
  "qemu-7.2": { suite: "bookworm", link: "bookworm" },
} as const satisfies Record<string, QemuRelease>;

const programs = ["qemu-system-x86_64", "qemu-img"] as const;
const libraryFolders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] as const;
const loader = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/** Makes sure the release is unpacked and gives the folder of its wrappers. Without network when it is there. */
export async function ensureQemu(release: QemuRelease): Promise<string> {
  const folder = join(cacheFolder(), "qemu");
  const link = join(folder, release.link);
  if (await exists(join(link, "qemu-system-x86_64"))) return link;
  say(`setup: QEMU of Debian ${release.suite} is not in ${folder} yet`);
  await withTemporaryFolder(folder, async (temporary) => {
    const apt = await PrivateApt.open(release.suite, await subfolder(temporary, "apt"));
    const packages = await apt.closure(["qemu-system-x86", "qemu-utils"]);
    const version = upstreamVersion(packages.get("qemu-system-x86") ?? "");
    say(
      `setup: downloading and unpacking QEMU ${version} (${packages.size} packages, about 40 MB)`,
    );
    const unpacked = await subfolder(temporary, "unpacked");
    await apt.unpack([...packages.keys()], unpacked);
    await makeDirectoryAtOnce(join(folder, version), async (made) => {
      await keepNeeded(unpacked, join(made, "root"));
      for (const program of programs) await writeWrapper(made, join(folder, version), program);
    });
    await pointLink(link, version);
  });
  const text = (await run(join(link, "qemu-system-x86_64"), ["--version"])).toString();
  say(`setup: ${text.split("\n")[0]} in ${folder}/${await readlink(link)}`);
  return link;
}

/** "1:10.0.13+ds-0+deb13u1" is 10.0.13. */
export function upstreamVersion(debianVersion: string): string {
  const version = /^(?:\d+:)?(\d+(?:\.\d+)+)/.exec(debianVersion)?.[1];
  if (version === undefined)
    throw new Error(`no upstream version in Debian version "${debianVersion}"`);
  return version;
}

/** Firmware of other machines: two thirds of the data files. */
const foreignFirmware =
  /^(hppa|openbios|skiboot|slof|u-boot|s390|npcm|palcode|vof|.*\.dtb|QEMU,(cg|tcx)|linux-user|opensbi|edk2|petalogix|.*spapr)/;

async function keepNeeded(unpacked: string, root: string): Promise<void> {
  await mkdir(join(root, "usr/bin"), { recursive: true });
  for (const program of programs)
    await copyFile(join(unpacked, "usr/bin", program), join(root, "usr/bin", program));
  await gatherLibraries(unpacked, join(root, libraryFolders[0]));
  await gatherFirmware(unpacked, join(root, "usr/share/qemu"));
}

/** All libraries go into one folder, whether the release has merged /lib into /usr/lib or not. */
async function gatherLibraries(unpacked: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const folder of libraryFolders) {
    if (!(await exists(join(unpacked, folder)))) continue;
    await cp(join(unpacked, folder), target, { recursive: true, verbatimSymlinks: true });
  }
  for (const unneeded of ["gconv", "sasl2", "security", "perl-base", "nss"]) {
    await rm(join(target, unneeded), { recursive: true, force: true });
  }
}

/** One folder of real files: in the packages some are links across packages, absolute ones at that. */
async function gatherFirmware(unpacked: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const folder of [
    "usr/share/seabios",
    "usr/lib/ipxe/qemu",
    "usr/share/qemu",
    "usr/share/qemu-efi",
  ]) {
    const entries = await readdir(join(unpacked, folder), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (!entry.isFile() || foreignFirmware.test(entry.name)) continue;
      await copyFile(join(unpacked, folder, entry.name), join(target, entry.name));
    }
  }
  // For VNC, whose start fails without them.
  const keymaps = join(unpacked, "usr/share/qemu/keymaps");
  if (await exists(keymaps))
    await cp(keymaps, join(target, "keymaps"), { recursive: true, dereference: true });
}

/**
 * Starts the program with the unpacked loader and libraries. `exec` keeps the process id and passes
 * signals and descriptors on; --argv0 keeps the name in messages.
 */
async function writeWrapper(made: string, final: string, program: string): Promise<void> {
  const root = join(final, "root");
  const libraries = join(root, libraryFolders[0]);
  const firmware = program === "qemu-system-x86_64" ? ` -L '${join(root, "usr/share/qemu")}'` : "";
  const script = [
    "#!/bin/sh",
    "# Written by scripts/setup/qemu.ts. Runs the unpacked program with its own loader and libraries.",
    `export QEMU_MODULE_DIR='${join(libraries, "qemu")}'`,
    `exec '${join(root, loader)}' --library-path '${libraries}' --argv0 ${program} '${join(root, "usr/bin", program)}'${firmware} "$@"`,
    "",
  ];
  await writeFile(join(made, program), script.join("\n"));
  await chmod(join(made, program), 0o755);
}
