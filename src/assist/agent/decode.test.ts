import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GodwitError } from "../../base/index.ts";
import {
  AgentDecoder,
  decodeApplications,
  decodeError,
  decodeFrames,
  decodeHello,
  decodeHold,
  decodeProcesses,
  decodeRead,
  decodeReadiness,
} from "./decode.ts";
import { encodeFrame } from "./encode.ts";
import { agentHeaderBytes, replyBodyBytesMax } from "./format.ts";

function malformed(text: RegExp) {
  return (error: unknown): boolean =>
    error instanceof GodwitError && error.code === "AGENT_FAILED" && text.test(error.message);
}

describe("frames", () => {
  test("a frame that grows byte by byte is kept, and no more than that", () => {
    const decoder = new AgentDecoder();
    const frame = encodeFrame(0x84, 0, 1, Buffer.alloc(replyBodyBytesMax, 7));
    for (let at = 0; at < frame.length - 1; at += 997) {
      assert.deepEqual(decoder.push(frame.subarray(at, Math.min(at + 997, frame.length - 1))), []);
    }
    assert.equal(decoder.partialBytes, agentHeaderBytes + replyBodyBytesMax - 1);
    assert.equal(decoder.push(frame.subarray(-1)).length, 1);
    assert.equal(decoder.partialBytes, 0);
  });

  test("noise is not kept", () => {
    const decoder = new AgentDecoder();
    for (let i = 0; i < 100; i++) assert.deepEqual(decoder.push(Buffer.alloc(10_000, "GW")), []);
    assert.ok(decoder.partialBytes <= 3);
    assert.equal(decoder.droppedBytes + decoder.partialBytes, 1_000_000);
  });

  test("a frame that is given up sets free the one behind its header", () => {
    const decoder = new AgentDecoder();
    const half = encodeFrame(0x84, 0, 1, Buffer.alloc(60_000)).subarray(0, 100);
    const whole = encodeFrame(0x90, 0, 2, Buffer.from("status"));
    assert.deepEqual(decoder.push(Buffer.concat([half, whole])), []);
    assert.deepEqual(
      decoder.dropPartial().map(({ id }) => id),
      [2],
    );
  });

  test("the caller may use its memory again", () => {
    const decoder = new AgentDecoder();
    const bytes = encodeFrame(0x90, 0, 2, Buffer.from("status"));
    const first = bytes.subarray(0, 26);
    decoder.push(first);
    first.fill(0);
    const [frame] = decoder.push(bytes.subarray(26));
    bytes.fill(0);
    assert.equal(frame?.body.toString(), "status");
  });
});

describe("bodies that make no sense are refused with what is wrong", () => {
  test("a greeting of a machine with other pages", () => {
    const body = Buffer.alloc(56);
    body.writeUInt32LE(16_384, 16);
    assert.throws(() => decodeHello(body), malformed(/pages of 16384 bytes/));
  });

  test("numbers past 2^53", () => {
    const body = Buffer.alloc(32);
    body.writeBigUInt64LE(2n ** 60n, 8);
    assert.throws(() => decodeHold(body), malformed(/past 2\^53/));
    assert.throws(
      () => decodeProcesses(Buffer.from(`1 ${"9".repeat(20)} 1 0 1 x\n`)),
      malformed(/not a number in range/),
    );
  });

  test("runs that do not add up", () => {
    const body = Buffer.alloc(32);
    body.writeBigUInt64LE(5n, 8);
    body.writeUInt16LE(4, 30);
    assert.throws(() => decodeFrames(body, 0n), malformed(/4 in runs, 5 in all/));
    assert.throws(() => decodeFrames(Buffer.alloc(27), 0n), malformed(/27 bytes/));
  });

  test("fewer bytes than were asked for", () => {
    const ranges = [{ address: 0, bytes: 8 }];
    assert.throws(() => decodeRead(Buffer.alloc(7), ranges), malformed(/7 bytes, not 8/));
  });

  test("lists with a line of another kind, or without an end", () => {
    assert.throws(() => decodeProcesses(Buffer.from("1 2 3\n")), malformed(/processes/));
    assert.throws(() => decodeApplications(Buffer.from("area 0x1 0x2\n")), malformed(/applic/));
    assert.throws(
      () => decodeApplications(Buffer.from("app 1 2 idle x")),
      malformed(/without end/),
    );
    assert.throws(() => decodeReadiness(Buffer.from("7 maybe\n")), malformed(/await-ready/));
  });

  test("names and texts of the guest cannot drive a terminal", () => {
    const [process] = decodeProcesses(Buffer.from("1 2 1 0 1 \u001b[2Jx\u0007\n"));
    assert.equal(process?.command, "?[2Jx?");
    const control = Buffer.from("1 2 \u009b2J\n");
    assert.throws(() => decodeProcesses(control), malformed(/processes: "1 2 \?2J"/));
    assert.deepEqual(decodeError(Buffer.from("\u0003\0\0\0no\u001b", "latin1")), {
      name: "DENIED",
      text: "no?",
    });
    assert.equal(decodeError(Buffer.alloc(2)).name, "UNKNOWN");
  });
});
