import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../test/daemon/harness.ts";
import { History } from "./history.ts";

const applicationDowntime = {
  totalMs: 161,
  gcMs: 31,
  freezeMs: 4,
  scrubMs: 48,
  stopMs: 22,
  lastRoundMs: 38,
  startMs: 9,
  thawMs: 6,
};
const report = {
  totalMs: 9_000,
  rounds: 3,
  memoryBytes: 1 << 28,
  streamBytes: 1 << 27,
  wireBytes: 1 << 27,
  pageCount: 9,
  zeroCount: 9,
  droppedCount: 9,
  staleFetchedCount: 0,
  assist: { state: "used", text: "used", participants: [], applicationDowntime },
};
const migration = {
  id: "1f0c2a9b7e",
  migrationId: "1f0c2a9b7e",
  role: "source",
  vm: "web",
  peer: "10.0.0.2:7470",
  state: "done",
  startedWallMs: 0,
  lines: [],
  report,
};

test("an assisted migration stays listed that was written before the devices' state was told apart", async () => {
  await using folder = await temporaryFolder();
  await writeFile(join(folder.path, "migrations.jsonl"), `${JSON.stringify(migration)}\n{"id":`);
  const history = new History(folder.path);
  await history.load();
  assert.deepEqual(
    history.list().map(({ id }) => id),
    [migration.id],
  );
});
