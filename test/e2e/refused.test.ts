/** Migrations that must not happen: each says why in words that help, and the VM runs on where it is. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createPrivateCa, issueHostCertificates } from "../../src/io/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import { Harness, runState, stopped } from "./harness.ts";
import {
  assertArrived,
  assertOutcome,
  assertStayed,
  busyWords,
  leftovers,
  migrationSettings,
  skip,
} from "./support.ts";

let harness: Harness;
let vm: LaunchedVm;
let settings: unknown;

before(async () => {
  if (skip !== false) return;
  harness = await Harness.create();
  vm = await harness.guest({ name: "stays", memory: "128M", words: busyWords });
  settings = await migrationSettings(vm);
});
after(async () => {
  await harness?.[Symbol.asyncDispose]();
});

async function certificates(name: string): Promise<string> {
  const authority = join(harness.directory, name);
  await createPrivateCa(authority);
  return await issueHostCertificates(authority, "host", { ipAddresses: ["127.0.0.1"] });
}

test("a destination whose certificate is of another authority is refused [TLS]", {
  skip,
}, async () => {
  const ours = { tlsDirectory: await certificates("ca-1"), insecure: false };
  const theirs = { tlsDirectory: await certificates("ca-2"), insecure: false };
  const run = await harness.migrate(vm, {}, ours, {}, { destinationTransport: theirs });
  const outcome = await run.source.outcome;
  assert.equal(outcome.result, "failed", outcome.text);
  assert.equal(outcome.error?.code, "TLS", outcome.text);
  assert.match(outcome.text, /certificate/);
  await assertStayed(harness, vm, run);
  assert.deepEqual(await migrationSettings(vm), settings);
});

test("a source that speaks plain TCP to a destination with TLS is refused [TLS at one end]", {
  skip,
}, async () => {
  const theirs = { tlsDirectory: await certificates("ca-3"), insecure: false };
  const run = await harness.migrate(vm, {}, undefined, {}, { destinationTransport: theirs });
  const outcome = await run.source.outcome;
  assert.equal(outcome.result, "failed", outcome.text);
  await assertStayed(harness, vm, run);
});

test("plain TCP to another machine is refused without --insecure", { skip }, async () => {
  const other =
    Object.values(networkInterfaces())
      .flat()
      .find((address) => address?.internal === false && address.family === "IPv4")?.address ??
    "192.0.2.1";
  const run = await harness.migrate(vm, {}, undefined, {}, { job: { host: other } });
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "failed", "INSECURE");
  assert.match(outcome.text, /guest memory would travel unencrypted.*--insecure/);
  await assertStayed(harness, vm, run);
});

test("a destination that nobody listens at is named", { skip }, async () => {
  const run = await harness.migrate(vm, {}, undefined, {}, { job: { port: 1 } });
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "failed", "PEER_LOST");
  assert.match(outcome.text, /cannot connect to 127.0.0.1:1: .*is its daemon running/);
  await assertStayed(harness, vm, run);
  assert.deepEqual(await migrationSettings(vm), settings);
});

test("a destination that cannot make the VM says why, at the source too", { skip }, async () => {
  const prepare = async () => {
    await mkdir(join(harness.directory, "nothing"), { recursive: true });
    throw new Error("no bridge br7 on this host");
  };
  const run = await harness.migrate(vm, {}, undefined, {}, { prepare });
  const outcome = await run.source.outcome;
  assert.equal(outcome.result, "failed");
  assert.match(outcome.text, /destination: .*no bridge br7 on this host.*stays stays here/);
  await assertStayed(harness, vm, run);
});

test("a section of the stream that godwit does not know is refused by its name [dirty-bitmap]", {
  skip,
}, async () => {
  // The section appears when somebody switches the capability on behind godwit's back.
  const bitmapped = await harness.guest({
    name: "bitmapped",
    memory: "128M",
    words: busyWords,
    more: { extraArguments: ["-blockdev", "driver=null-co,node-name=d0,size=1048576"] },
  });
  const run = await harness.migrate(bitmapped, {}, undefined, { source: "effect:start-stream" });
  await stopped(run.source);
  {
    await using qmp = await QmpClient.connect(bitmapped.qmpPath);
    await qmp.executeAny("block-dirty-bitmap-add", { node: "d0", name: "b0" });
    const capabilities = [{ capability: "dirty-bitmaps", state: true }];
    await qmp.executeAny("migrate-set-capabilities", { capabilities });
  }
  run.source.child.kill("SIGCONT");
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "failed", "STREAM_UNSUPPORTED");
  assert.match(outcome.text, /dirty-bitmap/);
  await assertStayed(harness, bitmapped, run);
  await harness.end(bitmapped);
});

const blocked = [
  {
    what: "a device that QEMU cannot migrate",
    device: "nvme",
    extraArguments: [
      ["-blockdev", "driver=null-co,node-name=n0,size=1048576"],
      ["-device", "nvme,serial=1,drive=n0"],
    ].flat(),
    text: /nvme/,
  },
  {
    what: "a disk format that QEMU cannot migrate",
    device: "vvfat",
    extraArguments: ["-blockdev", "driver=vvfat,node-name=v0,rw=on,dir=DIRECTORY"],
    text: /vvfat/,
  },
];

for (const { what, device, extraArguments, text } of blocked) {
  test(`${what} is named before anything is sent [${device}]`, { skip }, async () => {
    const folder = join(harness.directory, "fat");
    await mkdir(folder, { recursive: true });
    const more = {
      extraArguments: extraArguments.map((argument) => argument.replace("DIRECTORY", folder)),
    };
    const there = await harness.boot(
      await harness.definition({ name: "blocked", memory: "128M", more }),
    );
    const run = await harness.migrate(there);
    const outcome = await run.source.outcome;
    assert.equal(outcome.result, "failed");
    assert.match(outcome.text, text);
    assert.equal(await runState(there), "running");
    assert.equal(await run.source.ended, "exit code 0");
    assert.deepEqual(await leftovers(harness), []);
    await harness.end(there);
  });
}

test("a migration that is cancelled before it has begun leaves no trace", { skip }, async () => {
  const run = await harness.migrate(vm);
  run.source.cancel();
  const outcome = await run.source.outcome;
  assertOutcome(outcome, "cancelled", "CANCELLED");
  await assertStayed(harness, vm, run);
  assert.deepEqual(await migrationSettings(vm), settings);
});

test("after all these refusals the VM can still be migrated [verify]", { skip }, async () => {
  const run = await harness.migrate(vm, { verify: true });
  await assertArrived(harness, vm, run);
});
