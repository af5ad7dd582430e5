/** What every bench of whole migrations does the same way: a guest booted for one migration, and a QEMU that waits for it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GuestImage } from "../../guest/image/build.ts";
import {
  checkDefinition,
  pinnedDefinition,
  type VmDefinition,
} from "../../src/qemu/launch/index.ts";
import { atExit } from "../at-exit.ts";
import type { NetworkPair, Side } from "../netns.ts";
import type { Case, CaseSettings, Measured, Stage } from "./case.ts";
import { Guest } from "./guest.ts";

export interface Scene {
  readonly settings: CaseSettings;
  readonly link: NetworkPair;
  readonly definition: VmDefinition;
  /** Whose destination waits. */
  readonly next: Case;
  /** Until the guest's first tick; a minute by default. */
  readonly bootMs?: number;
}

/** `use` begins when the guest has ticked once; nothing of it all is left when this ends, however it ends. */
export async function onStage<T>(scene: Scene, use: (stage: Stage) => Promise<T>): Promise<T> {
  const { settings, link, definition, next, bootMs } = scene;
  const directory = mkdtempSync(join(tmpdir(), "gwb-"));
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  const forget = atExit(remove);
  try {
    const place = (side: Side) => ({ link, side, runtimeDirectory: join(directory, side) });
    await using source = await Guest.start(definition, { ...place("a"), start: "fresh" });
    await source.ticks(1, bootMs);
    const pinned = checkDefinition(pinnedDefinition(source.vm));
    await using destination = await Guest.start(pinned, { ...place("b"), start: next.destination });
    return await use({ settings, link, directory, source, destination });
  } finally {
    remove();
    forget();
  }
}

/** One vCPU, and the image's disk where it has one. */
export function guestDefinition(
  image: GuestImage,
  memoryMebibytes: number,
  words: string,
): VmDefinition {
  const { diskPath } = image;
  return checkDefinition({
    name: "bench",
    memory: `${memoryMebibytes}M`,
    vcpus: 1,
    machine: "q35",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    ...(diskPath === undefined
      ? {}
      : { disks: [{ file: diskPath, format: "raw", readOnly: true }] }),
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${words}`,
  });
}

/** Where the VM is after a migration: at the source when that was given up. */
export function whereItRuns({ source, destination }: Stage, { finished }: Measured): Guest {
  return finished ? destination : source;
}

/** The figures that every such bench prints; null where a migration did not finish, or nothing could be compared. */
export function printedFigures({ setupMs, totalMs, downtimeMs, verified }: Measured) {
  return {
    setupMs: rounded(setupMs),
    totalMs: rounded(totalMs),
    downtimeMs: rounded(downtimeMs),
    verified: verified ?? null,
  };
}

export function rounded(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : Math.round(value);
}
