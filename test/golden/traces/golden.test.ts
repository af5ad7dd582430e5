/** The recorded traces are sound, few, and what their README says. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readTrace, readTraceFrames, readTraceHeader } from "../../../src/trace/index.ts";

const folder = import.meta.dirname;
const names = readdirSync(folder).filter((name) => name.endsWith(".gtrace"));

test("the traces are small together, and all of them are told of", () => {
  const bytes = names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  assert.ok(bytes < 25e6, `${bytes} bytes`);
  const readme = readFileSync(join(folder, "README.md"), "utf8");
  const told = [...readme.matchAll(/^\| `([\w-]+)` \|/gm)].map((match) => `${match[1]}.gtrace`);
  assert.deepEqual(told.toSorted(), names.toSorted());
});

test("their headers are sound: written pages and a sample, recorded every 25 ms", async () => {
  for (const name of names) {
    const header = await readTraceHeader(join(folder, name));
    assert.deepEqual(
      [header.base, header.intervalMs, header.changedOnly, header.accelerator],
      ["touched", 25, true, "tcg"],
      name,
    );
    assert.ok(header.sampled !== undefined && header.memoryBytes >= 384 << 20, name);
    // A machine like any other: its memory, and the display's and the firmware's.
    assert.equal(header.blocks[0]?.name, "pc.ram", name);
  }
});

test("every page that is written has its base, and versions that differ [idle]", async () => {
  const path = join(folder, "idle.gtrace");
  const last = new Map<string, string>();
  let [epochs, versions] = [0, 0];
  for await (const { epoch, batch } of readTrace(path)) {
    const bytes = Buffer.concat(batch.pieces);
    for (let at = 0; at < bytes.length; ) {
      const word = bytes.readBigUInt64BE(at);
      const length = (word & 0x02n) !== 0n ? 9 : 4104;
      const page = `${batch.block}:${word >> 12n}`;
      const content = bytes.toString("latin1", at, at + length);
      if (epoch > 0) {
        versions++;
        assert.ok(last.has(page), `${page} has a base`);
        assert.notEqual(last.get(page), content, `${page} differs`);
      }
      last.set(page, content);
      at += length;
    }
    epochs = epoch;
  }
  assert.ok(epochs > 250 && versions > 1_000, `${epochs} epochs, ${versions} versions`);
});

test("time in them advances by about 25 ms an epoch [redis]", async () => {
  const times: number[] = [];
  for await (const frame of readTraceFrames(join(folder, "redis.gtrace"))) {
    if (frame.type === "epoch") times.push(frame.atMs);
  }
  const lengths = times.slice(1).map((at, i) => at - (times[i] as number));
  const median = lengths.toSorted((a, b) => a - b)[Math.floor(lengths.length / 2)] as number;
  assert.ok(median >= 20 && median <= 40, `${median} ms`);
});
