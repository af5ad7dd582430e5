/**
 * Builds the test guest without loop mounts, debootstrap or root: packages are unpacked with dpkg-deb,
 * the initrd is written by cpio.ts, a root disk (variants "server" and "java...") by `mke2fs -d`.
 *
 *   node guest/image/build.ts small|server|java|java-8|java-11|java-21|java-25 [--json] [--force]
 *
 * Kernel and initrd, which all variants share, lie in $CACHE/guest/small-<hash>/, a root disk in <variant>-<hash>/, the
 * hash being that of its recipe and of the package versions. Which result belongs to a recipe is noted beside it, so that
 * asking again needs no network.
 */
import { copyFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createHash, randomUUID } from "node:crypto";
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
import { buildAgent } from "../agent/build.ts";
import { characterDeviceEntry, fileEntry, folderEntry, linkEntry, writeCpio } from "./cpio.ts";
import { makeJavaDisk } from "./java-disk.ts";
import {
  javaRecipeHash,
  type JavaRelease,
  javaReleases,
  type JavaVariant,
  packagesOf,
} from "./java-recipe.ts";
import {
  busyboxPackage,
  compilerFlags,
  guestPrograms,
  guestSuite,
  kernelMetaPackage,
  moduleName,
  modules,
  recipeHash,
} from "./recipe.ts";
import type { GuestVariant } from "./recipe.ts";
import { makeServerDisk } from "./server-disk.ts";
import { isNeeded, serverRecipeHash, serverRoots } from "./server-recipe.ts";

export type GuestImage = {
  readonly variant: GuestVariant;
  /** Identifies the content: recipes and package versions. */
  readonly hash: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Raw ext4, to be attached read-only; not in variant "small". */
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
  const folder = await part("small", await recipeHash(guestFolder), options, buildBoot);
  const boot = {
    hash: hashIn(folder),
    kernelPath: join(folder, "vmlinuz"),
    initrdPath: join(folder, "initrd"),
  };
  if (variant === "small") return { variant, ...boot };
  const disk =
    variant === "server"
      ? await part(variant, await serverRecipeHash(guestFolder), options, buildServerDisk)
      : await javaDisk(variant, options);
  const hash = `${boot.hash}-${hashIn(disk)}`;
  return { variant, ...boot, hash, diskPath: join(disk, "root.ext4") };
}

async function javaDisk(variant: JavaVariant, options: BuildOptions): Promise<string> {
  const release = javaReleases[variant];
  return await part(variant, await javaRecipeHash(guestFolder), options, (work) =>
    buildDisk(work, release),
  );
}

/** What a part is built with and where. */
type Work = {
  readonly variant: GuestVariant;
  readonly recipe: string;
  /** Empty, and removed afterwards. */
  readonly temporary: string;
};

const guestCache = (): string => join(cacheFolder(), "guest");
const hashIn = (folder: string): string => folder.slice(folder.lastIndexOf("-") + 1);

/** The folder of one part of an image: that which is noted for the recipe, or a new one. */
async function part(
  variant: GuestVariant,
  recipe: string,
  { force = false }: BuildOptions,
  build: (work: Work) => Promise<string>,
): Promise<string> {
  const note = join(guestCache(), `${variant}-recipe-${recipe}`);
  const hash = force ? "" : (await readFile(note, "utf8").catch(() => "")).trim();
  const known = join(guestCache(), `${variant}-${hash}`);
  if (hash !== "" && (await exists(known))) return known;
  say(`guest: building image "${variant}"`);
  const made = await withTemporaryFolder(guestCache(), (temporary) =>
    build({ variant, recipe, temporary }),
  );
  // Others may build the same, in this process too.
  const fresh = `${note}.${randomUUID()}`;
  await writeFile(fresh, `${hashIn(made)}\n`);
  await rename(fresh, note);
  say(`guest: image "${variant}" is ready: ${made}`);
  return made;
}

async function buildBoot({ variant, recipe, temporary }: Work): Promise<string> {
  await mkdir(join(temporary, "apt"));
  const apt = await PrivateApt.open(guestSuite, join(temporary, "apt"));
  const kernelPackage = (await apt.dependencies(kernelMetaPackage))[0];
  if (kernelPackage === undefined)
    throw new SetupError(`${kernelMetaPackage} of Debian ${guestSuite} depends on no kernel`);
  const packages = [kernelPackage, busyboxPackage];
  return partFolder(variant, recipe, await apt.versions(packages), async (made) => {
    say(
      `guest: downloading ${kernelPackage} and ${busyboxPackage} of Debian ${guestSuite} (about 28 MB)`,
    );
    const unpacked = join(temporary, "unpacked");
    await apt.unpack(packages, unpacked);
    const kernelVersion = kernelPackage.replace("linux-image-", "");
    await copyFile(join(unpacked, "boot", `vmlinuz-${kernelVersion}`), join(made, "vmlinuz"));
    await writeFile(join(made, "initrd"), await makeInitrd(unpacked, kernelVersion, temporary));
  });
}

async function buildDisk(work: Work, release: JavaRelease): Promise<string> {
  const { variant, recipe, temporary } = work;
  await mkdir(join(temporary, "apt"));
  const apt = await PrivateApt.open(release.suite, join(temporary, "apt"));
  const versions = await apt.versions(packagesOf(release));
  return partFolder(variant, recipe, versions, async (made) => {
    const diskPath = join(made, "root.ext4");
    await makeJavaDisk({ release, apt, temporary, guestFolder, diskPath });
  });
}

async function buildServerDisk({ variant, recipe, temporary }: Work): Promise<string> {
  await mkdir(join(temporary, "apt"));
  const apt = await PrivateApt.open(guestSuite, join(temporary, "apt"));
  const versions = new Map(
    [...(await apt.closure(serverRoots))].filter(([name]) => isNeeded(name)),
  );
  return partFolder(variant, recipe, versions, async (made) => {
    const diskPath = join(made, "root.ext4");
    const packages = [...versions.keys()];
    await makeServerDisk({ packages, apt, temporary, guestFolder, diskPath });
  });
}

/** The folder of this content, filled if it is not there yet. */
async function partFolder(
  variant: GuestVariant,
  recipe: string,
  versions: ReadonlyMap<string, string>,
  fill: (made: string) => Promise<void>,
): Promise<string> {
  const folder = join(guestCache(), `${variant}-${contentHash(recipe, [...versions])}`);
  if (await exists(folder)) return folder;
  await makeDirectoryAtOnce(folder, async (made) => {
    await fill(made);
    const text = JSON.stringify(Object.fromEntries(versions), null, 1);
    await writeFile(join(made, "packages.json"), text);
  });
  return folder;
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
  entries.push(fileEntry("bin/godwit-agent", await readFile(await buildAgent())));
  return writeCpio(entries);
}

function isVariant(word: string): word is GuestVariant {
  return word === "small" || word === "server" || Object.hasOwn(javaReleases, word);
}

if (import.meta.main) {
  await mainProgram("guest", async () => {
    const words = process.argv.slice(2);
    const variant = words.find(isVariant);
    if (variant === undefined) {
      const names = ["small", "server", ...Object.keys(javaReleases)].join("|");
      throw new SetupError(`usage: node guest/image/build.ts ${names} [--json] [--force]`);
    }
    const image = await buildGuestImage(variant, { force: words.includes("--force") });
    if (words.includes("--json")) process.stdout.write(`${JSON.stringify(image)}\n`);
  });
}
