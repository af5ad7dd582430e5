/** A migration's progress in words. Pure: a migration goes in, lines come out. */
import type { Migration, Progress } from "../../api/index.ts";
import { formatBytes, formatDuration, formatRate } from "./units.ts";

const phaseWords: Readonly<Record<string, string>> = {
  idle: "starting",
  setup: "setting up",
  preparing: "preparing",
  switchover: "switching over",
  verifying: "comparing memory",
  handover: "handing over",
  aborting: "giving up",
  receiving: "receiving",
  loaded: "loaded, waiting for the source",
  starting: "starting the VM",
  discarding: "throwing away",
};

export function phaseText({ phase, round }: Progress): string {
  if (phase === "rounds") return round <= 1 ? "first copy" : `round ${round}`;
  return phaseWords[phase] ?? phase;
}

/** What of the current round is done, from 0 to 1; of the memory at the destination, where rounds are not seen. */
export function shareDone(progress: Progress): number {
  const { dirtyBytes, remainingBytes } = progress;
  if (dirtyBytes <= 0) return 0;
  return Math.min(1, Math.max(0, 1 - remainingBytes / dirtyBytes));
}

const barCells = 24;

export function bar(share: number): string {
  const full = Math.round(share * barCells);
  return `[${"#".repeat(full)}${".".repeat(barCells - full)}]`;
}

/** The block that a terminal shows and updates: always the same number of lines for one role. */
export function progressBlock(migration: Migration, widthMax = 100): string[] {
  const { role, vm, peer, progress } = migration;
  const way = role === "source" ? `${vm} -> ${peer}` : `${vm} <- ${peer}`;
  if (progress === undefined) return [clip(`${way}  connecting`, widthMax)];
  const head = `${way}  ${phaseText(progress)}  ${formatDuration(progress.elapsedMs)}`;
  const lines = role === "source" ? sourceLines(progress) : destinationLines(progress);
  return [head, ...lines].map((line) => clip(line, widthMax));
}

function sourceLines(progress: Progress): string[] {
  const { dirtyBytes, remainingBytes, wireBytes, bytesPerSecond, dirtyBytesPerSecond } = progress;
  const share = shareDone(progress);
  const percent = `${Math.floor(share * 100)} %`.padStart(5);
  const left = `${formatBytes(remainingBytes)} of ${formatBytes(dirtyBytes)} left in this round`;
  const dirty =
    dirtyBytesPerSecond === undefined ? "" : `, guest dirties ${formatRate(dirtyBytesPerSecond)}`;
  return [
    `${bar(share)} ${percent}  ${left}`,
    `sent ${formatBytes(wireBytes)} at ${formatRate(bytesPerSecond)}${dirty}`,
    outlook(progress),
  ];
}

/** What is to be expected, in words. */
function outlook({ expectedDowntimeMs, etaMs, stalled }: Progress): string {
  const downtime =
    expectedDowntimeMs === undefined
      ? "downtime not known yet"
      : `downtime would be ${formatDuration(expectedDowntimeMs)}`;
  if (stalled) {
    return `${downtime}; rounds no longer shrink: the guest writes as fast as the link carries`;
  }
  const eta = etaMs === undefined ? "" : `, switch-over in about ${formatDuration(etaMs)}`;
  return `${downtime}${eta}`;
}

/** The destination does not see rounds; what it wrote to QEMU is what arrived, unpacked. */
function destinationLines(progress: Progress): string[] {
  const { memoryBytes } = progress;
  const memory = memoryBytes > 0 ? `, memory ${formatBytes(memoryBytes)}` : "";
  return [`received ${formatBytes(progress.streamBytes)}${memory}`];
}

/** One line, for logs and pipes. */
export function progressLine({ vm, progress }: Migration): string {
  if (progress === undefined) return `${vm}: connecting`;
  const { wireBytes, bytesPerSecond, remainingBytes, expectedDowntimeMs } = progress;
  if (progress.role === "destination") {
    return `${vm}: ${phaseText(progress)}, received ${formatBytes(progress.streamBytes)}`;
  }
  const sent = `sent ${formatBytes(wireBytes)} at ${formatRate(bytesPerSecond)}`;
  const rest = `${formatBytes(remainingBytes)} left`;
  const downtime =
    expectedDowntimeMs === undefined
      ? ""
      : `, downtime would be ${formatDuration(expectedDowntimeMs)}`;
  return `${vm}: ${phaseText(progress)}, ${sent}, ${rest}${downtime}`;
}

function clip(line: string, widthMax: number): string {
  return line.length <= widthMax ? line : `${line.slice(0, Math.max(0, widthMax - 3))}...`;
}
