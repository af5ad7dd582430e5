/**
 * One answer of `frames` may take several requests, each with a digest of its own: remembers the parts of the last answers, so
 * that parts which have not changed need not be sent again.
 */
import { assert } from "../../base/index.ts";
import type { AgentProcessIdentity, FrameRuns } from "./format.ts";

export type FramePart = FrameRuns;

/** One answer a process; an agent's host looks at few processes. */
const processCountMax = 64;

export class PartCache {
  readonly #answers = new Map<string, { digest: bigint; parts: readonly FramePart[] }>();

  find(process: AgentProcessIdentity, digest: bigint): readonly FramePart[] | undefined {
    const answer = this.#answers.get(keyOf(process));
    return answer?.digest === digest ? answer.parts : undefined;
  }

  keep(process: AgentProcessIdentity, digest: bigint, parts: readonly FramePart[]): void {
    this.#answers.delete(keyOf(process));
    this.#answers.set(keyOf(process), { digest, parts });
    const oldest = this.#answers.keys().next().value;
    if (this.#answers.size > processCountMax && oldest !== undefined) this.#answers.delete(oldest);
  }
}

function keyOf({ pid, startTimeTicks }: AgentProcessIdentity): string {
  return `${pid} ${startTimeTicks}`;
}

/** All parts as one answer. Its digest is that of the only part, or made of all parts' digests. */
export function joinParts(parts: readonly FramePart[]): FrameRuns {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const runCount = parts.reduce((sum, part) => sum + part.pageCounts.length, 0);
  const firstFrames = new Float64Array(runCount);
  const pageCounts = new Uint16Array(runCount);
  let digest = 0xcbf29ce484222325n;
  let at = 0;
  for (const part of parts) {
    firstFrames.set(part.firstFrames, at);
    pageCounts.set(part.pageCounts, at);
    at += part.pageCounts.length;
    digest = BigInt.asUintN(64, (digest ^ part.digest) * 0x100000001b3n);
  }
  assert(at === runCount, "every run has its place");
  return {
    digest: digest | 1n,
    presentPages: parts.reduce((sum, part) => sum + part.presentPages, 0),
    absentPages: parts.reduce((sum, part) => sum + part.absentPages, 0),
    firstFrames,
    pageCounts,
  };
}
