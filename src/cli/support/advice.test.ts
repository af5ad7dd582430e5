/** What `godwit advise` prints, word for word. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Advice } from "../../api/index.ts";
import { adviceText } from "./advice.ts";

const MiB = 2 ** 20;

const none = {
  method: "none",
  ratio: 1,
  encodeMsPerMb: 0.001,
  decodeMbPerS: 96_637,
  memoryBytes: 0,
  firstCopyRatio: 1,
  sustainableBytesPerSecond: 119 * MiB,
  limit: "link" as const,
  linkShare: 0.36,
  cpuShare: 0,
  fitsMemory: true,
  fits: true,
  onFront: true,
};

const advice: Advice = {
  name: "web",
  intervalMs: 100,
  epochCount: 50,
  epochsBytes: 212 * MiB,
  dirtyBytesPerSecond: 42.4 * MiB,
  constraints: { linkBytesPerSecond: 125e6, cpuShare: 0.2, memoryBytes: 256 * MiB },
  methods: [
    none,
    {
      ...none,
      method: "gzip-6",
      ratio: 5.1,
      encodeMsPerMb: 20.1,
      limit: "cpu",
      fits: false,
      onFront: false,
    },
    {
      ...none,
      method: "hybrid",
      ratio: 23.14,
      memoryBytes: 300 * MiB,
      fitsMemory: false,
      fits: false,
    },
  ],
  leftOut: [],
  recommended: "none",
  reason: "Because.",
  picture: "<svg/>",
};

test("an advice has a head, a row for each method with its mark, and the reason", () => {
  assert.equal(
    adviceText(advice),
    `web: 50 epochs of 100 ms, 212 MiB of pages, 42.4 MiB/s
link 1 Gbit/s, 20 % of a core, 256 MiB of memory

   method  ratio  ms/MB  decode      memory   first copy  sustains   limited by  link now  CPU now  fits
>  none    1.00   0.001  90.0 GiB/s  0 B      1.00        119 MiB/s  link        36 %      0.0 %    yes
   gzip-6  5.10   20.1   90.0 GiB/s  0 B      1.00        119 MiB/s  CPU time    36 %      0.0 %    no
*  hybrid  23.1   0.001  90.0 GiB/s  300 MiB  1.00        119 MiB/s  link        36 %      0.0 %    no: memory

recommended: none
  Because.`,
  );
});

test("what was not measured is named, and that nothing can be recommended is said", () => {
  const { recommended: _, ...rest } = advice;
  const text = adviceText({ ...rest, leftOut: ["zstd-9", "lz4"] });
  assert.match(text, /\n\nnot measured: zstd-9, lz4\n\nrecommended: none of them\n/);
});
