/** What is fuzzed. Add a target here: it then runs in `npm test` for two seconds and under `npm run fuzz`. */
import { agentBodyTarget, agentFrameTarget } from "./agent.ts";
import { codecTarget, streamsTarget } from "./codec.ts";
import type { FuzzTarget } from "./engine.ts";
import { frameTarget, mendedFrameTarget } from "./frames.ts";
import { fuzzQmp, qmpCorpus } from "./qmp.ts";
import { recordsTarget, returnPathTarget, streamTarget } from "./stream.ts";
import { traceTarget } from "./traces.ts";

export const targets: readonly FuzzTarget[] = [
  streamTarget,
  recordsTarget,
  returnPathTarget,
  frameTarget,
  mendedFrameTarget,
  agentFrameTarget,
  agentBodyTarget,
  codecTarget,
  streamsTarget,
  traceTarget,
  {
    name: "qmp",
    corpus: () => qmpCorpus.map((line) => new TextEncoder().encode(line)),
    // Damages lines of its own corpus, of which it knows where they end.
    run: (_, prng) => fuzzQmp(prng),
  },
];

const sound = (): Uint8Array[] => [new Uint8Array(64).fill(7)];

/** Each must fail, and for its own reason: they show that the engine notices. */
export const canaries: readonly (FuzzTarget & { readonly fails: RegExp })[] = [
  {
    name: "canary-throws",
    corpus: sound,
    run: (bytes) => new DataView(bytes.buffer).getUint8(63),
    fails: /^threw RangeError/,
  },
  {
    name: "canary-slow",
    corpus: sound,
    run: () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 350);
    },
    fails: /^took \d+ ms/,
  },
  {
    name: "canary-greedy",
    corpus: sound,
    run: (bytes) => {
      kept = new Uint8Array((bytes[0] ?? 0) === 7 ? 40 << 20 : 41 << 20);
    },
    fails: /^allocated \d+ bytes/,
  },
];

/** Keeps what a canary allocates from being collected before it is counted. */
export let kept: Uint8Array | undefined;
