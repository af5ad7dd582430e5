/** Every fuzz target for two seconds. SEED=n repeats a run; longer ones: npm run fuzz. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fuzz } from "./engine.ts";
import { canaries, targets } from "./targets.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
const seconds = 2;

describe("fuzzing", () => {
  for (const target of targets) {
    test(`${target.name} survives damaged input for ${seconds} s (seed ${seed})`, () => {
      const { caseCount, refusedCount, failure } = fuzz(target, { seed, seconds });
      if (failure !== undefined) {
        const replay = `npm run fuzz -- ${target.name} --seconds 0 --seed ${failure.seed}`;
        assert.fail(`${failure.reason}\nreplay: ${replay}`);
      }
      assert.ok(caseCount >= 20, `only ${caseCount} cases`);
      // The QMP target judges by itself and refuses nothing.
      if (target.name !== "qmp") assert.ok(refusedCount > 0 && refusedCount < caseCount);
    });
  }

  for (const canary of canaries) {
    test(`the engine notices a target that must fail (${canary.name})`, () => {
      const limits = { caseMsMax: 300, allocatedBytesMax: 16 << 20 };
      const { failure } = fuzz(canary, { seed, seconds: 60, caseCountMax: 2000, limits });
      assert.match(failure?.reason ?? "nothing failed", canary.fails);
      const again = fuzz(canary, { seed: failure?.seed ?? 0, seconds: 0, limits });
      assert.match(again.failure?.reason ?? "nothing failed", canary.fails, "a seed replays it");
    });
  }
});
