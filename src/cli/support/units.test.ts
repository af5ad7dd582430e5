import assert from "node:assert/strict";
import { test } from "node:test";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  parseBandwidth,
  parseBytes,
  parseDuration,
  parseShare,
} from "./units.ts";

test("bandwidth tells bits from bytes", () => {
  const cases: Record<string, number> = {
    "1Gbit": 125_000_000,
    "1Gbit/s": 125_000_000,
    "1gbps": 125_000_000,
    "100Mbit": 12_500_000,
    "100Mbits/s": 12_500_000,
    "1Gibit": 134_217_728,
    "100MB": 100_000_000,
    "100 MB/s": 100_000_000,
    "1.5GB": 1_500_000_000,
    "64MiB": 67_108_864,
    "512KiB/s": 524_288,
    "9000B": 9_000,
    "0": 0,
    none: 0,
  };
  for (const [text, expected] of Object.entries(cases)) {
    assert.equal(parseBandwidth(text), expected, text);
  }
});

test("a bandwidth that could mean two things is refused", () => {
  for (const text of [
    "100",
    "100Mb",
    "100Mb/s",
    "100M",
    "1G",
    "fast",
    "",
    "-1MB",
    "1e9B",
    "1bit",
  ]) {
    assert.throws(() => parseBandwidth(text), { name: "UsageError" }, text);
  }
});

test("durations need a unit", () => {
  const cases = {
    "300ms": 300,
    "1.5s": 1_500,
    "10min": 600_000,
    "10m": 600_000,
    "2h": 7_200_000,
    "0s": 0,
  };
  for (const [text, expected] of Object.entries(cases)) {
    assert.equal(parseDuration(text), expected, text);
  }
  for (const text of ["300", "", "ms", "-3s", "3 weeks"]) {
    assert.throws(() => parseDuration(text), { name: "UsageError" }, text);
  }
});

test("sizes are powers of two", () => {
  assert.deepEqual(["4096", "64K", "1M", "1MiB"].map(parseBytes), [4096, 65_536, 2 ** 20, 2 ** 20]);
  assert.throws(() => parseBytes("a lot"), { name: "UsageError" });
});

test("quantities are short", () => {
  assert.deepEqual([0, 1023, 1536, 200 * 2 ** 20, 5 * 2 ** 30].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.5 KiB",
    "200 MiB",
    "5.0 GiB",
  ]);
  assert.equal(formatRate(2 ** 20), "1.0 MiB/s");
  assert.deepEqual(
    [0, 3.14, 340, 12_340, 59_960, 125_000, 7_500_000, 200_000_000].map(formatDuration),
    ["0 ms", "3.1 ms", "340 ms", "12.3 s", "1 min 0 s", "2 min 5 s", "2 h 5 min", "2 d 7 h"],
  );
  assert.deepEqual([12, 1234, 1_234_567].map(formatCount), ["12", "1,234", "1,234,567"]);
});

test("shares of a core have a percent sign", () => {
  assert.deepEqual(["20%", "0.5 %", "100%"].map(parseShare), [0.2, 0.005, 1]);
  for (const text of ["20", "0.2", "0%", "101%", "-1%", "a%", "%", ""]) {
    assert.throws(() => parseShare(text), { name: "UsageError" }, text);
  }
});
