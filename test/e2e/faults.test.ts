/**
 * Everything that can break in a migration, in every state of both machines, with real QEMUs and a guest that checks itself:
 * afterwards exactly one VM runs, or none and the text says what to do. GODWIT_FAULTS=all also tries the pairs that the
 * default leaves out; GODWIT_FAULTS=TEXT only those whose name has it.
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { destinationMoves } from "../../src/migrate/destination/machine.ts";
import { sourceMoves } from "../../src/migrate/source/machine.ts";
import { FaultWorld } from "./fault-world.ts";
import { expectedOf, faults, isDefault, stops } from "./fault-cases.ts";
import { skip } from "./support.ts";

const only = process.env["GODWIT_FAULTS"] ?? "";
/** Most of the time is waiting: for silence to be noticed, for ticks of a guest. */
const concurrency = 2;
const worlds = Array.from({ length: concurrency }, () => new FaultWorld());
const free = [...worlds];

after(async () => {
  await Promise.allSettled(worlds.map((world) => world[Symbol.asyncDispose]()));
});

describe("faults", { concurrency }, () => {
  for (const stop of stops) {
    for (const fault of faults) {
      const expected = expectedOf(stop, fault);
      if (expected === undefined) continue;
      const name = `${fault} [${stop.side} at ${stop.point}]`;
      if (only === "" ? !isDefault(stop, fault) : only !== "all" && !name.includes(only)) continue;
      test(`${name}: the VM runs ${expected.runs.join(" or ")}`, { skip }, async () => {
        const world = free.pop();
        assert.ok(world !== undefined, "no more tests at a time than worlds");
        try {
          await world.run(stop, fault, expected);
        } finally {
          free.push(world);
        }
      });
    }
  }
});

/** The phase in which an effect is carried out. */
const phaseOfEffect: Readonly<Record<string, string>> = {
  "effect:start-stream": "setup",
  "effect:hand-over": "handover",
  "effect:tell-handed-over": "handover",
  "effect:start-vm": "starting",
};

test("the table of faults has every phase of both machines in which something is under way", () => {
  const machines = { source: sourceMoves, destination: destinationMoves };
  for (const [side, moves] of Object.entries(machines)) {
    const points = stops.filter((stop) => stop.side === side).map(({ point }) => point);
    const phases = points.map((point) => phaseOfEffect[point] ?? point.replace("phase:", ""));
    for (const [phase, next] of Object.entries(moves)) {
      if (phase !== "idle" && next.length > 0) assert.ok(phases.includes(phase), phase);
    }
  }
});
