/** What is measured: the guest, the link, workloads and collectors. Environment variables narrow it down. */
import { narrowing } from "../environment.ts";
import type { BenchOptions } from "../harness.ts";
import type { CaseSettings } from "../migrate/case.ts";
import { type Workload, workloads } from "./workloads.ts";

export const collectors = ["Serial", "Parallel", "G1"] as const;
export type Collector = (typeof collectors)[number];

export interface Settings extends CaseSettings {
  readonly linkMegabits: number;
  readonly memoryMebibytes: number;
  readonly repetitions: number;
  readonly workloads: readonly Workload[];
  readonly collectors: readonly Collector[];
  /** Undefined: all. */
  readonly cases: readonly string[] | undefined;
  /** Image variant, which says the Java version. */
  readonly variant: JavaName;
  /** How long the application is watched before the migration, for its usual rate and its usual gaps. */
  readonly beforeMs: number;
  /** Added to the JVM's options. */
  readonly jvm: string | undefined;
}

const variants = ["java", "java-8", "java-11", "java-21", "java-25"] as const;
type JavaName = (typeof variants)[number];

/** `caseNames`: all that there are. Throws CONFIG_INVALID on names that are not known. */
export function settingsOf({ quick }: BenchOptions, caseNames: readonly string[]): Settings {
  const { number, names, text } = narrowing();
  const all = workloads(quick);
  const workloadNames = all.map(({ name }) => name);
  const chosen = names("WORKLOADS", workloadNames) ?? (quick ? ["alloc"] : undefined);
  const collected = names("COLLECTORS", collectors) ?? (quick ? ["Parallel"] : undefined);
  const quickCases = ["xen-rule", "godwit", "godwit-assist"];
  return {
    linkMegabits: number("LINK", quick ? 400 : 250),
    memoryMebibytes: number("MEMORY", quick ? 512 : 1024),
    repetitions: number("REPETITIONS", 1),
    boundMs: number("BOUND", quick ? 20 : 60) * 1000,
    downtimeLimitMs: 300,
    warmWorkers: text("WORKERS") !== "cold",
    workloads: all.filter(({ name }) => chosen?.includes(name) ?? true),
    collectors: collectors.filter((name) => collected?.includes(name) ?? true),
    cases: names("CASES", caseNames) ?? (quick ? quickCases : undefined),
    variant: variants.find((name) => name === text("VARIANT")) ?? "java",
    beforeMs: number("BEFORE", quick ? 3 : 6) * 1000,
    jvm: text("JVM"),
  };
}
