/** Both sides of the agent's protocol against bytes that neither of them has made. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as decode from "../../../src/assist/agent/decode.ts";
import * as encode from "../../../src/assist/agent/encode.ts";
import { framesPath, goldenBody, goldenFrames, goldenStreams } from "./load.ts";

const process = { pid: 4711, startTimeTicks: 0x123456789a };
const heap = { address: 0x7f0012345000, bytes: 0x10000000 };
const odd = { address: 0x7f0012345678, bytes: 4097 };

describe("frames", () => {
  for (const golden of goldenFrames) {
    test(`${golden.name} is written and read`, () => {
      const { type, flags, id, body, bytes } = golden;
      assert.deepEqual(encode.encodeFrame(type, flags, id, body), bytes);
      const decoder = new decode.AgentDecoder();
      assert.deepEqual(decoder.push(bytes), [{ type, flags, id, body }]);
      assert.equal(decoder.droppedBytes, 0);
      assert.equal(decoder.partialBytes, 0);
    });
  }

  for (const { name, bytes, found } of goldenStreams) {
    test(`what a reader finds: ${name}`, () => {
      for (const step of [1, 2, 5, 23, 25, 4096, 1 << 20]) {
        const decoder = new decode.AgentDecoder();
        const frames = [];
        for (let at = 0; at < bytes.length; at += step)
          frames.push(...decoder.push(bytes.subarray(at, at + step)));
        while (decoder.partialBytes > 0) frames.push(...decoder.dropPartial());
        assert.deepEqual(
          frames.map(({ type, id }) => `${type}:${id}`),
          found,
          `${step} bytes at a time`,
        );
      }
    });
  }

  test("the agent's own code agrees (guest/agent/frame.c)", () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-golden-"));
    try {
      const program = join(folder, "check");
      const sources = [join(import.meta.dirname, "check.c"), "guest/agent/frame.c"];
      const flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror"];
      const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover"];
      execFileSync("gcc", [...flags, ...sanitizers, "-o", program, ...sources]);
      const lines = goldenFrames.length + goldenStreams.length;
      assert.equal(execFileSync(program, [framesPath], { encoding: "utf8" }), `${lines} lines\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("bodies of requests", () => {
  const requests: Readonly<Record<string, Buffer>> = {
    hello: encode.encodeHello(0x0123456789abcdefn),
    processes: encode.encodeText("libjvm.so"),
    maps: encode.encodeProcess(process),
    read: encode.encodeRead(process, [odd, { address: heap.address, bytes: 8 }]),
    frames: encode.encodeFrames(process, [heap, odd], 0xfedcba9876543211n),
    write: encode.encodeWrite(process, odd.address, Uint8Array.of(0, 1, 255, 0, 0x7a)),
    "write-put-back": encode.encodeWrite(
      process,
      odd.address,
      Uint8Array.of(100, 0, 0, 0, 0, 0, 0, 0),
      {
        restoreWhenAlone: true,
      },
    ),
    "free-memory": encode.encodeNumber(48),
    hold: encode.encodeHold(process, {
      activeAddress: 0x7f0000000018,
      counterAddress: 0x7f000000001c,
      counterValue: 41,
      timeoutMs: 5000,
      holdMs: 3000,
      pollUs: 250,
    }),
    thaw: encode.encodeProcess(process),
    "thaw-all": encode.encodeProcess(undefined),
    extend: encode.encodeNumber(30_000),
    scrub: encode.encodeScrub(process, [odd], 2),
    "drop-caches": encode.encodeNumber(1),
    announce: encode.encodeAnnounce("prepare", 1500),
    "await-ready": encode.encodeNumber(1500),
    cancel: encode.encodeNumber(7),
  };
  for (const [name, body] of Object.entries(requests)) {
    test(name, () => assert.equal(body.toString("hex"), goldenBody(name).toString("hex")));
  }
});

describe("bodies of replies", () => {
  const replies: Readonly<Record<string, [unknown, unknown]>> = {
    hello: [
      decode.decodeHello(goldenBody("hello-reply")),
      {
        nonce: 0x0123456789abcdefn,
        hello: {
          version: 1,
          seesFrames: true,
          realTime: true,
          pageBytes: 4096,
          cpuCount: 2,
          holdMsMax: 30_000,
          agentPid: 118,
          memoryTotalBytes: 1 << 30,
          memoryFreeBytes: 123 << 20,
          pageCacheBytes: 45 << 12,
        },
      },
    ],
    processes: [
      decode.decodeProcesses(goldenBody("processes-reply")),
      [
        { ...process, namespacePid: 17, uid: 1000, threadCount: 23, command: "java" },
        { pid: 9, startTimeTicks: 1, namespacePid: 9, uid: 0, threadCount: 1, command: "a b)c" },
      ],
    ],
    frames: [
      decode.decodeFrames(goldenBody("frames-reply"), 0n),
      {
        digest: 0x1111n,
        runs: {
          digest: 0x1111n,
          presentPages: 65_538,
          absentPages: 7,
          firstFrames: Float64Array.of(0x9_1234_5678, 5),
          pageCounts: Uint16Array.of(65_535, 3),
        },
      },
    ],
    "frames, unchanged": [
      decode.decodeFrames(goldenBody("frames-unchanged"), 0xfedcba9876543211n),
      { digest: 0xfedcba9876543211n, runs: undefined },
    ],
    hold: [
      decode.decodeHold(goldenBody("hold-reply")),
      {
        counterNow: 42,
        taskCount: 23,
        waitUs: 1_234_567,
        freezeUs: 4500,
        retryCount: 2,
        gcUs: 38_750,
      },
    ],
    thaw: [decode.decodeThaw(goldenBody("thaw-reply")), { thawedCount: 1, longestHoldUs: 765_432 }],
    extend: [decode.decodeCount("extend", goldenBody("extend-reply")), 3],
    scrub: [
      decode.decodeScrub(goldenBody("scrub-reply")),
      { zeroedPages: 51_400, absentPages: 12, durationUs: 700_123 },
    ],
    "drop-caches": [
      decode.decodeDropCaches(goldenBody("drop-caches-reply")),
      { cacheBytesBefore: 100 << 20, cacheBytesAfter: 3 << 20, durationUs: 9000 },
    ],
    "free-memory": [
      decode.decodeFreeMemory(goldenBody("free-memory-reply")),
      { zeroedBytes: 500 << 20, durationUs: 321_000 },
    ],
    applications: [
      decode.decodeApplications(goldenBody("applications-reply")),
      [
        {
          pid: 77,
          startTimeTicks: 1234,
          state: "ready",
          name: "my cache",
          areas: [
            { address: 0x7f0012345000, bytes: 0x2000 },
            { address: 0x7f0012349000, bytes: 0x1000 },
          ],
        },
        { pid: 78, startTimeTicks: 1235, state: "begun", name: "", areas: [] },
      ],
    ],
    "await-ready": [
      decode.decodeReadiness(goldenBody("await-ready-reply")),
      [
        { pid: 77, state: "ready" },
        { pid: 78, state: "late" },
        { pid: 79, state: "gone" },
      ],
    ],
    error: [
      decode.decodeError(goldenBody("error")),
      { name: "GONE", text: "process 4711 is gone" },
    ],
  };
  for (const [name, [found, expected]] of Object.entries(replies)) {
    test(name, () => assert.deepEqual(found, expected));
  }
});
