/** The summary's verdicts and the document's tables, from rows that are made up. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fill, notMeasured } from "./guidelines.ts";
import type { CodecRow } from "./rows.ts";
import { tunedOn } from "./settings.ts";
import { summarize } from "./summary.ts";

const document = readFileSync(new URL("../../docs/GUIDELINES.md", import.meta.url), "utf8");

const row: CodecRow = {
  bench: "codec",
  method: "none",
  kind: "godwit",
  trace: "redis",
  intervalMs: 100,
  phase: "epochs",
  ratio: 1,
  encodeMsPerMb: 0.001,
  decodeMbPerS: 100_000,
  memoryBytes: 0,
  rawBytes: 5e6,
};
const hybrid = {
  ...row,
  method: "hybrid+zstd-1",
  ratio: 24,
  encodeMsPerMb: 0.6,
  decodeMbPerS: 2500,
};
const zstd = { ...row, method: "zstd-1", ratio: 5, encodeMsPerMb: 2 };
const lz4 = { ...row, method: "lz4", ratio: 3, encodeMsPerMb: 1 };

test("promises are judged one by one", () => {
  const verdicts = summarize([hybrid, zstd, lz4]).map(({ what, value, verdict }) => [
    what,
    value,
    verdict,
  ]);
  assert.deepEqual(verdicts, [
    ["ratio over the best single method's", 4.8, "holds"],
    ["CPU time over the cheapest single method's", 0.6, "holds"],
    ["mean ratio", 24, "holds"],
    ["least ratio", 24, ""],
    ["mean CPU ms per MB", 0.6, "holds"],
    ["most CPU ms per MB", 0.6, ""],
    ["least decoding MB/s", 2500, "holds"],
  ]);
  const worse = { ...hybrid, ratio: 4, encodeMsPerMb: 1.5, decodeMbPerS: 1000 };
  const judged = summarize([worse, zstd, lz4]).filter(({ wanted }) => wanted !== "");
  assert.ok(judged.every(({ verdict }) => verdict === "DOES NOT HOLD"));
  assert.equal(judged.length, 5);
});

test("traces that settings were tuned on, other intervals and first copies do not count", () => {
  const [tuned = ""] = tunedOn;
  assert.deepEqual(
    summarize([
      { ...hybrid, trace: tuned },
      { ...zstd, trace: tuned },
    ]),
    [],
  );
  const bad = { ...hybrid, ratio: 1 };
  const rows = [
    hybrid,
    zstd,
    { ...bad, trace: tuned },
    { ...bad, intervalMs: 25 },
    { ...bad, phase: "firstCopy" as const },
  ];
  assert.equal(summarize(rows).find(({ what }) => what === "mean ratio")?.value, 24);
});

test("of a cluster one VM counts", () => {
  const cluster = ["cluster-a", "cluster-b", "cluster-c"].map((trace) => ({
    ...hybrid,
    trace,
    ratio: 12,
  }));
  const mean = summarize([hybrid, ...cluster]).find(({ what }) => what === "mean ratio");
  assert.equal(mean?.value, 18);
});

test("every table of the document is known, and says when nothing was measured", () => {
  const filled = fill(document, []);
  assert.equal(filled.split(notMeasured).length - 1 >= 9, true);
  assert.equal(fill(filled, []), filled);
  assert.throws(() => fill("<!-- codec:nonsense -->\n<!-- end -->", []), /no table named nonsense/);
});

test("figures come into the tables, and only into theirs", () => {
  const rows = [hybrid, zstd, lz4, row].map((one) => ({ ...one }));
  const filled = fill(document, [...rows, ...summarize(rows)]);
  assert.match(filled, /\| redis \| held out \| 5 MB \|/);
  assert.match(filled, /\| hybrid\+zstd-1 \| 24 \/ 0\.6 \| 24 \/ 0\.6 \|/);
  assert.match(filled, /\| mean ratio \| redis \| ≥ 20 \| 24 \| holds \|/);
  // 1 Gbit/s at a fifth of a core: 333 MB/s by CPU time, against 200 of lz4.
  assert.match(
    filled,
    /\| redis \| memory for the whole VM \| hybrid\+zstd-1 \| hybrid\+zstd-1 \|/,
  );
  const outside = (text: string) => text.replaceAll(/<!-- codec:[^]*?<!-- end -->/g, "");
  assert.equal(outside(filled), outside(document));
});
