import assert from "node:assert/strict";
import { test } from "node:test";
import { EventDecoder, encodeEvent, heartbeat } from "./sse.ts";

const bytes = new TextEncoder().encode(
  `${encodeEvent({ a: "ä\n\n1" })}${heartbeat}${encodeEvent({ b: 2 })}`,
);

test("events come out whole, however the bytes are cut", () => {
  for (let cut = 0; cut <= bytes.length; cut++) {
    const decoder = new EventDecoder();
    const values = [...decoder.push(bytes.subarray(0, cut)), ...decoder.push(bytes.subarray(cut))];
    assert.deepEqual(values, [{ a: "ä\n\n1" }, { b: 2 }]);
  }
});
