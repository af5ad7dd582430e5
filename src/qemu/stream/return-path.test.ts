import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GodwitError, Prng } from "../../base/index.ts";
import { ReturnPathReader, shutOk } from "./index.ts";

const seed = Number(process.env["SEED"] ?? 20261123);
const pong = "0002000400000001";
const shut0 = "0001000400000000";

function statuses(hex: string, steps: () => number): number[] {
  const seen: number[] = [];
  const reader = new ReturnPathReader((status) => seen.push(status));
  const bytes = new Uint8Array(Buffer.from(hex, "hex"));
  for (let at = 0; at < bytes.length; ) {
    const step = steps();
    // A copy that is overwritten: the reader may not keep what it was shown. A Buffer, whose `slice` is no copy.
    const chunk = Buffer.from(bytes.subarray(at, at + step));
    reader.push(chunk);
    chunk.fill(0xee);
    at += step;
  }
  return seen;
}

describe("the return path", () => {
  test("shutOk is what a destination QEMU sends when all is loaded", () => {
    assert.equal(Buffer.from(shutOk).toString("hex"), shut0);
  });

  test(`reports SHUT with its status, whole, byte by byte and at random splits (seed ${seed})`, () => {
    const hex = `${pong}00010004ffffffff${pong}${shut0}`;
    const prng = new Prng(seed);
    for (const steps of [() => 1000, () => 1, () => prng.integer(1, 9)]) {
      assert.deepEqual(statuses(hex, steps), [0xffffffff, 0]);
    }
  });

  test("takes empty pushes and keeps an incomplete message for later", () => {
    assert.deepEqual(
      statuses("00010004000000", () => 3),
      [],
    );
    const reader = new ReturnPathReader(() => assert.fail("nothing was complete"));
    reader.push(new Uint8Array(0));
  });

  const wrong: Readonly<Record<string, readonly [hex: string, code: string, says: string]>> = {
    "a message of 65,535 bytes": [
      `${pong}0001ffff`,
      "STREAM_INVALID",
      "a message of 65535 bytes (byte 8)",
    ],
    "SHUT without status": ["00010000", "STREAM_INVALID", "SHUT of 0 bytes (byte 0)"],
    "SHUT with a long status": [
      "000100080000000000000000",
      "STREAM_INVALID",
      "SHUT of 8 bytes (byte 0)",
    ],
    "a request for a page (postcopy)": [
      `${pong}${pong}0004000c${"00".repeat(12)}`,
      "STREAM_UNSUPPORTED",
      "message type 4 (byte 16)",
    ],
    "a type that does not exist": [
      "0000000400000000",
      "STREAM_UNSUPPORTED",
      "message type 0 (byte 0)",
    ],
  };
  for (const [what, [hex, code, says]] of Object.entries(wrong)) {
    test(`refuses ${what}, and says at which byte`, () => {
      for (const step of [1, 1000]) {
        assert.throws(
          () => statuses(hex, () => step),
          (error: unknown) => {
            assert.ok(error instanceof GodwitError);
            assert.equal(error.code, code);
            assert.ok(error.message.includes(says), error.message);
            return true;
          },
        );
      }
    });
  }
});
