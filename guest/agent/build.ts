/**
 * Builds the guest agent: one static program without dependencies, the same bytes for every guest.
 *
 *   node guest/agent/build.ts        prints the path of the program
 *
 * The result lies in $CACHE/agent/<hash>/godwit-agent, the hash being that of the sources, the flags and the
 * version of musl. Asking again costs a few milliseconds.
 */
import { createHash } from "node:crypto";
import { readdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { ensureMusl } from "../../scripts/setup/musl.ts";
import {
  cacheFolder,
  exists,
  mainProgram,
  makeDirectoryAtOnce,
  run,
} from "../../scripts/setup/shell.ts";

const folder = import.meta.dirname;

export const agentFlags = [
  "-std=c11",
  "-D_GNU_SOURCE",
  "-O2",
  "-s",
  "-Wall",
  "-Wextra",
  "-Wshadow",
  "-Werror",
  "-fno-asynchronous-unwind-tables",
  "-ffunction-sections",
  "-fdata-sections",
  "-Wl,--gc-sections",
  "-Wl,-z,relro",
  "-Wl,--build-id=none",
  "-pthread",
] as const;

/** The path of the agent made from this checkout's sources. */
export async function buildAgent(): Promise<string> {
  const compiler = await realpath(await ensureMusl());
  const names = (await readdir(folder)).filter((name) => /\.[ch]$/.test(name)).toSorted();
  const hash = createHash("sha256").update([compiler, ...agentFlags].join("\0"));
  for (const name of names) hash.update(`\0${name}\0`).update(await readFile(join(folder, name)));
  const target = join(cacheFolder(), "agent", hash.digest("hex").slice(0, 16));
  const program = join(target, "godwit-agent");
  if (await exists(program)) return program;
  const sources = names.filter((name) => name.endsWith(".c"));
  await makeDirectoryAtOnce(target, async (made) => {
    // In the folder and by bare names: paths would get into the binary.
    await run(compiler, [...agentFlags, "-o", join(made, "godwit-agent"), ...sources], {
      cwd: folder,
    });
  });
  return program;
}

if (import.meta.main) {
  await mainProgram("agent", async () => {
    process.stdout.write(`${await buildAgent()}\n`);
  });
}
