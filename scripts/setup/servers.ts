/**
 * Redis and memcached of Debian, unpacked privately, for the tests of guest/assist/examples/redis-helper.py. Nothing
 * else needs them, so no other set-up word includes them.
 */
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PrivateApt } from "./apt.ts";
import {
  cacheFolder,
  exists,
  makeDirectoryAtOnce,
  run,
  say,
  withTemporaryFolder,
} from "./shell.ts";

const suite = "bookworm";
/** The program, and where its package puts it. */
const programs = { "redis-server": "usr/bin/redis-server", memcached: "usr/bin/memcached" };

/** Folder of wrappers `redis-server` and `memcached`; it may not exist. */
export function serversFolder(): string {
  return join(cacheFolder(), "servers", suite);
}

export async function ensureServers(): Promise<void> {
  const folder = serversFolder();
  if (await exists(folder)) return;
  say("setup: downloading and unpacking Redis and memcached (about 10 MB)");
  await withTemporaryFolder(cacheFolder(), async (temporary) => {
    const apt = await PrivateApt.open(suite, join(temporary, "apt"));
    const closure = await apt.closure(["redis-server", "redis-tools", "memcached"]);
    const packages = [...closure.keys()].filter((name) =>
      /^(redis|memcached|lib(?!.*perl))/.test(name),
    );
    await makeDirectoryAtOnce(folder, async (made) => {
      await apt.unpack(packages, join(made, "root"));
      for (const [name, path] of Object.entries(programs)) await writeWrapper(made, name, path);
    });
  });
  await run(join(folder, "redis-server"), ["--version"]);
}

/** Starts the program with the unpacked libraries. */
async function writeWrapper(made: string, name: string, path: string): Promise<void> {
  const root = join(serversFolder(), "root");
  const libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map((folder) =>
    join(root, folder),
  );
  const loader = join(root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
  const command = `exec '${loader}' --library-path '${libraries.join(":")}' --argv0 ${name} '${join(root, path)}' "$@"`;
  await writeFile(
    join(made, name),
    `#!/bin/sh\n# Written by scripts/setup/servers.ts.\n${command}\n`,
  );
  await chmod(join(made, name), 0o755);
}
