/**
 * A C library for static programs that run in any guest: musl, from Debian packages, unpacked into the
 * cache folder and used by the machine's own gcc. Nothing is installed.
 *
 *   $CACHE/musl/1.2.3/musl-gcc    gcc that compiles and links with this musl; static only
 *   $CACHE/musl/1.2.3/root/       what the packages brought
 *   $CACHE/musl/default -> 1.2.3
 */
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PrivateApt } from "./apt.ts";
import {
  cacheFolder,
  exists,
  makeDirectoryAtOnce,
  pointLink,
  say,
  subfolder,
  withTemporaryFolder,
} from "./shell.ts";

/** Always of one release, so that the same sources give the same binary on every machine. */
const suite = "bookworm";
const packages = ["musl-dev", "musl-tools"] as const;

/** Makes sure that musl is there and gives the path of its compiler. Without network when it is there. */
export async function ensureMusl(): Promise<string> {
  const folder = join(cacheFolder(), "musl");
  const link = join(folder, "default");
  if (await exists(join(link, "musl-gcc"))) return join(link, "musl-gcc");
  await withTemporaryFolder(folder, async (temporary) => {
    const apt = await PrivateApt.open(suite, await subfolder(temporary, "apt"));
    const debianVersion = (await apt.versions(packages)).get("musl-dev") ?? "unknown";
    const version = debianVersion.replace(/-.*$/, "");
    say(`setup: unpacking musl ${version} (${packages.length} packages, about 1 MB)`);
    await makeDirectoryAtOnce(join(folder, version), async (made) => {
      await apt.unpack(packages, join(made, "root"));
      await writeCompiler(made, join(folder, version));
    });
    await pointLink(link, version);
  });
  return join(link, "musl-gcc");
}

/** The packages' specs for gcc, with the paths of the unpacked files, and a script that names them. */
async function writeCompiler(made: string, final: string): Promise<void> {
  const specs = await readFile(join(made, "root/usr/lib/x86_64-linux-musl/musl-gcc.specs"), "utf8");
  await writeFile(join(made, "musl-gcc.specs"), specs.replaceAll("/usr/", `${final}/root/usr/`));
  const script = [
    "#!/bin/sh",
    "# Written by scripts/setup/musl.ts. The machine's gcc with the unpacked C library.",
    `exec gcc "$@" -static -specs '${join(final, "musl-gcc.specs")}'`,
    "",
  ];
  await writeFile(join(made, "musl-gcc"), script.join("\n"));
  await chmod(join(made, "musl-gcc"), 0o755);
}
