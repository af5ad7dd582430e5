/** What a user sees during and after a migration, word for word. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Migration, Progress, Report } from "../../api/index.ts";
import { progressBlock, progressLine } from "./progress.ts";
import { createScreen } from "./screen.ts";
import { reportText, summary } from "./summary.ts";

const MiB = 2 ** 20;

const progress: Progress = {
  role: "source",
  phase: "rounds",
  elapsedMs: 12_300,
  round: 3,
  memoryBytes: 256 * MiB,
  pageCount: 60_000,
  zeroCount: 2_000,
  droppedCount: 0,
  staleCount: 0,
  streamBytes: 320 * MiB,
  wireBytes: 312 * MiB,
  bytesPerSecond: 112 * MiB,
  dirtyBytes: 40 * MiB,
  remainingBytes: 10 * MiB,
  dirtyBytesPerSecond: 38 * MiB,
  expectedDowntimeMs: 420,
  etaMs: 3_000,
  stalled: false,
};

const migration: Migration = {
  id: "1f0c2a9b7e",
  migrationId: "1f0c2a9b7e",
  role: "source",
  vm: "web",
  peer: "10.0.0.2:7470",
  state: "running",
  startedWallMs: 0,
  progress,
  lines: [],
};

const report: Report = {
  totalMs: 15_800,
  downtimeMs: 212,
  rounds: 5,
  memoryBytes: 256 * MiB,
  streamBytes: 400 * MiB,
  wireBytes: 356 * MiB,
  pageCount: 91_136,
  zeroCount: 12_004,
  droppedCount: 0,
  staleFetchedCount: 0,
  verified: undefined,
  verifyMs: undefined,
};

test("the block of a source names round, amounts, rates and outlook", () => {
  assert.deepEqual(progressBlock(migration), [
    "web -> 10.0.0.2:7470  round 3  12.3 s",
    "[##################......]  75 %  10.0 MiB of 40.0 MiB left in this round",
    "sent 312 MiB at 112 MiB/s, guest dirties 38.0 MiB/s",
    "downtime would be 420 ms, switch-over in about 3.0 s",
  ]);
});

test("the block says in words when rounds stop shrinking", () => {
  const stalled = { ...migration, progress: { ...progress, stalled: true } };
  assert.equal(
    progressBlock(stalled).at(-1),
    "downtime would be 420 ms; rounds no longer shrink: the guest writes as fast as the link carries",
  );
});

test("the block of a destination names what arrived", () => {
  const here: Progress = { ...progress, role: "destination", phase: "receiving" };
  assert.deepEqual(progressBlock({ ...migration, role: "destination", progress: here }), [
    "web <- 10.0.0.2:7470  receiving  12.3 s",
    "received 320 MiB, memory 256 MiB",
  ]);
});

test("a narrow terminal gets shorter lines, never more of them", () => {
  const lines = progressBlock(migration, 40);
  assert.equal(lines.length, 4);
  assert.ok(lines.every((line) => line.length <= 40));
});

test("a line of a log says the same in short", () => {
  assert.equal(
    progressLine(migration),
    "web: round 3, sent 312 MiB at 112 MiB/s, 10.0 MiB left, downtime would be 420 ms",
  );
  assert.equal(progressLine({ ...migration, progress: undefined }), "web: connecting");
});

test("the summary of a success has every figure", () => {
  const done = { ...migration, state: "done" as const, text: "web runs at 10.0.0.2", report };
  const verified = {
    ...report,
    verified: true,
    verifyMs: 830,
    droppedCount: 512,
    staleFetchedCount: 7,
  };
  assert.equal(
    summary({ ...done, report: verified }),
    `web was migrated to 10.0.0.2:7470
web runs at 10.0.0.2
  total time  15.8 s
  downtime    212 ms
  rounds      5
  sent        356 MiB for 256 MiB of memory (139 %)
  mean rate   22.5 MiB/s
  pages       91,136 sent whole, 12,004 zero, 512 left out, 7 fetched at the end
  verified    all memory is equal (830 ms, not in the downtime)`,
  );
});

test("the summary shows free pages that the guest told of, if there were any", () => {
  const free = (hintedFreeBytes: number): string[] => {
    const lines = reportText({ ...report, hintedFreeBytes }, "source").split("\n");
    return lines.filter((line) => line.startsWith("free pages"));
  };
  assert.deepEqual(free(40 * MiB), [
    "free pages  about 40.0 MiB not sent: the guest does not use them",
  ]);
  assert.deepEqual(free(0), []);
});

test("the summary says what a codec saved, what it cost, and which methods auto chose", () => {
  const codec = { rawBytes: 400 * MiB, bodyBytes: 50 * MiB, ratio: 8, encodeMs: 412.6 };
  const compression = { codec: "hybrid", ...codec, memoryBytes: 200 * MiB, hitShare: 0.914 };
  const method = { batchCount: 9, pageCount: 9, bodyBytes: 9, encodeMs: 9 };
  const lines = (more: Partial<NonNullable<Report["compression"]>>): string[] => {
    const all = {
      ...report,
      compressedAwayBytes: 350 * MiB,
      compression: { ...compression, ...more },
    };
    const text = reportText(all, "source").split("\n");
    return text.filter((line) => line.startsWith("compressed"));
  };
  assert.deepEqual(lines({}), [
    "compressed away  350 MiB (8.00 to 1, 413 ms of CPU, 200 MiB of memory, 91 % of pages were known)",
    "compressed with  hybrid",
  ]);
  assert.deepEqual(lines({ codec: "gzip", level: 6, memoryBytes: 1000, hitShare: undefined }), [
    "compressed away  350 MiB (8.00 to 1, 413 ms of CPU)",
    "compressed with  gzip, level 6",
  ]);
  const methods = [
    { name: "none", rawBytes: 6 * MiB, ...method },
    { name: "hybrid-lz4", rawBytes: 394 * MiB, ...method },
  ];
  assert.equal(
    lines({ codec: "auto", methods })[1],
    "compressed with  auto: hybrid-lz4 99 %, none 1.5 %",
  );
});

test("the summary of a failure has the reason and no figures", () => {
  const error = { code: "PEER_LOST", message: "the connection ended" };
  const failed = {
    ...migration,
    state: "failed" as const,
    text: "web runs here as before",
    error,
    report,
  };
  assert.equal(
    summary(failed),
    "web: the migration to 10.0.0.2:7470 failed\nweb runs here as before\nthe connection ended",
  );
});

test("a terminal's block is drawn over, and lines stay above it", () => {
  const written: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  const screen = createScreen({ isTTY: true, columns: 120, write }, () => 0);
  screen.progress(migration);
  screen.line("round 3 began");
  screen.clear();
  assert.equal(written[0]?.split("\n").length, 5);
  assert.ok(written[1]?.startsWith("\x1b[4A\x1b[0Jround 3 began\nweb -> "));
  assert.equal(written[2], "\x1b[4A\x1b[0J");
});

test("elsewhere a line a second is enough, and one at each new round", () => {
  let now = 0;
  const written: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  const screen = createScreen({ isTTY: false, write } as never, () => now);
  const round = (index: number) => ({ ...migration, progress: { ...progress, round: index } });
  for (const [at, index] of [
    [0, 1],
    [400, 1],
    [800, 2],
    [1200, 2],
    [1900, 2],
  ] as const) {
    now = at;
    screen.progress(round(index));
  }
  assert.deepEqual(
    written.map((line) => line.split(",")[0]),
    ["web: first copy", "web: round 2", "web: round 2"],
  );
});
