import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../io/index.ts";
import { warmUp, warmUpPageCount } from "./warm-up.ts";

test("it comes to its end, and leaves nothing open", async () => {
  const before = process.getActiveResourcesInfo().length;
  assert.equal(await warmUp(systemClock, new AbortController().signal), warmUpPageCount);
  await new Promise(setImmediate);
  assert.ok(process.getActiveResourcesInfo().length <= before + 1);
});

test("it ends at once when there is work", async () => {
  const work = new AbortController();
  const warm = warmUp(systemClock, work.signal);
  work.abort();
  assert.ok((await warm) < warmUpPageCount);
});
