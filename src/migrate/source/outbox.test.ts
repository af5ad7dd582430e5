import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Outbox } from "./outbox.ts";

function outbox() {
  const seen = { failures: [] as unknown[], movedCount: 0, sent: [] as number[] };
  const box = new Outbox(
    (error) => seen.failures.push(error),
    () => seen.movedCount++,
  );
  return { box, seen };
}

test("what nothing waits for goes out at once", () => {
  const { box, seen } = outbox();
  box.add(() => seen.sent.push(1));
  assert.deepEqual(seen.sent, [1]);
  assert.deepEqual([box.length, seen.movedCount], [0, 0]);
});

test("whatever is done first, what goes out keeps its order", async () => {
  const turns = fc.array(fc.option(fc.nat(5), { nil: undefined }), { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(turns, async (delays) => {
      const { box, seen } = outbox();
      for (const [i, delay] of delays.entries()) {
        if (delay === undefined) box.add(() => seen.sent.push(i));
        else box.addLater(after(delay, i), (value) => seen.sent.push(value));
      }
      await box.emptied();
      assert.deepEqual(seen.sent, [...delays.keys()]);
      assert.equal(box.length, 0);
    }),
  );
});

/** After so many turns of the queue of promises. */
async function after(turns: number, value: number): Promise<number> {
  for (let i = 0; i < turns; i++) await Promise.resolve();
  return value;
}

test("behind a batch that failed nothing goes out, and nobody waits for ever", async () => {
  const { box, seen } = outbox();
  const dropped: number[] = [];
  box.addLater(Promise.resolve(1), (value) => seen.sent.push(value));
  box.addLater(Promise.reject(new Error("broken")), () => seen.sent.push(2));
  box.add(
    () => seen.sent.push(3),
    () => dropped.push(3),
  );
  await box.emptied();
  box.add(
    () => seen.sent.push(4),
    () => dropped.push(4),
  );
  box.addLater(Promise.resolve(5), (value) => seen.sent.push(value));
  await box.emptied();
  assert.deepEqual(seen.sent, [1]);
  assert.deepEqual(dropped, [3, 4]);
  assert.deepEqual(seen.failures.map(String), ["Error: broken"]);
});

test("a closed one drops what it has, and hears of no failure", async () => {
  const { box, seen } = outbox();
  box.addLater(Promise.reject(new Error("too late")), () => seen.sent.push(1));
  let isDropped = false;
  box.add(
    () => seen.sent.push(2),
    () => {
      isDropped = true;
    },
  );
  box.close();
  await after(9, 0);
  assert.ok(isDropped);
  assert.deepEqual([seen.sent, seen.failures], [[], []]);
});
