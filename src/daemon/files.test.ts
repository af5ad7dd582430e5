import assert from "node:assert/strict";
import { chmod, mkdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { startDaemon, temporaryFolder } from "../../test/daemon/harness.ts";
import { makePrivateDirectory } from "./files.ts";

test("a directory for sockets and records is this user's alone", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "a/b");
  await makePrivateDirectory(path);
  await makePrivateDirectory(path);
  assert.equal((await stat(path)).mode & 0o777, 0o700);
  await chmod(path, 0o750);
  await assert.rejects(makePrivateDirectory(path), {
    code: "INSECURE",
    message: /mode 0750.*chmod 700/,
  });
  await chmod(path, 0o700);
  await symlink(path, join(folder.path, "link"));
  await assert.rejects(makePrivateDirectory(join(folder.path, "link")), {
    code: "INSECURE",
    message: /link/,
  });
  await writeFile(join(folder.path, "file"), "");
  await assert.rejects(makePrivateDirectory(join(folder.path, "file")));
});

test("a directory of another user is refused", {
  skip: process.getuid?.() === 0 ? false : "only root can make one",
}, async () => {
  await using folder = await temporaryFolder();
  const { chown } = await import("node:fs/promises");
  const path = join(folder.path, "theirs");
  await mkdir(path, { mode: 0o700 });
  await chown(path, 12_345, 12_345);
  await assert.rejects(makePrivateDirectory(path), {
    code: "INSECURE",
    message: /belongs to user 12345/,
  });
});

test("a daemon does not start in a runtime directory that others may write to", async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, "run"));
  await chmod(join(folder.path, "run"), 0o777);
  await assert.rejects(startDaemon(folder.path), { code: "INSECURE" });
});
