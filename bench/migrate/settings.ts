/** What is measured: the guest, the link, the workloads. Environment variables narrow a run down while one works on it. */
import { narrowing } from "../environment.ts";
import type { BenchOptions } from "../harness.ts";
import type { CaseSettings } from "./case.ts";

export interface Workload {
  readonly name: string;
  /** Words of the guest's command line, see guest/image/README.md. */
  readonly words: string;
}

export interface Settings extends CaseSettings {
  readonly linkMegabits: number;
  readonly memoryMebibytes: number;
  readonly repetitions: number;
  readonly workloads: readonly Workload[];
  /** Undefined: all. */
  readonly cases: readonly string[] | undefined;
}

/** `caseNames`: all that there are. Throws CONFIG_INVALID on names that are not known. */
export function settingsOf({ quick }: BenchOptions, caseNames: readonly string[]): Settings {
  const { number, names, text } = narrowing();
  const linkMegabits = number("LINK", 400);
  const memoryMebibytes = number("MEMORY", quick ? 256 : 512);
  const all = workloads(linkMegabits, memoryMebibytes);
  const chosen = names(
    "WORKLOADS",
    all.map(({ name }) => name),
  );
  return {
    linkMegabits,
    memoryMebibytes,
    repetitions: number("REPETITIONS", quick ? 1 : 3),
    boundMs: number("BOUND", quick ? 15 : 25) * 1000,
    downtimeLimitMs: 300,
    workloads: all.filter(({ name }) => chosen?.includes(name) ?? true),
    warmWorkers: text("WORKERS") !== "cold",
    cases: names("CASES", caseNames),
  };
}

/**
 * The same program and the same memory in all of them: half of the guest's memory is filled with random bytes and checked
 * all the time, 64 MiB a second; they differ in what is written. Whole pages are written with new random bytes: nothing that
 * compression or XBZRLE could save. In random order: a sequence may run just ahead of QEMU's, or just behind it, all the
 * way, which makes a difference of 10 % that means nothing.
 */
function workloads(linkMegabits: number, memoryMebibytes: number): readonly Workload[] {
  const mebibytes = memoryMebibytes >> 1;
  const link = linkMegabits / 8;
  const words = (rate: number, hot: number): string =>
    `godwit.run=writer godwit.mb=${mebibytes} godwit.sweep=64 godwit.rate=${Math.round(rate)} godwit.hot=${hot} godwit.order=random`;
  return [
    { name: "idle", words: words(0, mebibytes) },
    { name: "half", words: words(link / 2, Math.round(mebibytes * 0.375)) },
    { name: "twice", words: words(link * 2, Math.round(mebibytes * 0.75)) },
  ];
}
