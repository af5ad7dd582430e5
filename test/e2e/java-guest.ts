/** Guests with a Java VM that checks its own work, for tests of assistance. */
import { buildGuestImage } from "../../guest/image/build.ts";
import {
  checkDefinition,
  type LaunchedVm,
  type VmDefinition,
} from "../../src/qemu/launch/index.ts";
import type { Harness } from "./harness.ts";

export type Collector = "Serial" | "Parallel" | "G1" | "Z" | "Shenandoah" | "Epsilon";

export interface JavaGuestOptions {
  readonly name: string;
  readonly variant?: "java" | "java-8" | "java-11" | "java-21" | "java-25";
  readonly collector?: Collector;
  /** MiB. */
  readonly young?: number;
  readonly heap?: number;
  readonly memory?: string;
  readonly vcpus?: number;
  /** Class and options, blanks as commas: guest/workload/java. */
  readonly program?: string;
  /** More words for the JVM, commas between them. */
  readonly jvm?: string;
  /** More words for the guest. */
  readonly words?: string;
  readonly more?: Record<string, unknown>;
}

export async function javaDefinition(options: JavaGuestOptions): Promise<VmDefinition> {
  const image = await buildGuestImage(options.variant ?? "java", {});
  const { collector = "Serial", young = 96, heap = 192 } = options;
  const jvm = [
    "-XX:TieredStopAtLevel=1",
    `-XX:+Use${collector}GC`,
    `-Xmn${young}m`,
    `-Xmx${heap}m`,
    ...(options.jvm === undefined ? [] : [options.jvm]),
  ].join(",");
  return checkDefinition({
    name: options.name,
    memory: options.memory ?? "512M",
    vcpus: options.vcpus ?? 1,
    machine: "q35",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    disks: [{ file: image.diskPath, format: "raw", readOnly: true }],
    commandLine: [
      "console=ttyS0 quiet panic=-1 random.trust_cpu=on godwit.agent=1 godwit.run=java",
      `godwit.args=${options.program ?? "Alloc,live=24,rate=120"}`,
      `godwit.jvm=${jvm}`,
      ...(options.words === undefined ? [] : [options.words]),
    ].join(" "),
    ...options.more,
  });
}

/** Boots one and waits until its program works. */
export async function javaGuest(harness: Harness, options: JavaGuestOptions): Promise<LaunchedVm> {
  const vm = await harness.boot(await javaDefinition(options));
  await harness.ticks(vm, 4, 90_000);
  return vm;
}
