import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { test } from "node:test";
import { anonymousStretches, UntouchedMemory } from "./untouched-memory.ts";

test("only anonymous private writable memory is judged, and neighbours are one stretch", () => {
  const maps = [
    "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 ",
    "7f0000002000-7f0000004000 rw-p 00000000 00:00 0                          [anon:pc.ram]",
    "7f0000004000-7f0000005000 r--p 00000000 00:00 0 ",
    "7f0000005000-7f0000006000 rw-s 00000000 00:00 0 ",
    "7f0000006000-7f0000007000 rw-s 00000000 00:01 1029                       /dev/zero (deleted)",
    "7f0000007000-7f0000008000 rw-p 00000000 00:0f 77                         /anon_hugepage (deleted)",
    "7f0000008000-7f0000009000 rwxp 00000000 00:00 0",
    "",
  ].join("\n");
  assert.deepEqual(anonymousStretches(maps), [
    { from: 0x7f0000000000, to: 0x7f0000004000 },
    { from: 0x7f0000008000, to: 0x7f0000009000 },
  ]);
});

// @types/node leaves it to the types of browsers.
declare const WebAssembly: {
  Memory: new (limits: { initial: number; maximum: number }) => { buffer: ArrayBuffer };
};

const magic = randomBytes(16);
const nobody = (): never => assert.fail("nothing is told");

/** Of memory of this process that begins with `magic`. Reads no page behind it, which would count as touched. */
function addressOf(): number {
  const file = openSync("/proc/self/mem", "r");
  const head = Buffer.alloc(magic.length);
  try {
    for (const { from, to } of anonymousStretches(readFileSync("/proc/self/maps", "latin1"))) {
      for (let at = from; at < to; at += 65_536) {
        if (readSync(file, head, 0, head.length, at) === head.length && head.equals(magic))
          return at;
      }
    }
  } finally {
    closeSync(file);
  }
  return assert.fail("it is somewhere");
}

test("pages that a process wrote or read are told apart from those it never touched", async () => {
  // Fresh anonymous memory at an address of full pages.
  const memory = new Uint8Array(new WebAssembly.Memory({ initial: 4, maximum: 4 }).buffer);
  const pageCount = memory.length / 4096;
  memory.set(magic);
  memory[5 * 4096] = 1;
  assert.equal(memory[9 * 4096], 0);
  const address = addressOf().toString(16).padStart(16, "0");
  const used = memory.length.toString(16).padStart(16, "0");
  const line = (name: string, at: string): string =>
    `${name}    4 KiB  0x0000000000000000 0x${used} 0x${used} 0x${at}  rw`;
  const header =
    "Block Name    PSize              Offset               Used              Total                HVA  RO";
  const text = [header, line("pc.ram", address), line("rom", "0000000000010000")].join("\n");
  const untouched = await UntouchedMemory.open({ hmp: () => Promise.resolve(text) }, process.pid);
  assert.ok(untouched !== undefined);
  using judge = untouched;
  assert.equal(judge.has("pc.ram", pageCount), true);
  assert.equal(judge.has("pc.ram", pageCount + 1), false);
  assert.equal(judge.has("rom", 1), false);
  const touched = new Set<number>();
  const add = (page: number): unknown => touched.add(page);
  assert.equal(judge.look("pc.ram", 0, pageCount, add), true);
  for (const page of [0, 5, 9]) assert.ok(touched.has(page), `page ${page}`);
  // Huge pages, where they are given unasked, count whole.
  if (touched.size < pageCount) assert.equal(touched.size, 3);
  assert.equal(judge.look("pc.ram", pageCount - 1, 2, nobody), false);
  assert.equal(judge.look("rom", 0, 1, nobody), false);
});
