/** Recordings of real guests: that they hold what the guest's memory holds, and that the guest never notices. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { GuestMemory } from "../../src/qemu/memory/index.ts";
import { type MigrationSettings, QmpClient } from "../../src/qemu/qmp/index.ts";
import {
  type FromTraceWorker,
  readTrace,
  RecordedQemu,
  readTraceFrames,
  readTraceHeader,
  type RecordOptions,
  recordTrace,
  reduceTrace,
} from "../../src/trace/index.ts";
import { Harness, runState } from "./harness.ts";
import { leftovers, migrationSettings, skip } from "./support.ts";

const words = "godwit.run=writer godwit.mb=32 godwit.rate=30 godwit.mode=touch godwit.tickms=50";

async function options(
  harness: Harness,
  vm: LaunchedVm,
  more: Partial<RecordOptions> = {},
): Promise<RecordOptions> {
  return {
    clock: systemClock,
    qmpPath: vm.migrationQmpPath,
    runtimeDirectory: await harness.sourceDirectory(),
    id: "test",
    vmName: vm.definition.name,
    path: join(harness.directory, "t.gtrace"),
    intervalMs: 50,
    durationMs: 1_500,
    ...more,
  };
}

/** Every byte of memory that the trace leads to, by block. */
async function imageOf(path: string): Promise<Map<string, Buffer>> {
  const { blocks } = await readTraceHeader(path);
  const images = blocks.map(({ lengthBytes }) => Buffer.alloc(lengthBytes));
  for await (const { batch } of readTrace(path)) {
    const image = images[batch.block] as Buffer;
    const bytes = Buffer.concat(batch.pieces);
    for (let at = 0; at < bytes.length; ) {
      const word = bytes.readBigUInt64BE(at);
      const isZero = (word & 0x02n) !== 0n;
      const offset = Number(word >> 12n) * 4096;
      if (isZero) image.fill(0, offset, offset + 4096);
      else bytes.copy(image, offset, at + 8, at + 4104);
      at += isZero ? 9 : 4104;
    }
  }
  return new Map(blocks.map(({ name }, i) => [name, images[i] as Buffer]));
}

/** Running, with its settings as they were, and nothing of us left. */
async function assertUnharmed(harness: Harness, vm: LaunchedVm, before: unknown): Promise<void> {
  assert.equal(await runState(vm), "running");
  await harness.ticks(vm, 3);
  assert.deepEqual(await migrationSettings(vm), before);
  assert.deepEqual(await leftovers(harness), []);
}

test("what is recorded up to a stop is the stopped VM's memory, byte for byte", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "one", memory: "128M", words });
  const before = await migrationSettings(vm);
  const given = await options(harness, vm, { durationMs: 600_000 });
  await using qmp = await QmpClient.connect(vm.qmpPath);
  let stopped = false;
  const summary = await recordTrace({
    ...given,
    onProgress: ({ epochCount }) => {
      if (stopped || epochCount < 8) return;
      stopped = true;
      void qmp.execute("stop");
    },
  });
  assert.equal(stopped, true);
  assert.equal(summary.ended, "stopped");
  assert.equal((await qmp.execute("query-status")).status, "paused");
  await using memory = await GuestMemory.open(qmp, vm.pid);
  const image = await imageOf(given.path);
  assert.ok([...image.values()].reduce((sum, { length }) => sum + length, 0) >= 128 << 20);
  for (const [name, bytes] of image) {
    const now = Buffer.alloc(bytes.length);
    await memory.read(name, 0, now);
    for (let at = 0; at < bytes.length; at += 4096) {
      const page = [bytes.subarray(at, at + 4096), now.subarray(at, at + 4096)] as const;
      assert.ok(page[0].equals(page[1]), `page ${at / 4096} of ${name} differs`);
    }
  }
  await qmp.execute("cont");
  await qmp.close();
  await assertUnharmed(harness, vm, before);
});

test("epochs are as long as asked for, and hold what the guest writes in them [30 MB/s of touched pages]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "pace", memory: "128M", words });
  const before = await migrationSettings(vm);
  const given = await options(harness, vm);
  const summary = await recordTrace(given);
  assert.ok(summary.epochCount >= 10, JSON.stringify(summary));
  assert.ok(summary.medianIntervalMs >= 40 && summary.medianIntervalMs < 200);
  // 30 MB/s are 366 pages in 50 ms; there is more that a guest writes.
  const perMs = summary.medianDirtyPages / summary.medianIntervalMs;
  assert.ok(perMs > 4 && perMs < 40, `${perMs} pages a millisecond`);
  const epochs: number[] = [];
  for await (const frame of readTraceFrames(given.path)) {
    if (frame.type === "epoch") epochs.push(frame.dirtyCount);
  }
  assert.equal(epochs.length, summary.epochCount + 1);
  assert.ok((epochs[0] as number) >= summary.basePageCount);
  await assertUnharmed(harness, vm, before);

  const small = join(harness.directory, "small.gtrace");
  await reduceTrace(given.path, small, { base: "touched", pages: 4, basePages: 16 });
  assert.ok((await stat(small)).size < (await stat(given.path)).size / 3);
  const [whole, part] = [await versions(given.path), await versions(small)];
  let kept = 0;
  for (const [page, epochsOf] of whole.later) {
    const those = part.later.get(page);
    if (those === undefined) continue;
    kept++;
    assert.deepEqual(those, epochsOf, `all versions of ${page}, or none`);
    assert.ok(part.base.has(page), `${page} has its base`);
  }
  const share = kept / whole.later.size;
  assert.ok(share > 0.1 && share < 0.5, `a fourth is kept: ${share}`);
});

