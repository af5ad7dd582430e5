import assert from "node:assert/strict";
import { test } from "node:test";
import { GodwitError } from "../../base/index.ts";
import { codecChoices, createEncoder } from "../../codec/index.ts";
import { systemClock } from "../../io/index.ts";
import { encoderFor } from "./encoder.ts";

const compressMemoryBytes = 16 << 20;

/** As in a process whose address space is limited (`ulimit -v`). */
const withoutRoom: typeof createEncoder = (codec, options) => {
  if (options?.memoryBytes !== undefined) {
    throw new GodwitError("CONFIG_INVALID", "no 16 MiB of address space for a history of pages");
  }
  return createEncoder(codec, options);
};

test("the encoder is the one that was asked for", () => {
  for (const compress of codecChoices) {
    const said: string[] = [];
    const say = (text: string): void => void said.push(text);
    assert.equal(encoderFor({ compress, compressMemoryBytes }, systemClock, say).name, compress);
    assert.deepEqual(said, []);
  }
});

test("without room for a history it is one that needs none, and that is said", () => {
  for (const [compress, instead] of [
    ["hybrid", "zstd"],
    ["delta", "lz4"],
    ["similarity", "lz4"],
  ] as const) {
    const said: string[] = [];
    const level = compress === "hybrid" ? { compressLevel: 3 } : {};
    const options = { compress, compressMemoryBytes, ...level };
    const say = (text: string): void => void said.push(text);
    const encoder = encoderFor(options, systemClock, say, withoutRoom);
    assert.equal(encoder.name, instead);
    assert.match(
      said.join(),
      new RegExp(`^compression with ${instead} instead of ${compress}: no`),
    );
  }
});

test("options that do not fit the codec are refused, not mended", () => {
  const say = (): void => assert.fail("nothing is said");
  for (const more of [{ compressLevel: 99 }, { compressMemoryBytes: 1 }]) {
    const options = { compress: "hybrid", compressMemoryBytes, ...more } as const;
    assert.throws(() => encoderFor(options, systemClock, say), { code: "CONFIG_INVALID" });
  }
});

test("what else goes wrong is not hidden", () => {
  const broken = (): never => {
    throw new GodwitError("IO", "the kernels cannot be read");
  };
  const options = { compress: "hybrid", compressMemoryBytes } as const;
  assert.throws(() => encoderFor(options, systemClock, () => {}, broken), { code: "IO" });
});
