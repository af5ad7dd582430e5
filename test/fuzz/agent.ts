/**
 * What a hostile guest may send on its agent's port. For every input:
 * - the decoder never throws, finds the same frames however the bytes are split, and keeps at most one frame;
 * - a body gives values or a GodwitError, nothing else.
 */
import assert from "node:assert/strict";
import {
  AgentDecoder,
  decodeApplications,
  decodeCount,
  decodeDropCaches,
  decodeError,
  decodeFrames,
  decodeFreeMemory,
  decodeHello,
  decodeHold,
  decodeProcesses,
  decodeRead,
  decodeReadiness,
  decodeScrub,
  decodeThaw,
} from "../../src/assist/agent/decode.ts";
import { agentHeaderBytes, replyBodyBytesMax } from "../../src/assist/agent/format.ts";
import { goldenFrames, goldenStreams } from "../golden/agent/load.ts";
import type { FuzzTarget } from "./engine.ts";

const decoders: Readonly<Record<number, (body: Buffer) => unknown>> = {
  0x7f: decodeError,
  0x81: decodeHello,
  0x82: decodeProcesses,
  0x84: (body) => decodeRead(body, [{ address: 0, bytes: body.length }]),
  0x85: (body) => decodeFrames(body, 0x1111n),
  0x87: decodeHold,
  0x88: decodeThaw,
  0x89: (body) => decodeCount("extend", body),
  0x8a: decodeScrub,
  0x8b: decodeDropCaches,
  0x8c: decodeApplications,
  0x8e: decodeReadiness,
  0x91: decodeFreeMemory,
};

export const agentFrameTarget: FuzzTarget = {
  name: "agent-frames",
  corpus: () => [
    ...goldenStreams.map(({ bytes }) => bytes).filter((bytes) => bytes.length > 0),
    new Uint8Array(Buffer.concat(goldenFrames.map(({ bytes }) => bytes))),
  ],
  run: (bytes, prng) => {
    const whole = new AgentDecoder();
    const found = whole.push(bytes);
    const split = new AgentDecoder();
    const pieces = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + prng.integer(1, prng.pick([3, 100, 5000]));
      pieces.push(...split.push(bytes.subarray(at, end)));
      at = end;
    }
    assert.deepEqual(pieces, found);
    assert.ok(whole.partialBytes < agentHeaderBytes + replyBodyBytesMax);
    assert.equal(split.partialBytes, whole.partialBytes);
    const taken = found.reduce((sum, { body }) => sum + agentHeaderBytes + body.length, 0);
    assert.equal(taken + whole.droppedBytes + whole.partialBytes, bytes.length);
    while (whole.partialBytes > 0) found.push(...whole.dropPartial());
    for (const { type, body } of found) decoders[type]?.(body);
  },
};

/** Damaged bodies in sound frames: the type, then the body. */
export const agentBodyTarget: FuzzTarget = {
  name: "agent-bodies",
  corpus: () =>
    goldenFrames
      .filter(({ type }) => type in decoders)
      .map(({ type, body }) => new Uint8Array([type, ...body])),
  run: (bytes) => void decoders[bytes[0] ?? 0]?.(Buffer.from(bytes.subarray(1))),
};
