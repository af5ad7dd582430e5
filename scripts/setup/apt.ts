/**
 * Debian packages without touching the machine: a private apt whose lists, cache and (empty) package
 * status live in a folder of ours, pointed at one Debian release. Works without root.
 *
 * A private folder per use rather than one kept in the cache: apt locks its folders, and two set-ups
 * may run at once. The price is a package list of about 10 MB each time something is really built.
 */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findDebianSource, sourceForSuite } from "./apt-source.ts";
import { run, SetupError } from "./shell.ts";

export class PrivateApt {
  readonly suite: string;
  readonly #folder: string;
  readonly #options: readonly string[];

  private constructor(suite: string, folder: string, options: readonly string[]) {
    this.suite = suite;
    this.#folder = folder;
    this.#options = options;
  }

  /** Sets apt up in `folder` (which should be empty and is the caller's to remove) and gets the package lists. */
  static async open(suite: string, folder: string): Promise<PrivateApt> {
    const source = await findDebianSource();
    await mkdir(join(folder, "state/lists/partial"), { recursive: true });
    await mkdir(join(folder, "cache/archives/partial"), { recursive: true });
    await writeFile(join(folder, "status"), "");
    await writeFile(join(folder, "debian.sources"), sourceForSuite(source, suite));
    const apt = new PrivateApt(suite, folder, optionsFor(folder));
    await apt.#run("apt-get", ["-qq", "update"]).catch((error: unknown) => {
      throw new SetupError(
        `cannot read the package list of Debian ${suite} at ${source.uri} ` +
          `(derived from this machine's own package source).\n  ${String(error)}`,
      );
    });
    return apt;
  }

  /** Packages that `name` depends on directly, by name: how a meta-package is followed to the real one. */
  async dependencies(name: string): Promise<string[]> {
    const text = (await this.#run("apt-cache", ["depends", "--important", name])).toString();
    return [...text.matchAll(/^\s+Depends: ([^\s<]+)/gm)].map((match) => match[1] ?? "");
  }

  /** Version per package, for exactly these packages. */
  async versions(names: readonly string[]): Promise<Map<string, string>> {
    const text = (await this.#run("apt-cache", ["show", "--no-all-versions", ...names])).toString();
    const found = new Map<string, string>();
    for (const stanza of text.split("\n\n")) {
      const name = /^Package: (.*)$/m.exec(stanza)?.[1];
      const version = /^Version: (.*)$/m.exec(stanza)?.[1];
      if (name !== undefined && version !== undefined) found.set(name, version);
    }
    return found;
  }

  /** Every package an installation of `names` on an empty system would bring, with its version. */
  async closure(names: readonly string[]): Promise<Map<string, string>> {
    const text = (await this.#run("apt-get", ["-s", "install", ...names])).toString();
    return new Map(
      [...text.matchAll(/^Inst (\S+) \((\S+)/gm)].map((match) => [match[1] ?? "", match[2] ?? ""]),
    );
  }

  /** Downloads exactly these packages (checked by apt against the signed lists) and unpacks them into `target`. */
  async unpack(names: readonly string[], target: string): Promise<void> {
    const archives = join(this.#folder, "downloads");
    await mkdir(archives, { recursive: true });
    await mkdir(target, { recursive: true });
    await this.#run("apt-get", ["-qq", "download", ...names], archives);
    const files = new Map(
      (await readdir(archives)).map((file) => [file.slice(0, file.indexOf("_")), file]),
    );
    for (const name of names) {
      const file = files.get(name);
      if (file === undefined)
        throw new SetupError(`apt-get download left no file for package ${name}`);
      await run("dpkg-deb", ["-x", join(archives, file), target]);
    }
  }

  async #run(program: string, args: readonly string[], cwd = this.#folder): Promise<Buffer> {
    return run(program, [...this.#options, ...args], { cwd });
  }
}

/** On the command line, because there they win over the machine's /etc/apt/apt.conf.d (whose proxies still count). */
function optionsFor(folder: string): string[] {
  const values = {
    "Dir::State": join(folder, "state"),
    "Dir::State::status": join(folder, "status"),
    "Dir::Cache": join(folder, "cache"),
    "Dir::Etc::sourcelist": join(folder, "debian.sources"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "APT::Architecture": "amd64",
    "APT::Install-Recommends": "false",
    // The downloads may lie where the user _apt cannot write; "" keeps apt the user it is.
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
  };
  return Object.entries(values).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}
