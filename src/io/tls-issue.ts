/** A private certificate authority in a folder, made with the `openssl` command: enough for a handful of hosts. */
import { access, copyFile, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { GodwitError } from "../base/index.ts";
import { systemProcesses } from "./process.ts";

export interface CertificateNames {
  /** Names by which other hosts connect to this one. Default: the host's name. */
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
}

const authorityDays = 3650;
const hostDays = 730;
const hostPattern = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/;

/**
 * Makes ca-cert.pem and ca-key.pem (mode 0600) in `directory`: EC P-256, ten years. Whoever has the key can make
 * themselves a host: keep it off the hosts. Fails with CONFLICT when there is one already, IO when openssl fails.
 */
export async function createPrivateCa(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await refuseToOverwrite(join(directory, "ca-cert.pem"));
  await refuseToOverwrite(join(directory, "ca-key.pem"));
  await inScratch(directory, async (scratch) => {
    await generateKey(join(scratch, "ca-key.pem"));
    const extensions = ["basicConstraints=critical,CA:TRUE,pathlen:0"];
    extensions.push("keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash");
    await openssl([
      ["req", "-x509", "-new", "-sha256", "-subj", "/CN=godwit private authority"],
      ["-days", String(authorityDays), "-key", join(scratch, "ca-key.pem")],
      ...extensions.map((extension) => ["-addext", extension]),
      ["-out", join(scratch, "ca-cert.pem")],
    ]);
    await rename(join(scratch, "ca-key.pem"), join(directory, "ca-key.pem"));
    await rename(join(scratch, "ca-cert.pem"), join(directory, "ca-cert.pem"));
  });
}

/**
 * Makes the folder `directory`/`host` with the five files that this host needs, signed by the authority in `directory`:
 * EC P-256, two years, keys with mode 0600. Returns the folder, to be copied to the host. Fails with CONFLICT when the folder
 * exists, CONFIG_INVALID on a bad name, NOT_FOUND without an authority, IO when openssl fails.
 */
export async function issueHostCertificates(
  directory: string,
  host: string,
  names: CertificateNames = {},
): Promise<string> {
  const alternatives = alternativeNames(host, names);
  const target = join(directory, host);
  await refuseToOverwrite(target);
  if (!(await exists(join(directory, "ca-key.pem")))) {
    throw new GodwitError("NOT_FOUND", `${directory} holds no authority; create it first`);
  }
  await inScratch(directory, async (scratch) => {
    await copyFile(join(directory, "ca-cert.pem"), join(scratch, "ca-cert.pem"));
    await issue(directory, scratch, "server", host, [
      ...alternatives,
      "extendedKeyUsage=serverAuth",
    ]);
    await issue(directory, scratch, "client", host, [
      ...alternatives,
      "extendedKeyUsage=clientAuth",
    ]);
    // In one step: a folder is whole, or not there.
    await rename(scratch, target);
  });
  return target;
}

function alternativeNames(host: string, names: CertificateNames): string[] {
  const dnsNames = names.dnsNames ?? [host];
  const ipAddresses = names.ipAddresses ?? [];
  // Also what keeps a name from becoming a path, or a line of openssl's configuration.
  for (const name of [host, ...dnsNames]) {
    if (!hostPattern.test(name)) {
      throw new GodwitError("CONFIG_INVALID", `${JSON.stringify(name)} is not a host name`);
    }
  }
  for (const address of ipAddresses) {
    if (isIP(address) === 0) {
      throw new GodwitError("CONFIG_INVALID", `${JSON.stringify(address)} is not an IP address`);
    }
  }
  const all = [
    ...dnsNames.map((name) => `DNS:${name}`),
    ...ipAddresses.map((address) => `IP:${address}`),
  ];
  return all.length === 0 ? [] : [`subjectAltName=${all.join(",")}`];
}

async function issue(
  authority: string,
  scratch: string,
  role: "server" | "client",
  host: string,
  extensions: readonly string[],
): Promise<void> {
  const file = (name: string) => join(scratch, `${role}-${name}`);
  await generateKey(file("key.pem"));
  await openssl([
    ["req", "-new", "-sha256", "-subj", `/CN=${host}`],
    ["-key", file("key.pem"), "-out", file("request")],
  ]);
  const lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"];
  lines.push("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid", ...extensions);
  await writeFile(file("extensions"), `${lines.join("\n")}\n`);
  await openssl([
    ["x509", "-req", "-sha256", "-days", String(hostDays), "-in", file("request")],
    ["-CA", join(authority, "ca-cert.pem"), "-CAkey", join(authority, "ca-key.pem")],
    // A random serial number, so that no counter has to be kept.
    ["-set_serial", `0x${crypto.randomUUID().replaceAll("-", "").slice(1)}`],
    ["-extfile", file("extensions"), "-out", file("cert.pem")],
  ]);
  await rm(file("request"));
  await rm(file("extensions"));
}

async function generateKey(path: string): Promise<void> {
  // The file is there, with its mode, before the key is in it.
  await writeFile(path, "", { mode: 0o600 });
  await openssl([["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path]]);
}

/** The arguments come in rows, for the reader. */
async function openssl(rows: readonly (readonly string[])[]): Promise<void> {
  const args = rows.flat();
  const result = await systemProcesses.run("openssl", args, { deadlineMs: 30_000 });
  if (result.code === 0) return;
  throw new GodwitError("IO", `openssl ${args[0] ?? ""} failed: ${result.stderr.trim()}`);
}

/** Runs `work` with a new folder beside the results, so that a failure leaves nothing half made. */
async function inScratch(directory: string, work: (path: string) => Promise<void>): Promise<void> {
  const scratch = await mkdtemp(join(directory, ".new-"));
  try {
    await work(scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function refuseToOverwrite(path: string): Promise<void> {
  if (!(await exists(path))) return;
  throw new GodwitError("CONFLICT", `${path} exists already; remove it first if it is not needed`);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
