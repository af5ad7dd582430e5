/** The Java programs of guest/workload/java, each with a heap that suits it. */
import type { Collector } from "./settings.ts";

export interface Workload {
  readonly name: string;
  /** Class and arguments. */
  readonly program: readonly string[];
  /** MiB. */
  readonly youngMebibytes: number;
  readonly heapMebibytes: number;
  /** At least, from the first tick on, before its rate is looked at. */
  readonly settleMs: number;
}

/**
 * - alloc: JAVMM's best case, a large young generation full of garbage: ten times what the link carries.
 * - old: its worst case: 300 MB that live for ever and change slowly, and hardly any garbage.
 * - The others do real work with libraries of Debian or the JDK alone. What they keep is small, so that each also keeps
 *   60 MB alive, which it checks; and their young generation is small, so that it is filled a few times a minute.
 */
export function workloads(quick: boolean): readonly Workload[] {
  const alloc = quick
    ? { program: ["Alloc", "live=40", "rate=300"], youngMebibytes: 220, heapMebibytes: 300 }
    : { program: ["Alloc", "live=80", "rate=300"], youngMebibytes: 480, heapMebibytes: 640 };
  const real = { youngMebibytes: 96, heapMebibytes: 320, settleMs: 8_000 };
  const old = quick ? 120 : 300;
  return [
    { name: "alloc", settleMs: 4_000, ...alloc },
    {
      name: "old",
      program: ["Old", `mb=${old}`, "rate=8"],
      youngMebibytes: 24,
      heapMebibytes: old + 120,
      settleMs: 4_000,
    },
    { name: "derby", program: ["Derby", "live=60", "checks=16"], ...real },
    { name: "h2", program: ["H2", "live=60", "checks=8"], ...real },
    { name: "xalan", program: ["Xalan", "live=60", "checks=24"], ...real },
    { name: "javac", program: ["Javac", "live=60", "checks=200"], ...real },
    { name: "crypto", program: ["Crypto", "live=60", "checks=24"], ...real },
    { name: "serial", program: ["Serialize", "live=60", "checks=24"], ...real },
    { name: "compress", program: ["Compress", "live=60", "checks=48"], ...real },
  ];
}

/**
 * C1 alone: under emulation the other compiler is still busy when the migration is over. Xmn and Xmx as a user may set
 * them; nothing that godwit would need.
 */
export function kernelWords(
  workload: Workload,
  collector: Collector,
  more: string | undefined,
): string {
  const jvm = [
    "-XX:TieredStopAtLevel=1",
    `-XX:+Use${collector}GC`,
    `-Xmn${workload.youngMebibytes}m`,
    `-Xmx${workload.heapMebibytes}m`,
    ...(more === undefined ? [] : [more]),
  ];
  return `godwit.agent=1 godwit.run=java godwit.args=${workload.program.join(",")} godwit.jvm=${jvm.join(",")}`;
}
