/**
 * Other programs, behind a small interface: run one to its end, start one that outlives us, recognise and end it later.
 *
 * A pid alone names nobody: it is given again once the process is gone. A process is therefore known by its pid *and* its
 * start time (field 22 of /proc/PID/stat). Between that check and the signal a few microseconds remain; Node has no
 * pidfd.
 */
import { execFile, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { GodwitError } from "../base/index.ts";
import { type Clock, sleep } from "./clock.ts";

export interface ProcessIdentity {
  readonly pid: number;
  /** Kernel clock ticks since boot. */
  readonly startTimeTicks: number;
}

export interface RunResult {
  /** Exit code, or -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** The program is killed when it takes longer. Default 30 000. */
  readonly deadlineMs?: number;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface DetachedSpec {
  readonly command: string;
  readonly args: readonly string[];
  /** Receives stdout and stderr; appended to, created with mode 0600. */
  readonly logPath: string;
  /** Added to our own environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface DetachedProcess extends ProcessIdentity {
  /** Resolves with a description ("exit code 1", "signal SIGKILL") if it ends while we live. Never rejects. */
  readonly ended: Promise<string>;
}

export interface Processes {
  /** Runs a program to its end, without a shell. Any exit code is a result. Fails with IO or TIMEOUT. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts a program in a session of its own, so that it outlives us. Fails with IO. */
  start(spec: DetachedSpec): Promise<DetachedProcess>;
  /** Who has this pid now; undefined when nobody has, or only its zombie is left. */
  identify(pid: number): ProcessIdentity | undefined;
  /** Signals the very process, if it is still there; answers whether it was. Fails with IO when not permitted. */
  signal(process: ProcessIdentity, signal: "SIGTERM" | "SIGKILL"): boolean;
}

const outputBytesMax = 16 * 1024 * 1024;

export const systemProcesses: Processes = {
  run(command, args, options = {}) {
    const deadlineMs = options.deadlineMs ?? 30_000;
    const settings = {
      timeout: deadlineMs,
      killSignal: "SIGKILL" as const,
      maxBuffer: outputBytesMax,
      env: { ...process.env, ...options.environment },
    };
    return new Promise((resolve, reject) => {
      execFile(command, args, settings, (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr });
        else if (typeof error.code === "number") resolve({ code: error.code, stdout, stderr });
        else if (typeof error.code === "string") reject(cannotRun(command, error));
        else if (error.killed === true) reject(tooSlow(command, deadlineMs));
        else resolve({ code: -1, stdout, stderr });
      });
    });
  },

  async start(spec) {
    const log = openSync(spec.logPath, "a", 0o600);
    const child = spawn(spec.command, spec.args, {
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...process.env, ...spec.environment },
    });
    closeSync(log);
    child.unref();
    const ended = new Promise<string>((resolve) => {
      child.on("exit", (code, signal) => {
        resolve(code === null ? `signal ${signal ?? "?"}` : `exit code ${code}`);
      });
    });
    const failed = new Promise<Error>((resolve) => child.on("error", resolve));
    if (child.pid === undefined) throw cannotRun(spec.command, await failed);
    // Read before the event loop can reap the child: the entry in /proc exists even if it has ended already.
    const startTimeTicks = readStat(child.pid)?.startTimeTicks ?? -1;
    return { pid: child.pid, startTimeTicks, ended };
  },

  identify(pid) {
    const stat = readStat(pid);
    return stat === undefined || stat.state === "Z" || stat.state === "X"
      ? undefined
      : { pid, startTimeTicks: stat.startTimeTicks };
  },

  signal(target, signal) {
    if (!isRunning(systemProcesses, target)) return false;
    try {
      return process.kill(target.pid, signal);
    } catch (cause) {
      if (isErrno(cause, "ESRCH")) return false;
      throw new GodwitError("IO", `cannot send ${signal} to process ${target.pid}`, { cause });
    }
  },
};

/** Whether this very process still runs. */
export function isRunning(processes: Processes, target: ProcessIdentity): boolean {
  return processes.identify(target.pid)?.startTimeTicks === target.startTimeTicks;
}

export interface KillOptions {
  readonly clock: Clock;
  readonly processes?: Processes;
  /** From SIGTERM until SIGKILL. Default 5 000; 0 is SIGKILL at once. */
  readonly graceMs?: number;
  /** From SIGKILL until TIMEOUT: a process in an uninterruptible wait cannot be ended. Default 5 000. */
  readonly deadlineMs?: number;
}

/** Ends the very process: SIGTERM, then SIGKILL. Returns once it is gone; one that is gone already is no failure. */
export async function killProcess(target: ProcessIdentity, options: KillOptions): Promise<void> {
  const { clock, processes = systemProcesses, graceMs = 5_000, deadlineMs = 5_000 } = options;
  if (graceMs > 0) {
    if (!processes.signal(target, "SIGTERM")) return;
    if (await isGoneWithin(processes, target, clock, graceMs)) return;
  }
  if (!processes.signal(target, "SIGKILL")) return;
  if (await isGoneWithin(processes, target, clock, deadlineMs)) return;
  throw new GodwitError(
    "TIMEOUT",
    `process ${target.pid} did not end within ${deadlineMs} ms of SIGKILL; it may wait for a disk or network that hangs`,
  );
}

async function isGoneWithin(
  processes: Processes,
  target: ProcessIdentity,
  clock: Clock,
  ms: number,
): Promise<boolean> {
  const until = clock.nowMs() + ms;
  while (isRunning(processes, target)) {
    if (clock.nowMs() >= until) return false;
    await sleep(clock, 10);
  }
  return true;
}

/** The second field is the program's name in brackets, which may itself hold spaces and brackets. */
function readStat(pid: number): { state: string; startTimeTicks: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "X", startTimeTicks: Number(fields[19]) };
}

function cannotRun(command: string, cause: Error): GodwitError {
  const advice = isErrno(cause, "ENOENT") ? "; is it installed and on PATH?" : "";
  return new GodwitError("IO", `cannot run ${command}: ${cause.message}${advice}`, { cause });
}

function tooSlow(command: string, deadlineMs: number): GodwitError {
  return new GodwitError(
    "TIMEOUT",
    `${command} did not end within ${deadlineMs} ms and was killed`,
  );
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