/** Which pages are in the base, and in which epochs each comes later. */
async function versions(path: string) {
  const base = new Set<string>();
  const later = new Map<string, number[]>();
  for await (const { epoch, batch } of readTrace(path)) {
    const bytes = Buffer.concat(batch.pieces);
    for (let at = 0; at < bytes.length; ) {
      const word = bytes.readBigUInt64BE(at);
      const page = `${batch.block}:${word >> 12n}`;
      if (epoch === 0) base.add(page);
      else later.set(page, [...(later.get(page) ?? []), epoch]);
      at += (word & 0x02n) !== 0n ? 9 : 4104;
    }
  }
  return { base, later };
}

test("a recording that is cancelled keeps what there is; one that cannot begin leaves nothing", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "cancel", memory: "128M", words });
  const before = await migrationSettings(vm);
  const cancel = new AbortController();
  const given = await options(harness, vm, {
    durationMs: 600_000,
    signal: cancel.signal,
    onProgress: ({ epochCount }) => {
      if (epochCount >= 3) cancel.abort();
    },
  });
  const summary = await recordTrace(given);
  assert.equal(summary.ended, "cancelled");
  assert.ok((await versions(given.path)).later.size > 0);
  await assertUnharmed(harness, vm, before);

  const anew = { ...given, signal: new AbortController().signal };
  await assert.rejects(recordTrace(anew), hasCode("CONFLICT"));
  await assertUnharmed(harness, vm, before);
  const path = join(harness.directory, "other.gtrace");
  await assert.rejects(
    recordTrace({ ...given, path, signal: AbortSignal.abort() }),
    hasCode("CANCELLED"),
  );
  await assert.rejects(
    recordTrace({ ...anew, path: join(harness.directory, "no", "t.gtrace") }),
    hasCode("IO"),
  );
  const limited = { ...anew, path, fileBytesMax: 1 << 20 };
  await assert.rejects(recordTrace(limited), hasCode("CONFLICT"));
  await assertUnharmed(harness, vm, before);
  const files = (await readdir(harness.directory)).filter((name) => name.includes("gtrace"));
  assert.deepEqual(files, ["t.gtrace"]);
});

test("a VM that is being recorded is not recorded twice, nor migrated", { skip }, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "twice", memory: "128M", words });
  const before = await migrationSettings(vm);
  const started = Promise.withResolvers<void>();
  const cancel = new AbortController();
  const given = await options(harness, vm, {
    durationMs: 600_000,
    signal: cancel.signal,
    onProgress: () => started.resolve(),
  });
  const first = recordTrace(given);
  await started.promise;
  // By QEMU's other monitor, as the first is taken.
  const other = { ...given, qmpPath: vm.qmpPath, id: "b", path: `${given.path}.b` };
  await assert.rejects(recordTrace(other), { code: "CONFLICT", message: /recorded already/ });
  const run = await harness.migrate(vm, {}, undefined, undefined, { job: { qmpPath: vm.qmpPath } });
  const outcome = await run.source.outcome;
  assert.equal(outcome.error?.code, "CONFLICT");
  cancel.abort();
  await first.catch(() => {});
  await assertUnharmed(harness, vm, before);
});

test("a recorder that is killed leaves a running VM [SIGKILL in the base, and between epochs]", {
  skip,
}, async () => {
  await using harness = await Harness.create();
  const vm = await harness.guest({ name: "killed", memory: "128M", words });
  const before = await migrationSettings(vm);
  for (const phase of ["base", "recording"]) {
    const { clock: _, ...job } = await options(harness, vm, {
      path: join(harness.directory, `${phase}.gtrace`),
      durationMs: 600_000,
    });
    const worker = fileURLToPath(new URL("../../src/trace/worker.ts", import.meta.url));
    const child = spawn(process.execPath, [worker], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const gone = new Promise((resolve) => child.on("close", resolve));
    let settings: MigrationSettings | undefined;
    child.on("message", (message: FromTraceWorker) => {
      if (message.type === "settings") ({ settings } = message);
      if (message.type === "progress" && message.progress.phase === phase) child.kill("SIGKILL");
    });
    child.send({ type: "start", job });
    await gone;
    await using qmp = await QmpClient.connect(vm.migrationQmpPath);
    for (let i = 0; i < 100; i++) {
      if ((await qmp.execute("query-migrate")).status === "failed") break;
      await sleep(systemClock, 50);
    }
    assert.equal((await qmp.execute("query-migrate")).status, "failed");
    assert.equal(await runState(vm), "running");
    await harness.ticks(vm, 3);
    assert.notDeepEqual(await migrationSettings(vm), before);
    // As the next daemon does, and once more, when there is nothing to be done.
    assert.ok(settings !== undefined);
    if (phase === "base") {
      assert.equal(await new RecordedQemu(qmp, systemClock).putBack(settings), true);
      assert.deepEqual(await migrationSettings(vm), before);
      assert.equal(await new RecordedQemu(qmp, systemClock).putBack(settings), false);
    }
  }
  // In the base it may have died before there was a file.
  assert.match((await unfinished(harness)).join(), /recording\.gtrace\.\d+-\d+\.part/);
  // What the dead left in QEMU is no hindrance, and their files go when one of that name is recorded again.
  const path = join(harness.directory, "recording.gtrace");
  const summary = await recordTrace(await options(harness, vm, { path, durationMs: 300 }));
  assert.equal(summary.ended, "duration");
  assert.doesNotMatch((await unfinished(harness)).join(), /recording/);
  await harness.ticks(vm, 3);
});

async function unfinished(harness: Harness): Promise<string[]> {
  return (await readdir(harness.directory)).filter((name) => /\.\d+-\d+\.part$/.test(name));
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof GodwitError && error.code === code, String(error));
    return true;
  };
}
