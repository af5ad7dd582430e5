/** The agent's Debian package: that it builds, what is in it, and that the agent works with no more rights than its unit gives. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { buildAgent } from "../../guest/agent/build.ts";
import { buildPackage } from "../../guest/agent/package.ts";
import { Agent, pageBytes, Prey, skipAgent, until } from "./agent-harness.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-package-"));
after(() => rmSync(folder, { recursive: true }));
const dpkg = (...args: string[]): string => execFileSync("dpkg-deb", args, { encoding: "utf8" });

const built = buildPackage(folder);

describe("the package", () => {
  test("has what it should, where it should, belonging to root", async () => {
    const lines = dpkg("--contents", await built)
      .trimEnd()
      .split("\n");
    const files = lines
      .map((line) => line.split(/\s+/))
      .filter(([mode = ""]) => !mode.startsWith("d"))
      .map(([mode, owner, , , , name]) => `${mode} ${owner} ${name}`);
    assert.deepEqual(files.toSorted(), [
      "-rw-r--r-- root/root ./usr/lib/systemd/system/godwit-agent.service",
      "-rw-r--r-- root/root ./usr/lib/udev/rules.d/60-godwit-agent.rules",
      "-rw-r--r-- root/root ./usr/share/doc/godwit-agent/README.md",
      "-rw-r--r-- root/root ./usr/share/doc/godwit-agent/copyright",
      "-rwxr-xr-x root/root ./usr/sbin/godwit-agent",
    ]);
    assert.ok(lines.every((line) => /^[d-]rwxr-xr-x|^-rw-r--r--/.test(line)));
  });

  test("its version is the repository's, and the program's", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    assert.equal(dpkg("--field", await built, "Version").trim(), version);
    assert.equal(dpkg("--field", await built, "Package").trim(), "godwit-agent");
    const root = join(folder, "root");
    dpkg("--extract", await built, root);
    const program = join(root, "usr/sbin/godwit-agent");
    const said = execFileSync(program, ["--version"], { encoding: "utf8" });
    assert.equal(said, `godwit-agent ${version}\n`);
    dpkg("--control", await built, join(root, "DEBIAN"));
    execFileSync("md5sum", ["--check", "--quiet", "DEBIAN/md5sums"], { cwd: root });
    for (const script of ["postinst", "prerm", "postrm"])
      execFileSync("sh", ["-n", join(root, "DEBIAN", script)]);
  });

  test("is the same, byte by byte, when built again", async () => {
    const again = await buildPackage(join(folder, "again"));
    assert.ok(readFileSync(again).equals(readFileSync(await built)));
  });
});

test("the unit's capabilities are enough", { skip: skipAgent }, async () => {
  const unit = readFileSync("guest/agent/debian/godwit-agent.service", "utf8");
  const names = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(" ") ?? [];
  const set = names.map((name) => `+${name.replace("CAP_", "").toLowerCase()}`);
  assert.equal(set.length, 5);
  const program = join(folder, "confined");
  const bounds = ["-all", ...set].join(",");
  const script = `#!/bin/sh\nexec setpriv --no-new-privs --bounding-set ${bounds} ${await buildAgent()} "$@"\n`;
  writeFileSync(program, script, { mode: 0o755 });
  await using agent = await Agent.start(program);
  const capabilities = /CapEff:\s*(\w+)/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"));
  assert.ok(Number.parseInt(capabilities?.[1] ?? "", 16) < 2 ** 24, "it is confined");
  await using prey = await Prey.start(64, 65_534);
  const client = await agent.connect();
  assert.equal(client.hello.seesFrames, true);
  assert.ok(!client.hello.realTime || names.includes("CAP_SYS_NICE"));
  await prey.tell(`fill 0 ${64 * pageBytes} 1`);
  await prey.tell(`app ${agent.applicationsPath}`);
  assert.ok((await client.processes("libc.so.6")).some(({ pid }) => pid === prey.pid));
  const range = { address: prey.region, bytes: 64 * pageBytes };
  assert.equal((await client.frames(prey, [range]))?.presentPages, 64);
  await client.hold(prey, { timeoutMs: 1000, holdMs: 5000 });
  await prey.assertFrozen();
  await client.write(prey, prey.region, Uint8Array.of(1));
  assert.equal((await client.scrub(prey, [range])).zeroedPages, 64);
  await client.dropCaches();
  assert.equal((await client.zeroFreeMemory(2 ** 32 - 1)).zeroedBytes, 0);
  const flagged = Uint8Array.of(9);
  await client.write(prey, prey.region, flagged, { restoreWhenAlone: true });
  await client.thaw();
  await prey.untilRuns();
  await client.close();
  await until("the write is put back", () => prey.memory(prey.region, 1)[0] === 0);
  await prey.untilRuns();
});
