/**
 * What the root disks with Java are made of. Apart from recipe.ts, so that a change of the kernel's side makes no new
 * disks.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

export interface JavaRelease {
  readonly version: number;
  /** Debian suite that carries it; its C library comes from there too. The kernel stays that of `guestSuite`. */
  readonly suite: string;
  /** Packages with jars in /usr/share/java. */
  readonly libraries: readonly string[];
}

/** Java itself, and what it links to: a headless JVM needs no more of its dependencies. */
const runtimePackages = ["libc6", "libgcc-s1", "libstdc++6", "zlib1g"];

/** `java` is the one for benches, with libraries for its workloads; the others are for tests of other JVMs. */
export const javaReleases = {
  java: {
    version: 17,
    suite: "bookworm",
    libraries: ["libderby-java", "libh2-java", "libxalan2-java", "libxerces2-java"],
  },
  "java-8": { version: 8, suite: "sid", libraries: [] },
  "java-11": { version: 11, suite: "bullseye", libraries: [] },
  "java-21": { version: 21, suite: "trixie", libraries: [] },
  "java-25": { version: 25, suite: "trixie", libraries: [] },
} as const satisfies Record<string, JavaRelease>;

export type JavaVariant = keyof typeof javaReleases;

export function packagesOf({ version, libraries }: JavaRelease): string[] {
  return [`openjdk-${version}-jre-headless`, ...runtimePackages, ...libraries];
}

/** The runtime packages from 11 on bring a compiler; for 8 another release's is used. */
export function compilerOf(release: JavaRelease): JavaRelease {
  return release.version >= 11 ? release : { ...javaReleases.java, libraries: [] };
}

/** Hash over every file that a root disk depends on. */
export async function javaRecipeHash(guestFolder: string): Promise<string> {
  const hash = createHash("sha256");
  const sources = (await readdir(join(guestFolder, "workload/java"))).toSorted();
  const files = [
    "image/java-disk.ts",
    "image/java-recipe.ts",
    ...sources.map((name) => `workload/java/${name}`),
  ];
  for (const file of files) {
    hash
      .update(`${file}\0`)
      .update(await readFile(join(guestFolder, file)))
      .update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}
