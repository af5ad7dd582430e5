/**
 * Whether guest code really runs, at a useful speed. /dev/kvm can be there and openable and still not work, so QEMU is
 * started with a firmware of ours that does some work and tells us by QEMU's exit code.
 */
import { constants } from "node:fs";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GodwitError } from "../../base/index.ts";
import { type Processes, systemProcesses } from "../../io/index.ts";
import { bad, type Finding, good, reasonOf } from "./check.ts";
import type { QemuBinary } from "./find.ts";
import { firmwareExitCode, firmwareImage } from "./firmware.ts";

export type Accelerator = "kvm" | "tcg";

/**
 * Generous for a busy host, where hardware needs 0.03 s; and short enough to catch a KVM that only emulates (15 s). See
 * firmware.ts.
 */
const deadlinesMs: Readonly<Record<Accelerator, number>> = { kvm: 3_000, tcg: 20_000 };

/** Runs a small guest to its end. */
export async function probeAccelerator(
  accelerator: Accelerator,
  binary: QemuBinary,
  processes: Processes = systemProcesses,
): Promise<Finding> {
  if (accelerator === "kvm") {
    const closed = await probeDevice();
    if (closed !== undefined) return closed;
  }
  const directory = await mkdtemp(join(tmpdir(), "godwit-probe-"));
  try {
    const firmware = join(directory, "firmware");
    await writeFile(firmware, firmwareImage());
    const args = firmwareArguments(accelerator, firmware);
    const deadlineMs = deadlinesMs[accelerator];
    const result = await processes.run(binary.path, args, { deadlineMs });
    if (result.code === firmwareExitCode) return good("guest code runs");
    const words = result.stderr.trim().split("\n").slice(0, 2).join("; ");
    return failed(accelerator, words === "" ? `QEMU ended with ${result.code}` : words);
  } catch (error) {
    const slow = error instanceof GodwitError && error.code === "TIMEOUT";
    return failed(accelerator, slow ? tooSlow(accelerator) : reasonOf(error));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function firmwareArguments(accelerator: Accelerator, firmware: string): string[] {
  return [
    ["-machine", "pc", "-accel", accelerator, "-m", "16M", "-bios", firmware],
    ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"],
    ["-nodefaults", "-no-user-config", "-display", "none"],
  ].flat();
}

/** Undefined when /dev/kvm opens. */
async function probeDevice(): Promise<Finding | undefined> {
  try {
    const device = await open("/dev/kvm", constants.O_RDWR);
    await device.close();
    return undefined;
  } catch (error) {
    return failed("kvm", reasonOf(error));
  }
}

function tooSlow(accelerator: Accelerator): string {
  const seconds = deadlinesMs[accelerator] / 1000;
  const start = accelerator === "kvm" ? "/dev/kvm opens, but a" : "A";
  return `${start} guest of 40 million instructions did not end within ${seconds} s`;
}

function failed(accelerator: Accelerator, why: string): Finding {
  if (accelerator === "tcg") return bad(why, "this QEMU cannot emulate; install another build");
  return bad(why, kvmAdvice(why));
}

function kvmAdvice(why: string): string {
  const emulation = "without KVM VMs run under emulation (tcg), which is slow";
  if (why.includes("ENOENT")) {
    return `enable virtualisation in the firmware and load kvm_intel or kvm_amd; ${emulation}`;
  }
  if (/EACCES|EPERM|ermission/.test(why)) {
    return `run as root or add the user to the group kvm; ${emulation}`;
  }
  return `/dev/kvm is there but does not work, as in a VM without nested virtualisation; ${emulation}`;
}

/** What `auto` means on this host, by trying; an explicit choice is taken as it is. */
export async function acceleratorFor(
  definition: { readonly accelerator: "auto" | Accelerator },
  binary: QemuBinary,
): Promise<Accelerator> {
  if (definition.accelerator !== "auto") return definition.accelerator;
  const known = autoByBinary.get(binary.path) ?? resolveAuto(binary);
  autoByBinary.set(binary.path, known);
  return await known;
}

/** What a host can do does not change while we run, and trying takes up to a second. */
const autoByBinary = new Map<string, Promise<Accelerator>>();

async function resolveAuto(binary: QemuBinary): Promise<Accelerator> {
  return (await probeAccelerator("kvm", binary)).ok ? "kvm" : "tcg";
}
