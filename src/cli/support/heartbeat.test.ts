import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Heartbeat } from "./heartbeat.ts";

async function until(heartbeat: Heartbeat, count: number): Promise<void> {
  for (let attempt = 0; attempt < 500 && heartbeat.count < count; attempt++) await sleep(5);
  assert.equal(heartbeat.count, count);
}

test("beats of two consoles are one row, and what was written before does not count", async () => {
  const directory = await mkdtemp(join(tmpdir(), "godwit-heartbeat-"));
  const [here, there] = [join(directory, "a.log"), join(directory, "b.log")];
  await writeFile(here, "b 1\r\nb 2\r\n");
  {
    using heartbeat = new Heartbeat([here, there]);
    await appendFile(here, "b 3\r\ngodwit-guest tick 1 ok\r\nb ");
    await until(heartbeat, 1);
    await appendFile(here, "4\r\n");
    await until(heartbeat, 2);
    await sleep(200);
    await writeFile(there, "4\r\nb 5\r\n");
    await until(heartbeat, 3);
    const gapMs = heartbeat.longestGapMs(0);
    assert(gapMs >= 190 && gapMs < 2_000, `${gapMs}`);
    // The longest gap is the change of consoles; less than all of it is left when the VM was held meanwhile.
    assert(heartbeat.longestGapMs(150) < gapMs - 100);
  }
  await rm(directory, { recursive: true });
});
