import assert from "node:assert/strict";
import { test } from "node:test";
import { BufferPool } from "./buffer-pool.ts";

test("a buffer that was given back is taken again, by whoever wants about as much", () => {
  const pool = new BufferPool();
  const first = pool.take(40_000);
  assert.equal(first.length, 65_536);
  assert.notEqual(pool.take(40_000), first);
  pool.give(first);
  assert.notEqual(pool.take(30_000), first);
  assert.equal(pool.take(65_536), first);
  assert.equal(pool.take(1).length, 16_384);
});

test("no more than 16 MiB wait for somebody to take them", () => {
  const pool = new BufferPool();
  const all = Array.from({ length: 20 }, () => pool.take(1 << 20));
  for (const buffer of all) pool.give(buffer);
  const again = Array.from({ length: 20 }, () => pool.take(1 << 20));
  assert.equal(again.filter((buffer) => all.includes(buffer)).length, 16);
});

test("lengths that are not in use any more give way to those that are", () => {
  const pool = new BufferPool();
  const takeAndGive = (count: number, bytes: number): Buffer[] => {
    const buffers = Array.from({ length: count }, () => pool.take(bytes));
    for (const buffer of buffers) pool.give(buffer);
    return buffers;
  };
  takeAndGive(16, 1 << 20);
  const wanted = takeAndGive(10, 512 << 10);
  const again = takeAndGive(10, 512 << 10);
  assert.ok(again.every((buffer) => wanted.includes(buffer)));
});
