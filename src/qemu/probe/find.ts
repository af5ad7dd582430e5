/** Which QEMU to use. */
import { constants } from "node:fs";
import { access, readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { GodwitError } from "../../base/index.ts";
import { type Processes, systemProcesses } from "../../io/index.ts";
import type { QemuVersion } from "../qmp/index.ts";

const program = "qemu-system-x86_64";

export interface QemuBinary {
  readonly path: string;
  /** Where it was found, in words. */
  readonly source: string;
  readonly version: QemuVersion;
}

export interface FindOptions {
  /** The definition's or the configuration's own choice; nothing else is tried then. */
  readonly binary?: string | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly processes?: Processes;
}

/** `${GODWIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/godwit}`: what the set-up downloads and builds. */
export function cacheDirectory(environment: FindOptions["environment"] = process.env): string {
  const own = environment["GODWIT_CACHE"];
  if (own !== undefined && own !== "") return own;
  const xdg = environment["XDG_CACHE_HOME"];
  const base =
    xdg !== undefined && xdg !== "" ? xdg : join(environment["HOME"] ?? homedir(), ".cache");
  return join(base, "godwit");
}

/**
 * The definition's binary → $GODWIT_QEMU → the one that the set-up unpacked → PATH. An explicit choice that does not work
 * is an error; it is not passed over. Fails with NOT_FOUND or QEMU_UNSUPPORTED.
 */
export async function findQemu(options: FindOptions = {}): Promise<QemuBinary> {
  const environment = options.environment ?? process.env;
  const processes = options.processes ?? systemProcesses;
  const chosen = await explicit(options.binary, environment);
  const found = chosen ?? (await unpacked(environment)) ?? (await onPath(program, environment));
  if (found === undefined) throw notFound(environment);
  return { ...found, version: await readVersion(found.path, processes) };
}

type Place = Pick<QemuBinary, "path" | "source">;
type Environment = NonNullable<FindOptions["environment"]>;

async function explicit(
  binary: string | undefined,
  environment: Environment,
): Promise<Place | undefined> {
  const variable = environment["GODWIT_QEMU"];
  const [choice, source] =
    binary === undefined ? [variable, "$GODWIT_QEMU"] : [binary, "the definition"];
  if (choice === undefined || choice === "") return undefined;
  if (!choice.includes("/")) {
    const found = await onPath(choice, environment);
    if (found !== undefined) return { ...found, source };
  } else if (await isExecutable(choice)) {
    return { path: choice, source };
  }
  throw new GodwitError("NOT_FOUND", `${source} names ${choice}, which is no executable file`);
}

async function unpacked(environment: Environment): Promise<Place | undefined> {
  const folder = join(cacheDirectory(environment), "qemu");
  const versions: string[] = await readdir(folder).catch(() => []);
  if (!versions.includes("default")) return undefined;
  const path = join(folder, "default", program);
  return (await isExecutable(path)) ? { path, source: "the cache" } : undefined;
}

async function onPath(name: string, environment: Environment): Promise<Place | undefined> {
  for (const folder of (environment["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, name);
    if (folder !== "" && (await isExecutable(path))) return { path, source: "PATH" };
  }
  return undefined;
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)". */
export function parseVersion(text: string): QemuVersion | undefined {
  const match = /version (\d+)\.(\d+)(?:\.(\d+))?(?: \(([^)\n]*)\))?/.exec(text);
  if (match === null) return undefined;
  const [, major, minor, micro = "0", distribution = ""] = match;
  const qemu = { major: Number(major), minor: Number(minor), micro: Number(micro) };
  return { qemu, package: distribution };
}

async function readVersion(path: string, processes: Processes): Promise<QemuVersion> {
  const result = await processes.run(path, ["--version"], { deadlineMs: 10_000 });
  const version = result.code === 0 ? parseVersion(result.stdout) : undefined;
  if (version !== undefined) return version;
  const words = (result.stderr || result.stdout).trim().slice(0, 300);
  throw new GodwitError("QEMU_UNSUPPORTED", `${path} does not tell its version: ${words}`);
}

function notFound(environment: Environment): GodwitError {
  const cache = join(cacheDirectory(environment), "qemu", "default", program);
  return new GodwitError(
    "NOT_FOUND",
    `no QEMU found: not in $GODWIT_QEMU, not at ${cache}, and no ${program} on PATH; ` +
      "install the package qemu-system-x86, or run `npm run demo`, which unpacks one into the cache",
  );
}
