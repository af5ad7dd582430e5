/**
 * Builds the agent's Debian package, with dpkg-deb alone.
 *
 *   node guest/agent/package.ts [FOLDER]     into FOLDER (dist); prints the path of the package
 *
 * The same sources give the same bytes: every file has the same date, and the program knows no path.
 */
import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { tmpdir } from "node:os";
import { mainProgram, run, withTemporaryFolder } from "../../scripts/setup/shell.ts";
import { buildAgent } from "./build.ts";

const folder = import.meta.dirname;
/** 2020-01-01. Newer dates of files are set back to it. */
const sourceDate = "1577836800";

/** Where each file goes. Those without a source of their own are made here. */
const contents = [
  { target: "usr/sbin/godwit-agent", mode: 0o755 },
  {
    target: "usr/lib/systemd/system/godwit-agent.service",
    source: "debian/godwit-agent.service",
    mode: 0o644,
  },
  {
    target: "usr/lib/udev/rules.d/60-godwit-agent.rules",
    source: "debian/60-godwit-agent.rules",
    mode: 0o644,
  },
  { target: "usr/share/doc/godwit-agent/README.md", source: "README.md", mode: 0o644 },
  { target: "usr/share/doc/godwit-agent/copyright", source: "debian/copyright", mode: 0o644 },
] as const;
const scripts = ["postinst", "prerm", "postrm"] as const;

/** The path of the package, made anew. */
export async function buildPackage(outputFolder: string): Promise<string> {
  const version = await packageVersion();
  const target = join(outputFolder, `godwit-agent_${version}_amd64.deb`);
  await mkdir(outputFolder, { recursive: true });
  await withTemporaryFolder(tmpdir(), async (root) => {
    await chmod(root, 0o755);
    const program = await buildAgent();
    for (const file of contents) {
      const from = "source" in file ? join(folder, file.source) : program;
      await put(from, join(root, file.target), file.mode);
    }
    await writeControl(root, version);
    const env = { SOURCE_DATE_EPOCH: sourceDate };
    await run("dpkg-deb", ["--root-owner-group", "-Zxz", "--build", root, target], { env });
  });
  return target;
}

async function packageVersion(): Promise<string> {
  const text = await readFile(join(folder, "../../package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

async function put(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true, mode: 0o755 });
  await copyFile(from, to);
  await chmod(to, mode);
}

async function writeControl(root: string, version: string): Promise<void> {
  let bytes = 0;
  const sums: string[] = [];
  for (const { target } of contents) {
    bytes += (await stat(join(root, target))).size;
    const sum = createHash("md5").update(await readFile(join(root, target)));
    sums.push(`${sum.digest("hex")}  ${target}\n`);
  }
  for (const name of scripts)
    await put(join(folder, "debian", name), join(root, "DEBIAN", name), 0o755);
  const control = await readFile(join(folder, "debian/control"), "utf8");
  const filled = control
    .replace("@VERSION@", version)
    .replace("@INSTALLED_KB@", String(Math.ceil(bytes / 1024)));
  await writeFile(join(root, "DEBIAN/control"), filled, { mode: 0o644 });
  await writeFile(join(root, "DEBIAN/md5sums"), sums.join(""), { mode: 0o644 });
}

if (import.meta.main) {
  await mainProgram("package", async () => {
    process.stdout.write(`${await buildPackage(process.argv[2] ?? "dist")}\n`);
  });
}
