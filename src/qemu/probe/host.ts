/** Probes of the host itself: each tries what godwit will do. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Processes } from "../../io/index.ts";
import { bad, type Finding, good, reasonOf } from "./check.ts";

/** Demos and link benchmarks use one namespace per simulated host. */
export async function probeNamespaces(processes: Processes): Promise<Finding> {
  const advice = "demos and benchmarks on a simulated link need root and the package iproute2";
  return await tries(processes, "network namespaces work", advice, ["ip", "link", "show", "lo"]);
}

/** A rate limit (tbf), in a namespace of its own that goes away with the command. */
export async function probeRateLimit(processes: Processes): Promise<Finding> {
  const advice = "links cannot be slowed down: install iproute2 and load the module sch_tbf";
  const limit = ["tbf", "rate", "100mbit", "burst", "64kb", "latency", "50ms"];
  return await tries(processes, "tc can limit a rate", advice, [...qdiscAdd, ...limit]);
}

/** Delay and loss (netem), in the same way. */
export async function probeDelay(processes: Processes): Promise<Finding> {
  const advice = "long-distance links cannot be simulated: load the module sch_netem";
  return await tries(processes, "tc can delay", advice, [...qdiscAdd, "netem", "delay", "1ms"]);
}

const qdiscAdd = ["tc", "qdisc", "add", "dev", "lo", "root"];

async function tries(
  processes: Processes,
  success: string,
  advice: string,
  command: readonly string[],
): Promise<Finding> {
  try {
    const result = await processes.run("unshare", ["--net", ...command], { deadlineMs: 10_000 });
    if (result.code === 0) return good(success);
    return bad(reasonOf(result.stderr.trim()), advice);
  } catch (error) {
    return bad(reasonOf(error), advice);
  }
}

/** Without AES instructions TLS costs several times more CPU. */
export async function probeAes(): Promise<Finding> {
  const text = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  if (/^(flags|Features)\s*:.*\baes\b/m.test(text)) return good("the CPU has AES instructions");
  return bad("the CPU shows no AES instructions", "TLS will be slow; pass AES through to this VM");
}

/** Creates the directory if need be, and something in it. */
export async function probeDirectory(path: string): Promise<Finding> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await rm(await mkdtemp(join(path, ".probe-")), { recursive: true });
    return good(`${path} can be written`);
  } catch (error) {
    return bad(reasonOf(error), `make ${path} writable for this user, or configure another one`);
  }
}

/**
 * Names what the CPU model `host` means here: two hosts with the same fingerprint can exchange such VMs. QEMU does not
 * check this by itself: a guest that finds a feature gone crashes later.
 */
export async function hostCpuFingerprint(): Promise<string> {
  const text = await readFile("/proc/cpuinfo", "utf8");
  const line = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(text)?.[1] ?? "";
  const flags = line("flags").split(" ").toSorted().join(" ");
  const hash = createHash("sha256").update(flags).digest("hex").slice(0, 12);
  return `${line("vendor_id")} family ${line("cpu family")} model ${line("model")} features ${hash}`;
}
