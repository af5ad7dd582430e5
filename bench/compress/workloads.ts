/** Guests that do real work: their memory is what memory usually is, and not random bytes. A line here adds one. */
import type { GuestVariant } from "../../guest/image/recipe.ts";
import { kernelWords, workloads as javaWorkloads } from "../javmm/workloads.ts";

export interface Workload {
  readonly name: string;
  readonly image: GuestVariant;
  /** Words of the guest's command line, see guest/image/README.md. */
  readonly words: string;
  /** From the first tick, which says that the load is at work, until the migration. */
  readonly settleMs: number;
}

export const workloads: readonly Workload[] = [
  { name: "idle", image: "small", words: "godwit.run=idle godwit.tickms=250", settleMs: 3_000 },
  { name: "java", image: "java", words: javaWords("h2"), settleMs: 8_000 },
  server("postgres"),
  server("redis"),
  server("compile", "gcc"),
];

/** guest/workload/server/run.sh says what they do. */
function server(name: string, app = name): Workload {
  return { name, image: "server", words: `godwit.run=server godwit.app=${app}`, settleMs: 5_000 };
}

function javaWords(name: string): string {
  const found = javaWorkloads(false).find((one) => one.name === name);
  if (found === undefined) throw new TypeError(`no Java workload ${name}`);
  return kernelWords(found, "Serial", undefined);
}
