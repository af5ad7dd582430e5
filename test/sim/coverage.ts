/** Which fault struck while which machine was in which phase; how the runs ended. */
import {
  destinationPhases,
  type FaultKind,
  faultKinds,
  type Side,
  sourcePhases,
} from "./faults.ts";
import type { World } from "./world.ts";

const phases: Readonly<Record<Side, readonly string[]>> = {
  source: sourcePhases,
  destination: destinationPhases,
};

/** There is nothing to hit yet. */
const impossible: ReadonlySet<string> = new Set([
  "source idle kill-destination-worker",
  "source idle kill-destination-qemu",
  "destination idle kill-destination-qemu",
]);

export class Coverage {
  readonly #cells = new Map<string, number>();
  readonly #results = new Map<string, number>();
  readonly #struck = new Map<string, number>();

  add(world: World): void {
    for (const hit of world.hits) {
      increase(this.#cells, `source ${hit.source} ${hit.fault.kind}`);
      increase(this.#cells, `destination ${hit.destination} ${hit.fault.kind}`);
    }
    for (const kind of world.struck) increase(this.#struck, kind);
    const { source, destination } = world.outcomes;
    increase(this.#results, `${source?.result ?? "killed"} / ${destination?.result ?? "none"}`);
  }

  /** Cells that should have been hit, and were not. */
  missing(): readonly string[] {
    const names: string[] = [];
    for (const side of ["source", "destination"] as const) {
      for (const phase of phases[side]) {
        for (const kind of faultKinds) names.push(`${side} ${phase} ${kind}`);
      }
    }
    return names.filter((name) => !this.#cells.has(name) && !impossible.has(name));
  }

  describe(): string {
    const lines: string[] = [];
    for (const side of ["source", "destination"] as const) {
      lines.push(row(side, phases[side]));
      for (const kind of faultKinds)
        lines.push(row(kind, phases[side].map(this.#count(side, kind))));
      lines.push("");
    }
    lines.push("faults that wait for an operation, and found one", ...list(this.#struck), "");
    lines.push("results, source / destination", ...list(this.#results));
    return lines.join("\n");
  }

  #count(side: Side, kind: FaultKind): (phase: string) => string {
    return (phase) => {
      const name = `${side} ${phase} ${kind}`;
      return impossible.has(name) ? "-" : String(this.#cells.get(name) ?? 0);
    };
  }
}

function list(counts: ReadonlyMap<string, number>): string[] {
  const sorted = [...counts].toSorted((a, b) => b[1] - a[1]);
  return sorted.map(([name, count]) => `${String(count).padStart(8)}  ${name}`);
}

function row(name: string, cells: readonly string[]): string {
  return name.padEnd(27) + cells.map((cell) => cell.padStart(11)).join("");
}

function increase(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
