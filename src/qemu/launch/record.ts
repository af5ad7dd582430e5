/**
 * `vm.json`, the memory of a running VM: written once QEMU answers, so that a daemon that was restarted finds its VMs. It is
 * replaced by rename, so a reader sees the old one or the new one, never half of one.
 */
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { GodwitError } from "../../base/index.ts";
import type { RuntimePaths } from "./paths.ts";
import type { VmDefinition } from "./schema.ts";

/** Of the record's layout; 0 is never used. */
const recordVersion = 1;

/** A QEMU that godwit started. */
export interface LaunchedVm extends RuntimePaths {
  readonly pid: number;
  /** With the pid, the identity of the process (see io/process.ts). */
  readonly startTimeTicks: number;
  readonly accelerator: "kvm" | "tcg";
  /** The versioned machine type, like "pc-q35-10.0": what a destination must be told. */
  readonly machineType: string;
  /** Like "10.0.13". */
  readonly qemuVersion: string;
  /** The QEMU that runs. */
  readonly binary: string;
  /** Milliseconds since 1970. */
  readonly startedWallMs: number;
  /** As launched. */
  readonly definition: VmDefinition;
}

const recordSchema = z.looseObject({
  recordVersion: z.literal(recordVersion),
  pid: z.int().positive(),
  startTimeTicks: z.int(),
  directory: z.string(),
  qmpPath: z.string(),
  migrationQmpPath: z.string(),
  definition: z.looseObject({ name: z.string() }),
});

/** Fails with IO. */
export async function writeVmRecord(vm: LaunchedVm): Promise<void> {
  await writeAtomically(vm.recordPath, `${JSON.stringify({ recordVersion, ...vm }, null, 2)}\n`);
}

/** The record at `path`, or undefined when there is none. Fails with IO when it is there but cannot be used. */
export async function readVmRecord(path: string): Promise<LaunchedVm | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new GodwitError("IO", `cannot read the VM record ${path}`, { cause });
  }
  try {
    const value: LaunchedVm & { recordVersion?: number } = JSON.parse(text);
    recordSchema.parse(value);
    const { recordVersion: _, ...vm } = value;
    return vm;
  } catch (cause) {
    const advice = "it was damaged or written by another godwit; end that VM and remove the file";
    throw new GodwitError("IO", `the VM record ${path} cannot be used: ${advice}`, { cause });
  }
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await using file = await open(temporary, "w", 0o600);
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
    await using folder = await open(dirname(path), "r");
    await folder.sync();
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new GodwitError("IO", `cannot write the VM record ${path}`, { cause });
  }
}
