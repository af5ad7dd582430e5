import assert from "node:assert/strict";
import { test } from "node:test";
import { bars, solidBar } from "./bars.ts";

test("a bar has eighths of a column, and shows whatever is not nothing", () => {
  assert.equal(solidBar(1, 4), "████");
  assert.equal(solidBar(0.5, 4), "██");
  assert.equal(solidBar(0.4, 4), "█▋");
  assert.equal(solidBar(0.0001, 4), "▏");
  assert.equal(solidBar(0, 4), "");
  assert.equal(solidBar(7, 4), "████");
});

test("bars are relative to the largest; a missing value is words alone", () => {
  const rows = [
    { name: "a", value: 10, text: "10 s" },
    { name: "bcd", value: 5, text: "5 s" },
    { name: "e", value: undefined, text: "never ended" },
  ];
  assert.equal(bars(rows, 4), "  a    ████ 10 s\n  bcd  ██ 5 s\n  e    never ended");
});
