/**
 * Builds the test guest without loop mounts, debootstrap or root: packages are unpacked with dpkg-deb,
 * the initrd is written by cpio.ts, a root disk (variant "java") by `mke2fs -d`.
 *
 *   node guest/image/build.ts small|java [--json] [--force]
 *
 * The result lies in $CACHE/guest/<variant>-<hash>/, the hash being that of the recipe and of the package
 * versions. Which result belongs to a recipe is noted beside it, so that asking again needs no network.
 */
import { copyFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { PrivateApt } from "../../scripts/setup/apt.ts";
import {
  cacheFolder,
  exists,
  mainProgram,
  makeDirectoryAtOnce,
  run,
  say,
  SetupError,
  withTemporaryFolder,
} from "../../scripts/setup/shell.ts";
import { characterDeviceEntry, fileEntry, folderEntry, linkEntry, writeCpio } from "./cpio.ts";
import { makeJavaDisk } from "./java-disk.ts";
import {
  busyboxPackage,
  compilerFlags,
  guestPrograms,
  guestSuite,
  javaPackages,
  kernelMetaPackage,
  moduleName,
  modules,
  recipeHash,
} from "./recipe.ts";
import type { GuestVariant } from "./recipe.ts";

export type GuestImage = {
  readonly variant: GuestVariant;
  /** Identifies the content: recipe and package versions. */
  readonly hash: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Raw ext4, to be attached read-only; variant "java" only. */
  readonly diskPath?: string;
};

export type BuildOptions = {
  /** Look for newer packages and build again even if the recipe has not changed. */
  readonly force?: boolean;
};

const guestFolder = join(import.meta.dirname, "..");

/** The image for this checkout's recipe, built if it is not in the cache yet. */
export async function buildGuestImage(variant: GuestVariant, options: BuildOptions = {}): Promise<GuestImage> {
  const recipe = await recipeHash(guestFolder);
  const folder = join(cacheFolder(), "guest");
  const note = join(folder, `${variant}-recipe-${recipe}.json`);
  const known = options.force === true ? undefined : await readNote(note);
  if (known !== undefined) return known;
  say(`guest: building image "${variant}"`);
  const image = await withTemporaryFolder(folder, (temporary) => buildIn(temporary, folder, variant, recipe));
  await writeFile(`${note}.${process.pid}`, JSON.stringify(image));
  await rename(`${note}.${process.pid}`, note);
  say(`guest: image "${variant}" is ready: ${join(folder, `${variant}-${image.hash}`)}`);
  return image;
}

/** The image noted for the recipe, if all its files are still there. */
async function readNote(note: string): Promise<GuestImage | undefined> {
  const text = await readFile(note, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const image = JSON.parse(text) as GuestImage;
  for (const path of [image.kernelPath, image.initrdPath, image.diskPath]) {
    if (path !== undefined && !(await exists(path))) return undefined;
  }
  return image;
}

async function buildIn(temporary: string, folder: string, variant: GuestVariant, recipe: string): Promise<GuestImage> {
  await mkdir(join(temporary, "apt"));
  const apt = await PrivateApt.open(guestSuite, join(temporary, "apt"));
  const kernelPackage = (await apt.dependencies(kernelMetaPackage))[0];
  if (kernelPackage === undefined) throw new SetupError(`${kernelMetaPackage} of Debian ${guestSuite} depends on no kernel`);
  const basic = [kernelPackage, busyboxPackage];
  const versions = await apt.versions(basic);
  const java = variant === "java" ? await apt.closure(javaPackages) : new Map<string, string>();
  const hash = contentHash(recipe, [...versions, ...java]);
  const target = join(folder, `${variant}-${hash}`);
  const image: GuestImage = {
    variant,
    hash,
    kernelPath: join(target, "vmlinuz"),
    initrdPath: join(target, "initrd"),
    ...(variant === "java" ? { diskPath: join(target, "root.ext4") } : {}),
  };
  if (await exists(image.initrdPath)) return image;
  say(`guest: downloading ${kernelPackage} and ${busyboxPackage} of Debian ${guestSuite} (about 28 MB)`);
  const unpacked = join(temporary, "unpacked");
  await apt.unpack(basic, unpacked);
  await makeDirectoryAtOnce(target, async (made) => {
    const kernelVersion = kernelPackage.replace("linux-image-", "");
    await copyFile(join(unpacked, "boot", `vmlinuz-${kernelVersion}`), join(made, "vmlinuz"));
    await writeFile(join(made, "initrd"), await makeInitrd(unpacked, kernelVersion, temporary));
    if (variant === "java") await makeJavaDisk(apt, [...java.keys()], temporary, join(made, "root.ext4"));
    await writeFile(join(made, "packages.json"), JSON.stringify(Object.fromEntries([...versions, ...java]), null, 1));
  });
  return image;
}

function contentHash(recipe: string, versions: readonly (readonly [string, string])[]): string {
  const packages = versions.map(([name, version]) => `${name}=${version}`).sort();
  return createHash("sha256").update([recipe, ...packages].join("\n")).digest("hex").slice(0, 16);
}

async function makeInitrd(unpacked: string, kernelVersion: string, temporary: string): Promise<Buffer> {
  const entries = ["bin", "dev", "proc", "sys", "tmp", "modules", "root"].map(folderEntry);
  // Without it the kernel cannot open a console for init, whose lines would be lost until devtmpfs is there.
  entries.push(characterDeviceEntry("dev/console", 5, 1));
  entries.push(fileEntry("init", await readFile(join(guestFolder, "image/init.sh"))));
  entries.push(fileEntry("bin/busybox", await readFile(join(unpacked, "bin/busybox"))), linkEntry("bin/sh", "busybox"));
  for (const path of modules) {
    const file = join(unpacked, "lib/modules", kernelVersion, "kernel", `${path}.ko`);
    entries.push(fileEntry(`modules/${moduleName(path)}.ko`, await readFile(file), 0o644));
  }
  entries.push(fileEntry("modules/order", Buffer.from(`${modules.map(moduleName).join("\n")}\n`), 0o644));
  for (const program of guestPrograms) {
    const binary = join(temporary, program.name);
    await run("gcc", [...compilerFlags, "-o", binary, join(guestFolder, program.source)]);
    entries.push(fileEntry(`bin/${program.name}`, await readFile(binary)));
  }
  return writeCpio(entries);
}

if (import.meta.main) {
  await mainProgram("guest", async () => {
    const words = process.argv.slice(2);
    const variant = words.find((word) => word === "small" || word === "java");
    if (variant === undefined) throw new SetupError("usage: node guest/image/build.ts small|java [--json] [--force]");
    const image = await buildGuestImage(variant, { force: words.includes("--force") });
    if (words.includes("--json")) process.stdout.write(`${JSON.stringify(image)}\n`);
  });
}
