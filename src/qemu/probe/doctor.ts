/** All probes in one list: what `godwit doctor` prints, and what the daemon reports about its host. */
import { GodwitError } from "../../base/index.ts";
import { type Clock, type Processes, systemClock, systemProcesses } from "../../io/index.ts";
import { describeVersion, type QemuVersion } from "../qmp/index.ts";
import { probeAccelerator } from "./accelerator.ts";
import { type QemuFacts, queryQemu } from "./capabilities.ts";
import { bad, type Check, type Finding, good, reasonOf } from "./check.ts";
import { cacheDirectory, type FindOptions, findQemu, type QemuBinary } from "./find.ts";
import { probeAes, probeDelay, probeDirectory, probeNamespaces, probeRateLimit } from "./host.ts";

export interface ProbeOptions extends FindOptions {
  readonly clock?: Clock;
  /** Where the daemon keeps the VMs' sockets. Default /run/godwit. */
  readonly runtimeDirectory?: string;
}

/** Without these godwit cannot migrate at all. */
const capabilitiesRequired = ["events", "return-path"];
/** Each of these, when missing, costs what is said. */
const capabilitiesWanted: Readonly<Record<string, string>> = {
  "late-block-activate": "a destination may lock the disk images before the source has let go",
  "postcopy-ram": "no slim restore: memory cannot follow on demand",
  "x-colo": "no checkpoint replication (built without CONFIG_REPLICATION)",
  "x-ignore-shared": "no checkpoints by device state alone",
};
const parametersWanted: Readonly<Record<string, string>> = {
  "avail-switchover-bandwidth": "QEMU older than 8.2 estimates the downtime less well",
};

/** Runs every probe; never fails, as a probe that fails is a finding. Takes a few seconds. */
export async function probeHost(options: ProbeOptions = {}): Promise<Check[]> {
  const processes = options.processes ?? systemProcesses;
  const runtime = options.runtimeDirectory ?? "/run/godwit";
  const binary = await findQemu(options).catch((error: unknown) => reasonOf(error));
  const qemu =
    typeof binary === "string"
      ? [check("qemu", true, bad(binary, "install QEMU, or set GODWIT_QEMU to its path"))]
      : await probeQemu(binary, processes, options.clock ?? systemClock);
  return [
    ...qemu,
    check("network-namespaces", false, await probeNamespaces(processes)),
    check("traffic-rate", false, await probeRateLimit(processes)),
    check("traffic-delay", false, await probeDelay(processes)),
    check("aes", false, await probeAes()),
    check("cache-directory", false, await probeDirectory(cacheDirectory(options.environment))),
    check("runtime-directory", true, await probeDirectory(runtime)),
  ];
}

function check(name: string, required: boolean, finding: Finding): Check {
  return { name, required, ...finding };
}

async function probeQemu(binary: QemuBinary, processes: Processes, clock: Clock): Promise<Check[]> {
  const version = describeVersion(binary.version);
  const found = good(`QEMU ${version} at ${binary.path} (from ${binary.source})`);
  const tcg = await probeAccelerator("tcg", binary, processes);
  const kvm = await probeAccelerator("kvm", binary, processes);
  return [
    check("qemu", true, found),
    check("kvm", false, kvm),
    check("tcg", !kvm.ok, tcg),
    check("tcg-dirty-pages", !kvm.ok, probeTcgDirtyPages(binary.version)),
    ...(await probeMigration(binary, clock)),
  ];
}

async function probeMigration(binary: QemuBinary, clock: Clock): Promise<Check[]> {
  let facts: QemuFacts;
  try {
    facts = await queryQemu(binary, clock);
  } catch (error) {
    return [
      check("qmp", true, bad(reasonOf(error), "this QEMU does not start; try another build")),
    ];
  }
  return [
    check("qmp", true, good("the monitor answers")),
    check("migration", true, requiredCapabilities(facts)),
    ...wanted("capability", capabilitiesWanted, facts.migrationCapabilities),
    ...wanted("parameter", parametersWanted, facts.migrationParameters),
    check("colo", false, probeColo(facts)),
    check("guest-memory", false, guestMemory(facts)),
  ];
}

function requiredCapabilities({ migrationCapabilities }: QemuFacts): Finding {
  const missing = capabilitiesRequired.filter((name) => !migrationCapabilities.has(name));
  if (missing.length === 0) return good(`has ${capabilitiesRequired.join(", ")}`);
  return bad(`misses ${missing.join(", ")}`, "use QEMU 7.2 or newer");
}

function wanted(
  kind: string,
  table: Readonly<Record<string, string>>,
  present: ReadonlySet<string>,
): Check[] {
  return Object.entries(table).map(([name, loss]) =>
    check(
      `migration-${kind}-${name}`,
      false,
      present.has(name) ? good("present") : bad("missing", `${loss}; use a newer or fuller QEMU`),
    ),
  );
}

function guestMemory({ ramBlockAddresses, memoryUnreadable }: QemuFacts): Finding {
  if (!ramBlockAddresses) {
    return bad("`info ramblock` has no column HVA", "--verify needs QEMU 8.0 or newer");
  }
  if (memoryUnreadable === undefined) return good("a QEMU's memory can be read by /proc/PID/mem");
  return bad(memoryUnreadable, "--verify needs root or CAP_SYS_PTRACE, and ptrace_scope below 3");
}

/**
 * Bug B1: under TCG, QEMU before 9.0 lost dirty pages, so that migrated guests were corrupt now and then. Fixed by commit
 * 03bfc2188f06 ("physmem: Fix migration dirty bitmap coherency with TCG memory access", March 2024, in 9.0.0). Seen with
 * 7.2.22 (3 of 6 destinations corrupt), not seen with 10.0.13. KVM was never affected.
 */
export function losesDirtyPages(accelerator: "kvm" | "tcg", version: QemuVersion): boolean {
  return accelerator === "tcg" && version.qemu.major < 9;
}

/** Throws QEMU_UNSUPPORTED when migrating or protecting such a VM could corrupt it. */
export function assertKeepsDirtyPages(accelerator: "kvm" | "tcg", version: QemuVersion): void {
  if (!losesDirtyPages(accelerator, version)) return;
  throw new GodwitError(
    "QEMU_UNSUPPORTED",
    `QEMU ${describeVersion(version)} without KVM loses writes of the guest while it is migrated (fixed in QEMU 9.0); ` +
      "the copy could be corrupt. Use KVM, or QEMU 9.0 or newer",
  );
}

function probeTcgDirtyPages(version: QemuVersion): Finding {
  if (!losesDirtyPages("tcg", version)) return good("no writes are lost under emulation");
  return bad(
    `QEMU ${describeVersion(version)} loses guest writes while an emulated (tcg) VM is migrated`,
    "use QEMU 9.0 or newer; VMs with KVM are not affected",
  );
}

/** Tried: 7.2.22 and 10.0.13 enter COLO, 10.0.2 never does. Others are unknown, and said to be so. */
function probeColo({ migrationCapabilities, version }: QemuFacts): Finding {
  const text = describeVersion(version);
  const { major, minor, micro } = version.qemu;
  if (!migrationCapabilities.has("x-colo")) {
    return bad("the capability x-colo is missing", "protect needs a QEMU built with replication");
  }
  if (major === 10 && minor === 0 && micro < 13) {
    return bad(`QEMU ${text} may never enter COLO (10.0.2 does not)`, "use QEMU 10.0.13");
  }
  const tried = text === "10.0.13" || text.startsWith("7.2.");
  return good(tried ? `QEMU ${text} is known to work` : `QEMU ${text} has not been tried`);
}
