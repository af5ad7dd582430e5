import assert from "node:assert/strict";
import { test } from "node:test";
import { GodwitError } from "../../base/index.ts";
import { QmpDecoder } from "./decode.ts";
import { describe, type QmpMessage } from "./messages.ts";

// Captured from QEMU 10.0.13 (Debian 13), line ends included.
const captured = Buffer.from(
  '{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian 1:10.0.13+ds-0+deb13u1"}, "capabilities": ["oob"]}}\r\n' +
    '{"return": {}, "id": 1}\r\n' +
    '{"timestamp": {"seconds": 1796080000, "microseconds": 123456}, "event": "STOP"}\r\n' +
    '{"id": 2, "error": {"class": "CommandNotFound", "desc": "The command bogus has not been found"}}\r\n' +
    '{"error": {"class": "GenericError", "desc": "JSON parse error, expecting value"}}\r\n',
);

const expected: QmpMessage[] = [
  {
    type: "greeting",
    version: { qemu: { major: 10, minor: 0, micro: 13 }, package: "Debian 1:10.0.13+ds-0+deb13u1" },
    capabilities: ["oob"],
  },
  { type: "return", id: 1, value: {} },
  { type: "event", event: { name: "STOP", data: {}, timestampUs: 1796080000123456 } },
  {
    type: "error",
    id: 2,
    class: "CommandNotFound",
    desc: "The command bogus has not been found",
  },
  {
    type: "error",
    id: undefined,
    class: "GenericError",
    desc: "JSON parse error, expecting value",
  },
];

function decode(text: string, lineBytesMax = 1000): QmpMessage[] {
  return new QmpDecoder({ lineBytesMax }).push(Buffer.from(text));
}

function refuses(text: string, message: RegExp): void {
  assert.throws(() => decode(text, 100), {
    name: "GodwitError",
    code: "QMP_INVALID",
    message,
  });
}

test("a captured conversation decodes to its messages", () => {
  assert.deepEqual(new QmpDecoder().push(captured), expected);
});

test("how the bytes are split makes no difference (every size from 1 to 64)", () => {
  for (let size = 1; size <= 64; size++) {
    const decoder = new QmpDecoder();
    const messages: QmpMessage[] = [];
    for (let at = 0; at < captured.length; at += size) {
      messages.push(...decoder.push(captured.subarray(at, at + size)));
    }
    assert.deepEqual(messages, expected);
  }
});

test("bytes are copied, so that the caller may reuse its buffer", () => {
  const decoder = new QmpDecoder();
  const buffer = Buffer.from('{"return": 7, ');
  decoder.push(buffer);
  buffer.fill(0);
  assert.deepEqual(decoder.push(Buffer.from('"id": 3}\n')), [{ type: "return", id: 3, value: 7 }]);
});

test("unknown events, unknown fields, blank lines and strange ids are accepted", () => {
  assert.deepEqual(decode('\r\n{"event": "NEW_IN_12", "data": {"a": [1]}, "more": 1}\n\n'), [
    { type: "event", event: { name: "NEW_IN_12", data: { a: [1] }, timestampUs: -1 } },
  ]);
  assert.deepEqual(decode('{"return": null, "id": "x"}\n'), [
    { type: "return", id: undefined, value: null },
  ]);
});

test("an event whose time QEMU could not read has the time -1", () => {
  const text = '{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}\n';
  assert.deepEqual(decode(text), [
    { type: "event", event: { name: "STOP", data: {}, timestampUs: -1 } },
  ]);
});

test("what is not QMP is refused with its position", () => {
  refuses("HTTP/1.1 400 Bad Request\r\n", /expected JSON, found "HTTP.* at byte 0 of/);
  refuses('{"return": 1}\nxyz\n', /at byte 14 of/);
  refuses("[1]\n", /expected a JSON object/);
  refuses('{"hello": 1}\n', /without QMP, return, error or event/);
  refuses('{"QMP": {}}\n', /greeting without version/);
  refuses('{"QMP": {"version": {"qemu": {"major": "x"}}}}\n', /bad version/);
  refuses('{"error": "no"}\n', /error that is not an object/);
  refuses('{"event": 5}\n', /event without a name/);
});

test("a line longer than the limit is refused before its end has come", () => {
  const decoder = new QmpDecoder({ lineBytesMax: 100 });
  assert.deepEqual(decoder.push(new Uint8Array(100).fill(0x20)), []);
  assert.throws(
    () => decoder.push(new Uint8Array(1).fill(0x20)),
    (error) => error instanceof GodwitError && error.code === "QMP_INVALID",
  );
});

test("every message has a description for logs", () => {
  assert.deepEqual(expected.map(describe), [
    "greeting from 10.0.13",
    "return #1",
    "event STOP",
    "error #2 CommandNotFound: The command bogus has not been found",
    "error #? GenericError: JSON parse error, expecting value",
  ]);
});
