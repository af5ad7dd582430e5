/**
 * Finds the machine's own Debian package source, so that packages of another Debian release can be had
 * from the same place with the same keys. No registry host is named anywhere in this repository: a
 * machine behind a mirror or a proxy keeps using it.
 *
 * Two file forms exist: deb822 (`/etc/apt/sources.list.d/*.sources`, stanzas of `Field: value`) and
 * classic (`sources.list`, `*.list`, one line `deb [options] uri suite components`).
 */
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { SetupError } from "./shell.ts";

/** A Debian source without its suite. */
export type DebianSource = {
  readonly uri: string;
  /** Key file or embedded key block exactly as the machine has it; undefined: apt's trusted keys. */
  readonly signedBy: string | undefined;
};

type Entry = DebianSource & {
  readonly suites: readonly string[];
  readonly components: readonly string[];
};

/** Main suites only: `bookworm-security` and `-updates` come from the same or another host, unneeded here. */
const debianSuites = new Set([
  "bullseye",
  "bookworm",
  "trixie",
  "forky",
  "sid",
  "stable",
  "testing",
  "unstable",
]);

/** The first main-archive entry of the machine, or a SetupError that says what is needed. */
export async function findDebianSource(etcApt = "/etc/apt"): Promise<DebianSource> {
  for (const path of await sourceFiles(etcApt)) {
    const text = await readFile(path, "utf8");
    const entries = path.endsWith(".sources") ? parseDeb822(text) : parseClassic(text);
    const found = entries.find(isDebianMain);
    if (found !== undefined) return found;
  }
  throw new SetupError(
    `no Debian package source found in ${etcApt}/sources.list or ${etcApt}/sources.list.d.\n` +
      "  godwit takes QEMU and its test guest from Debian packages, from wherever this machine gets its own.\n" +
      "  Add a Debian source (suite bookworm or trixie, component main) there, or run on Debian 12 or 13.",
  );
}

/** The same source in deb822 form for another suite. */
export function sourceForSuite(source: DebianSource, suite: string): string {
  const fields = [
    "Types: deb",
    `URIs: ${source.uri}`,
    `Suites: ${suite}`,
    "Components: main",
    "Architectures: amd64",
  ];
  if (source.signedBy !== undefined) fields.push(`Signed-By: ${source.signedBy}`);
  return `${fields.join("\n")}\n`;
}

async function sourceFiles(etcApt: string): Promise<string[]> {
  const names = await readdir(join(etcApt, "sources.list.d")).catch(() => []);
  const parts = names.filter((name) => /\.(sources|list)$/.test(name)).toSorted();
  const classic = await readFile(join(etcApt, "sources.list")).then(
    () => [join(etcApt, "sources.list")],
    () => [],
  );
  return [...classic, ...parts.map((name) => join(etcApt, "sources.list.d", name))];
}

/** Third parties use suites of the same name (`bookworm stable`), but not with component main. */
function isDebianMain(entry: Entry): boolean {
  return (
    entry.suites.some((suite) => debianSuites.has(suite)) &&
    entry.components.includes("main") &&
    !entry.uri.includes("security")
  );
}

export function parseDeb822(text: string): Entry[] {
  const withoutComments = text.replace(/^#.*\n?/gm, "");
  return withoutComments.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    // A line that starts with a blank continues the field above it (an embedded key, for one).
    for (const match of stanza.matchAll(/^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
      fields.set((match[1] ?? "").toLowerCase(), (match[2] ?? "").trimEnd());
    }
    const words = (name: string): string[] =>
      (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
    const uri = words("uris")[0];
    const off = ["no", "false", "0"].includes(
      (fields.get("enabled") ?? "yes").trim().toLowerCase(),
    );
    if (uri === undefined || off || !words("types").includes("deb")) return [];
    return [
      {
        uri,
        signedBy: fields.get("signed-by"),
        suites: words("suites"),
        components: words("components"),
      },
    ];
  });
}

export function parseClassic(text: string): Entry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (match === null) return [];
    const [, options = "", uri = "", suite = "", components = ""] = match;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1]?.replaceAll(",", " ");
    return [
      {
        uri,
        signedBy,
        suites: [suite.replace(/\/$/, "")],
        components: components.trim().split(/\s+/),
      },
    ];
  });
}
