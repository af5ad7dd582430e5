/**
 * Starts QEMU so that it outlives us, and finds it again later.
 *
 *     spawn (own session, stdout and stderr to qemu.log) → QMP answers → vm.json written → LaunchedVm
 *          └── any failure: QEMU is killed, and the error holds the end of qemu.log
 */
import { mkdir, readFile, rename } from "node:fs/promises";
import { GodwitError } from "../../base/index.ts";
import {
  type Clock,
  type DetachedProcess,
  isRunning,
  killProcess,
  type ProcessIdentity,
  type Processes,
  sleep,
  systemProcesses,
} from "../../io/index.ts";
import { acceleratorFor, type QemuBinary } from "../probe/index.ts";
import { describeVersion, QmpClient } from "../qmp/index.ts";
import { qemuArguments } from "./arguments.ts";
import { type RuntimePaths, runtimePaths } from "./paths.ts";
import { type LaunchedVm, readVmRecord, writeVmRecord } from "./record.ts";
import type { VmDefinition } from "./schema.ts";

export interface LaunchOptions {
  /** Becomes the VM's own folder (mode 0700); must not be shared. */
  readonly runtimeDirectory: string;
  readonly clock: Clock;
  readonly processes?: Processes;
  /** From `findQemu`. */
  readonly binary: QemuBinary;
  /** True for a destination: it waits for `migrate-incoming`. */
  readonly incoming?: boolean;
  /** True to start with the guest stopped. */
  readonly paused?: boolean;
  /** Settles the definition's `auto`; without it, KVM is tried. */
  readonly accelerator?: "kvm" | "tcg";
  /** Added to QEMU's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Until QMP answers. Default 30 000. */
  readonly deadlineMs?: number;
  readonly log?: (line: string) => void;
}

/**
 * Starts a VM. Fails with CONFLICT (one runs in that folder already), CONFIG_INVALID (path too long), QEMU_START (with the end
 * of QEMU's own words) or IO.
 */
export async function launchVm(
  definition: VmDefinition,
  options: LaunchOptions,
): Promise<LaunchedVm> {
  const { clock, processes = systemProcesses, binary, log = () => {} } = options;
  const paths = await prepareDirectory(options.runtimeDirectory, processes);
  const accelerator = options.accelerator ?? (await acceleratorFor(definition, binary));
  const args = qemuArguments(definition, paths, {
    accelerator,
    mode: options.incoming === true ? "incoming" : "fresh",
    paused: options.paused ?? false,
    qemuVersion: [binary.version.qemu.major, binary.version.qemu.minor],
  });
  log(`starting ${binary.path} ${args.join(" ")}`);
  const startedWallMs = clock.wallMs();
  const spec = { command: binary.path, args, logPath: paths.logPath };
  const environment = options.environment ?? {};
  const child = await processes.start({ ...spec, environment });
  try {
    const facts = await firstContact(child, paths, options);
    const { pid, startTimeTicks } = child;
    const running = { ...paths, ...facts, pid, startTimeTicks, accelerator, startedWallMs };
    const vm: LaunchedVm = { ...running, binary: binary.path, definition };
    await writeVmRecord(vm);
    return vm;
  } catch (error) {
    await killProcess(child, { clock, processes, graceMs: 0 });
    throw await withLogTail(error, paths.logPath);
  }
}

/** The VM that was launched in `runtimeDirectory` if its process still runs, else undefined. */
export async function findVm(
  runtimeDirectory: string,
  processes: Processes = systemProcesses,
): Promise<LaunchedVm | undefined> {
  const vm = await readVmRecord(runtimePaths(runtimeDirectory).recordPath);
  return vm !== undefined && isRunning(processes, vm) ? vm : undefined;
}

/**
 * The definition with what was decided at launch written out, for a destination whose own defaults may differ: machine
 * version, accelerator. The binary is left out: paths are each host's own.
 */
export function pinnedDefinition(vm: LaunchedVm): VmDefinition {
  const { binary: _, ...definition } = vm.definition;
  return { ...definition, machine: vm.machineType, accelerator: vm.accelerator };
}

async function prepareDirectory(directory: string, processes: Processes): Promise<RuntimePaths> {
  const paths = runtimePaths(directory);
  const other = await findVm(directory, processes);
  if (other !== undefined) {
    const who = `${other.definition.name} (process ${other.pid})`;
    throw new GodwitError("CONFLICT", `${who} runs in ${directory} already; end it first`);
  }
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // The log of the run before stays readable; the end of this one's is for error messages.
    await rename(paths.logPath, `${paths.logPath}.1`).catch(() => {});
  } catch (cause) {
    throw new GodwitError("IO", `cannot create the runtime directory ${directory}`, { cause });
  }
  return paths;
}

type FirstContact = Pick<LaunchedVm, "machineType" | "qemuVersion">;

async function firstContact(
  child: DetachedProcess,
  paths: RuntimePaths,
  options: LaunchOptions,
): Promise<FirstContact> {
  const deadlineMs = options.deadlineMs ?? 30_000;
  const until = options.clock.nowMs() + deadlineMs;
  let ended: string | undefined;
  void child.ended.then((how) => {
    ended = how;
  });
  for (;;) {
    const leftMs = until - options.clock.nowMs();
    if (ended !== undefined) throw new GodwitError("QEMU_START", `QEMU ended (${ended})`);
    if (leftMs <= 0) {
      throw new GodwitError("QEMU_START", `QEMU's monitor did not answer within ${deadlineMs} ms`);
    }
    const facts = await ask(paths.qmpPath, options, leftMs);
    if (facts !== undefined) return facts;
    await sleep(options.clock, 10);
  }
}

/** Undefined while nobody listens yet. */
async function ask(
  path: string,
  { clock, log = () => {} }: LaunchOptions,
  deadlineMs: number,
): Promise<FirstContact | undefined> {
  try {
    await using client = await QmpClient.connect(path, { clock, deadlineMs, log });
    const type = await client.execute("qom-get", { path: "/machine", property: "type" });
    const machineType = String(type).replace(/-machine$/, "");
    return { machineType, qemuVersion: describeVersion(client.version) };
  } catch (error) {
    if (error instanceof GodwitError && error.code === "QMP_CLOSED") return undefined;
    throw error;
  }
}

const logTailBytes = 2000;

async function withLogTail(error: unknown, logPath: string): Promise<GodwitError> {
  const text = await readFile(logPath, "utf8").catch(() => "");
  const tail = text.slice(-logTailBytes).trim();
  const why = error instanceof Error ? error.message : String(error);
  const words = tail === "" ? "it wrote nothing" : `the end of ${logPath}:\n${tail}`;
  return new GodwitError("QEMU_START", `${why}; ${words}`, { cause: error });
}

/** Ends a VM's process, whatever the guest is doing: SIGTERM, then SIGKILL. */
export function killVm(vm: ProcessIdentity, clock: Clock, graceMs = 5_000): Promise<void> {
  return killProcess(vm, { clock, graceMs });
}
