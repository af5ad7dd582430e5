/**
 * Debian packages the machine itself must have. Kept to what cannot be unpacked privately: a compiler
 * for the guest's programs and standard tools.
 */
import { run, say, SetupError } from "./shell.ts";

/** Package and what godwit uses it for. */
const neededPackages = {
  gcc: "compiles the guest's programs",
  "libc6-dev": "static C library for the guest's programs",
  "xz-utils": "unpacks the guest's kernel",
  e2fsprogs: "makes guest disks (mke2fs -d)",
  iproute2: "network of demos",
  openssl: "certificates of tests",
  zstd: "oracle for compression tests",
} as const;

/** Installs what is missing if we are root, else says which command does. Cheap when all is there. */
export async function ensureMachinePackages(): Promise<void> {
  const missing = await missingPackages(Object.keys(neededPackages));
  if (missing.length === 0) return;
  const install = ["install", "-y", "--no-install-recommends", ...missing];
  if (process.getuid?.() !== 0) {
    throw new SetupError(
      `Debian packages are missing. Install them and run this again:\n  sudo apt-get ${install.join(" ")}`,
    );
  }
  say(`setup: installing Debian packages ${missing.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await run("apt-get", ["-qq", "update"], { env });
  await run("apt-get", ["-qq", ...install], { env });
}

async function missingPackages(names: readonly string[]): Promise<string[]> {
  // dpkg-query fails if it does not know one of the names, which is an answer and no error here.
  const args = ["-W", "-f", "${Package} ${db:Status-Status}\n", ...names];
  const text = await run("sh", ["-c", 'dpkg-query "$@" 2>/dev/null || true', "sh", ...args]).catch(
    () => Buffer.alloc(0),
  );
  const installed = new Set(text.toString().split("\n"));
  return names.filter((name) => !installed.has(`${name} installed`));
}
