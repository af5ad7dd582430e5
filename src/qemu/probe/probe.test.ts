import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { Processes, RunResult } from "../../io/index.ts";
import { GodwitError } from "../../base/index.ts";
import { probeAccelerator } from "./accelerator.ts";
import { assertKeepsDirtyPages, losesDirtyPages } from "./doctor.ts";
import { cacheDirectory, findQemu, parseVersion } from "./find.ts";
import { firmwareExitCode, firmwareImage } from "./firmware.ts";
import { hostCpuFingerprint, probeDirectory, probeDelay } from "./host.ts";

let root = "";

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "godwit-probe-test-"));
});

afterEach(() => rm(root, { recursive: true }));

async function fakeQemu(folder: string, micro: number): Promise<string> {
  const path = join(root, folder, "qemu-system-x86_64");
  await mkdir(join(root, folder), { recursive: true });
  await writeFile(path, `#!/bin/sh\necho "QEMU emulator version 10.0.${micro} (Debian 1:10)"\n`);
  await chmod(path, 0o755);
  return path;
}

const unused = () => assert.fail("not expected");

/** Every program answers this. */
function programs(answer: () => RunResult): Processes {
  return { run: async () => answer(), start: unused, identify: unused, signal: unused };
}

const version = (major: number, minor: number) => ({
  qemu: { major, minor, micro: 0 },
  package: "",
});

test("QEMU is taken from the definition, $GODWIT_QEMU, the cache, PATH, in this order", async () => {
  const onPath = await fakeQemu("bin", 1);
  const environment: Record<string, string> = { PATH: join(root, "bin"), GODWIT_CACHE: root };
  const found = async (binary?: string) => {
    const { path, source, version: is } = await findQemu({ binary, environment });
    return { path, source, micro: is.qemu.micro };
  };
  assert.deepEqual(await found(), { path: onPath, source: "PATH", micro: 1 });
  const cached = await fakeQemu("qemu/default", 2);
  assert.deepEqual(await found(), { path: cached, source: "the cache", micro: 2 });
  environment["GODWIT_QEMU"] = await fakeQemu("own", 3);
  assert.equal((await found()).micro, 3);
  assert.equal((await found(await fakeQemu("definition", 4))).micro, 4);
  assert.equal((await found("qemu-system-x86_64")).micro, 1);
});

test("an explicit choice that does not work is an error, not passed over", async () => {
  const environment = { PATH: "", GODWIT_QEMU: "/nonexistent/qemu" };
  await assert.rejects(findQemu({ environment }), {
    code: "NOT_FOUND",
    message: /\$GODWIT_QEMU names \/nonexistent\/qemu/,
  });
});

test("without any QEMU the error says what to do", async () => {
  await assert.rejects(findQemu({ environment: { PATH: "", GODWIT_CACHE: root } }), {
    code: "NOT_FOUND",
    message: /install the package qemu-system-x86/,
  });
});

test("versions are read from what QEMU prints", () => {
  assert.deepEqual(parseVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), {
    qemu: { major: 7, minor: 2, micro: 22 },
    package: "Debian 1:7.2+dfsg-7",
  });
  assert.equal(parseVersion("bash: no such file"), undefined);
});

test("the cache follows GODWIT_CACHE, XDG_CACHE_HOME, HOME", () => {
  assert.equal(cacheDirectory({ GODWIT_CACHE: "/a", XDG_CACHE_HOME: "/b" }), "/a");
  assert.equal(cacheDirectory({ GODWIT_CACHE: "", XDG_CACHE_HOME: "/b" }), "/b/godwit");
  assert.equal(cacheDirectory({ HOME: "/h" }), "/h/.cache/godwit");
});

test("the firmware begins at the reset vector with a jump", () => {
  const image = firmwareImage();
  assert.equal(image.length, 65_536);
  assert.deepEqual([...image.subarray(-16, -13)], [0xe9, 0x0d, 0xff]);
});

test("guest code runs only if the firmware's exit code comes back", async () => {
  const binary = { path: "q", source: "test", version: version(10, 0) };
  const answer = (code: number) => programs(() => ({ code, stdout: "", stderr: "no way\nmore" }));
  assert.equal((await probeAccelerator("tcg", binary, answer(firmwareExitCode))).ok, true);
  const failed = await probeAccelerator("tcg", binary, answer(0));
  assert.deepEqual([failed.ok, failed.detail], [false, "no way; more"]);
  const slow = await probeAccelerator(
    "tcg",
    binary,
    programs(() => {
      throw new GodwitError("TIMEOUT", "slow");
    }),
  );
  assert.match(slow.detail, /40 million instructions did not end/);
});

test("emulation before QEMU 9.0 loses dirty pages, KVM never does", () => {
  const combinations = (["kvm", "tcg"] as const).map((accelerator) =>
    [version(7, 2), version(8, 2), version(9, 0), version(10, 0)].map((it) =>
      losesDirtyPages(accelerator, it),
    ),
  );
  assert.deepEqual(combinations, [
    [false, false, false, false],
    [true, true, false, false],
  ]);
  assert.throws(() => assertKeepsDirtyPages("tcg", version(7, 2)), { code: "QEMU_UNSUPPORTED" });
});

test("a command that fails is a finding with its reason and advice", async () => {
  const failing = programs(() => ({ code: 2, stdout: "", stderr: "Error: unknown qdisc\nx\n" }));
  const finding = await probeDelay(failing);
  assert.deepEqual([finding.ok, finding.detail], [false, "Error: unknown qdisc"]);
  assert.match(finding.advice ?? "", /sch_netem/);
});

test("a directory that can be made and written is fine, a file in its way is not", async () => {
  assert.equal((await probeDirectory(join(root, "a/b"))).ok, true);
  await writeFile(join(root, "file"), "");
  assert.equal((await probeDirectory(join(root, "file/b"))).ok, false);
});

test("the CPU's fingerprint is stable", async () => {
  assert.equal(await hostCpuFingerprint(), await hostCpuFingerprint());
});
