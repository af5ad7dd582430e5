/** Files that are not whole: whose they are, and that those of killed processes go, and no others. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemProcesses } from "../io/index.ts";
import { readTrace, reduceTrace, TraceFile, type TraceHeader } from "./index.ts";
import { removeUnfinished, unfinishedPath } from "./unfinished.ts";

const header: TraceHeader = {
  vmName: "one",
  workload: "",
  qemuVersion: "10.0.13",
  accelerator: "tcg",
  blocks: [{ name: "pc.ram", lengthBytes: 4096 * 4096 }],
  memoryBytes: 4096 * 4096,
  intervalMs: 25,
  base: "full",
  note: "",
};
const gone = "999999999-17";

async function inFolder(run: (path: string, names: () => Promise<string[]>) => Promise<void>) {
  const folder = await mkdtemp(join(tmpdir(), "godwit-trace-"));
  try {
    await run(join(folder, "t.gtrace"), async () => (await readdir(folder)).toSorted());
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("what processes that are gone left is removed; what others write, and all else, is not", () =>
  inFolder(async (path, names) => {
    const child = spawn("sleep", ["60"]);
    const { pid, startTimeTicks } = systemProcesses.identify(child.pid as number) ?? {};
    const [alive, reborn] = [`${pid}-${startTimeTicks}`, `${pid}-${(startTimeTicks ?? 0) + 1}`];
    const dead = [`${gone}.part`, `${gone}.full`, `${gone}.full.${gone}.part`, `${reborn}.part`];
    const kept = [
      "t.gtrace",
      "t.gtrace.part",
      "t.gtrace.full",
      `t.gtrace.${gone}`,
      `t.gtrace.${gone}.part.old`,
      `t.gtrace.${gone}.part.${gone}.part`,
      `t.gtrace.b.${gone}.part`,
      `other.gtrace.${gone}.part`,
      `t.gtrace.${alive}.part`,
      `t.gtrace.${alive}.full`,
      `t.gtrace.${alive}.full.${alive}.part`,
    ];
    for (const name of [...dead.map((end) => `t.gtrace.${end}`), ...kept]) {
      await writeFile(join(path, "..", name), "");
    }
    const writing = await removeUnfinished(path);
    assert.deepEqual(await names(), kept.toSorted());
    assert.deepEqual(
      writing.map(({ path: one, kind }) => `${kind} ${one.slice(path.length)}`).toSorted(),
      [`full .${alive}.full`, `full .${alive}.full.${alive}.part`, `part .${alive}.part`],
    );
    await assert.rejects(TraceFile.create(path, header), { code: "CONFLICT" });
    child.kill("SIGKILL");
    await new Promise((resolve) => child.on("close", resolve));
    assert.deepEqual(await removeUnfinished(path), []);
  }));

test("a folder that is not there holds nothing", async () => {
  assert.deepEqual(await removeUnfinished("/nowhere/t.gtrace"), []);
});

/** Each epoch writes the same 200 pages. */
async function writeTrace(path: string, epochCount: number): Promise<void> {
  const file = await TraceFile.create(path, header, { windowLog: 20 });
  for (let epoch = 0; epoch < epochCount; epoch++) {
    for (let from = 0; from < 200; from += 20) {
      const bytes = Buffer.alloc(20 * 4104, epoch + from);
      for (let i = 0; i < 20; i++) {
        bytes.writeBigUInt64BE(BigInt(from + i) * 4096n + 0x28n, i * 4104);
      }
      const batch = { block: 0, pieces: [bytes], bytes: bytes.length, pageCount: 20, zeroCount: 0 };
      file.batch(epoch * 25, batch);
      await file.drained();
    }
    file.endEpoch(epoch * 25);
  }
  await file.close();
}

const options = { base: "touched", pages: 1, basePages: 0 } as const;

test("a trace that is made smaller tells how far that is, and leaves one file", () =>
  inFolder(async (path, names) => {
    const full = unfinishedPath(path, "full");
    await writeTrace(full, 6);
    const shares: number[] = [];
    await reduceTrace(full, path, { ...options, onProgress: (share) => shares.push(share) });
    assert.equal(shares.at(-1), 1);
    assert.deepEqual(
      shares,
      shares.toSorted((a, b) => a - b),
    );
    assert.ok(shares.length > 5 && (shares[0] as number) > 0);
    await rm(full);
    assert.deepEqual(await names(), ["t.gtrace"]);
    let bytes = 0;
    for await (const { batch } of readTrace(path)) bytes += batch.bytes;
    assert.equal(bytes, 6 * 200 * 4104);
  }));

test("cancelled at any time it leaves nothing [before, in the middle, at the end]", () =>
  inFolder(async (path, names) => {
    const from = join(path, "../from.gtrace");
    await writeTrace(from, 6);
    for (const share of [0, 0.3, 1]) {
      const cancel = new AbortController();
      if (share === 0) cancel.abort();
      const onProgress = (done: number): void => {
        if (done >= share) cancel.abort();
      };
      const made = reduceTrace(from, path, { ...options, signal: cancel.signal, onProgress });
      await assert.rejects(made, { code: "CANCELLED" });
      assert.deepEqual(await names(), ["from.gtrace"]);
    }
  }));
