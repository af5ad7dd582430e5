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
import { dirname, join } from "node:path";
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
export async function buildGuestImage(
  variant: GuestVariant,
  options: BuildOptions = {},
): Promise<GuestImage> {
  const recipe = await recipeHash(guestFolder);
  const folder = join(cacheFolder(), "guest");
  const note = join(folder, `${variant}-recipe-${recipe}`);
  const known = options.force === true ? undefined : await readNote(note, variant);
  if (known !== undefined) return known;
  say(`guest: building image "${variant}"`);
  const image = await withTemporaryFolder(folder, (temporary) =>
    buildIn(temporary, variant, recipe),
  );
  await writeFile(`${note}.${process.pid}`, `${image.hash}\n`);
  await rename(`${note}.${process.pid}`, note);
  say(`guest: image "${variant}" is ready: ${dirname(image.kernelPath)}`);
  return image;
}

function imageOf(variant: GuestVariant, hash: string): GuestImage {
  const folder = join(cacheFolder(), "guest", `${variant}-${hash}`);
  const image = {
    variant,
    hash,
    kernelPath: join(folder, "vmlinuz"),
    initrdPath: join(folder, "initrd"),
  };
  return variant === "java" ? { ...image, diskPath: join(folder, "root.ext4") } : image;
}

/** The image noted for the recipe, if it is still there. */
async function readNote(note: string, variant: GuestVariant): Promise<GuestImage | undefined> {
  const text = await readFile(note, "utf8").catch(() => "");
  const image = imageOf(variant, text.trim());
  return text !== "" && (await exists(image.initrdPath)) ? image : undefined;
}

async function buildIn(
  temporary: string,
  variant: GuestVariant,
  recipe: string,
): Promise<GuestImage> {
  await mkdir(join(temporary, "apt"));
  const apt = await PrivateApt.open(guestSuite, join(temporary, "apt"));
  const kernelPackage = (await apt.dependencies(kernelMetaPackage))[0];
  if (kernelPackage === undefined)
    throw new SetupError(`${kernelMetaPackage} of Debian ${guestSuite} depends on no kernel`);
  const basic = [kernelPackage, busyboxPackage];
  const versions = await apt.versions(basic);
  const java = variant === "java" ? await apt.closure(javaPackages) : new Map<string, string>();
  const hash = contentHash(recipe, [...versions, ...java]);
  const image = imageOf(variant, hash);
  if (await exists(image.initrdPath)) return image;
  say(
    `guest: downloading ${kernelPackage} and ${busyboxPackage} of Debian ${guestSuite} (about 28 MB)`,
  );
  const unpacked = join(temporary, "unpacked");
  await apt.unpack(basic, unpacked);
  await makeDirectoryAtOnce(dirname(image.kernelPath), async (made) => {
    const kernelVersion = kernelPackage.replace("linux-image-", "");
    await copyFile(join(unpacked, "boot", `vmlinuz-${kernelVersion}`), join(made, "vmlinuz"));
    await writeFile(join(made, "initrd"), await makeInitrd(unpacked, kernelVersion, temporary));
    if (variant === "java")
      await makeJavaDisk(apt, [...java.keys()], temporary, join(made, "root.ext4"));
    await writeFile(
      join(made, "packages.json"),
      JSON.stringify(Object.fromEntries([...versions, ...java]), null, 1),
    );
  });
  return image;
}

function contentHash(recipe: string, versions: readonly (readonly [string, string])[]): string {
  const packages = versions.map(([name, version]) => `${name}=${version}`).toSorted();
  return createHash("sha256")
    .update([recipe, ...packages].join("\n"))
    .digest("hex")
    .slice(0, 16);
}

async function makeInitrd(
  unpacked: string,
  kernelVersion: string,
  temporary: string,
): Promise<Buffer> {
  const entries = ["bin", "dev", "proc", "sys", "tmp", "modules", "root"].map(folderEntry);
  // Without it the kernel cannot open a console for init, whose lines would be lost until devtmpfs is there.
  entries.push(characterDeviceEntry("dev/console", 5, 1));
  entries.push(fileEntry("init", await readFile(join(guestFolder, "image/init.sh"))));
  entries.push(
    fileEntry("bin/busybox", await readFile(join(unpacked, "bin/busybox"))),
    linkEntry("bin/sh", "busybox"),
  );
  for (const path of modules) {
    const file = join(unpacked, "lib/modules", kernelVersion, "kernel", `${path}.ko`);
    entries.push(fileEntry(`modules/${moduleName(path)}.ko`, await readFile(file), 0o644));
  }
  entries.push(
    fileEntry("modules/order", Buffer.from(`${modules.map(moduleName).join("\n")}\n`), 0o644),
  );
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
    if (variant === undefined)
      throw new SetupError("usage: node guest/image/build.ts small|java [--json] [--force]");
    const image = await buildGuestImage(variant, { force: words.includes("--force") });
    if (words.includes("--json")) process.stdout.write(`${JSON.stringify(image)}\n`);
  });
}
