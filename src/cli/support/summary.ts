/** How a migration ended, in words. Pure. */
import type { Migration, Report } from "../../api/index.ts";
import { roundsText } from "./rounds.ts";
import { facts } from "./table.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "./units.ts";

/** Ends where the VM is at the destination. */
export function succeeded({ state }: Migration): boolean {
  return state === "done";
}

export function summary(migration: Migration): string {
  const { state, text = "", error, report } = migration;
  const words = [headline(migration)];
  if (text !== "") words.push(text);
  if (error !== undefined && !text.includes(error.message)) words.push(error.message);
  if (report !== undefined && !["failed", "cancelled"].includes(state)) {
    words.push(indent(reportText(report, migration.role)));
  }
  return words.join("\n");
}

function headline({ state, vm, peer, role }: Migration): string {
  const there = role === "source" ? `to ${peer}` : `from ${peer}`;
  switch (state) {
    case "running":
      return `${vm}: migration ${there} is under way`;
    case "done":
      return `${vm} was migrated ${there}`;
    case "cancelled":
      return `${vm}: the migration ${there} was cancelled`;
    case "failed":
      return `${vm}: the migration ${there} failed`;
    case "unconfirmed":
      return `${vm} was handed over ${there}, but the destination did not confirm that it runs`;
    case "uncertain":
      return `${vm} arrived ${there} and is kept stopped: the source fell silent`;
    case "interrupted":
      return `${vm}: the migration ${there} was interrupted`;
    default:
      // A newer daemon's word.
      return `${vm}: ${String(state satisfies never)}`;
  }
}

/** The figures, one to a line; what is not known, or not seen from this end, is left out. Then the rounds. */
export function reportText(report: Report, role: Migration["role"]): string {
  const rounds = roundsText(report.roundDetails ?? []);
  return rounds === undefined ? inAll(report, role) : `${inAll(report, role)}\n${rounds}`;
}

function inAll(report: Report, role: Migration["role"]): string {
  const { totalMs, downtimeMs, rounds } = report;
  return facts([
    ["total time", formatDuration(totalMs)],
    ["downtime", downtimeMs === undefined ? undefined : formatDuration(downtimeMs)],
    ...(role === "source"
      ? [["rounds", formatCount(rounds)] as const, ...sentFacts(report)]
      : [["received", formatBytes(report.streamBytes)] as const]),
    ["pages", pagesText(report, role)],
    ["free pages", hintedText(report)],
    ["compressed away", compressedText(report)],
    ["compressed with", methodsText(report)],
    ...assistFacts(report),
    ["verified", verifiedText(report)],
  ]);
}

function sentFacts({ totalMs, wireBytes, memoryBytes }: Report) {
  const memory = `${formatBytes(memoryBytes)} of memory (${percent(wireBytes, memoryBytes)})`;
  const rate = totalMs > 0 ? formatRate((wireBytes / totalMs) * 1000) : undefined;
  return [
    ["sent", `${formatBytes(wireBytes)}${memoryBytes > 0 ? ` for ${memory}` : ""}`],
    ["mean rate", rate],
  ] as const;
}

function pagesText(report: Report, role: Migration["role"]): string {
  const { pageCount, zeroCount, droppedCount, staleFetchedCount } = report;
  const verb = role === "source" ? "sent" : "received";
  const parts = [`${formatCount(pageCount)} ${verb} whole`, `${formatCount(zeroCount)} zero`];
  if (droppedCount > 0) parts.push(`${formatCount(droppedCount)} left out`);
  if (staleFetchedCount > 0) parts.push(`${formatCount(staleFetchedCount)} fetched at the end`);
  return parts.join(", ");
}

/** By kind, so that one sees what was worth it. */
function leftOutText({ droppedCount, droppedAreaCount = 0 }: Report): string | undefined {
  const parts = [
    ["of young generations", droppedCount - droppedAreaCount],
    ["of areas", droppedAreaCount],
  ] as const;
  const told = parts.filter(([, count]) => count > 0);
  if (told.length === 0) return undefined;
  return told.map(([name, count]) => `${formatBytes(count * 4096)} ${name}`).join(", ");
}

/** What the guest's balloon said, not an application. */
function hintedText({ hintedFreeBytes = 0 }: Report): string | undefined {
  return hintedFreeBytes > 0
    ? `about ${formatBytes(hintedFreeBytes)} not sent: the guest does not use them`
    : undefined;
}

function optionalBytes(bytes: number | undefined): string | undefined {
  return bytes === undefined ? undefined : formatBytes(bytes);
}

function compressedText({ compressedAwayBytes = 0, compression }: Report): string | undefined {
  if (compression === undefined) {
    return compressedAwayBytes > 0 ? formatBytes(compressedAwayBytes) : undefined;
  }
  const { ratio, encodeMs, memoryBytes, hitShare } = compression;
  const parts = [`${ratio.toFixed(ratio < 10 ? 2 : 1)} to 1`, `${formatDuration(encodeMs)} of CPU`];
  if (memoryBytes >= 1 << 20) parts.push(`${formatBytes(memoryBytes)} of memory`);
  if (hitShare !== undefined) parts.push(`${percent(hitShare, 1)} of pages were known`);
  return `${formatBytes(Math.max(0, compressedAwayBytes))} (${parts.join(", ")})`;
}

/** The methods by their share of what was encoded, the largest first. */
function methodsText({ compression }: Report): string | undefined {
  if (compression === undefined) return undefined;
  const { codec, level, methods, rawBytes } = compression;
  const name = level === undefined ? codec : `${codec}, level ${level}`;
  if (methods === undefined || methods.length === 0) return name;
  const shares = methods
    .toSorted((a, b) => b.rawBytes - a.rawBytes)
    .map((method) => `${method.name} ${percent(method.rawBytes, Math.max(1, rawBytes))}`);
  return `${name}: ${shares.join(", ")}`;
}

function assistFacts(report: Report) {
  const { assist } = report;
  if (assist === undefined || assist.state === "off") return [];
  const {
    state,
    text,
    participants,
    applicationDowntime,
    hold,
    droppedCacheBytes,
    zeroedFreeBytes,
  } = assist;
  const used = state === "used";
  const taking = participants.filter(({ unsupported }) => unsupported === undefined);
  const others = participants.filter(({ unsupported }) => unsupported !== undefined);
  return [
    ["assistance", used ? taking.map(({ name }) => name).join(", ") : `none: ${text}`],
    ...others.map(
      ({ name, unsupported = "" }) => ["not assisted", `${name}: ${unsupported}`] as const,
    ),
    ["left out", leftOutText(report)],
    ["standstill", downtimeText(applicationDowntime)],
    ["zeroed", hold === undefined ? undefined : formatBytes(hold.scrubbedPages * 4096)],
    ["page cache dropped", optionalBytes(droppedCacheBytes)],
    ["free memory zeroed", optionalBytes(zeroedFreeBytes)],
  ] as const;
}

type Downtime = NonNullable<NonNullable<Report["assist"]>["applicationDowntime"]>;

function downtimeText(downtime: Downtime | undefined): string | undefined {
  if (downtime === undefined) return undefined;
  const { totalMs, gcMs, freezeMs, scrubMs, stopMs, lastRoundMs, deviceStateMs } = downtime;
  const { startMs, thawMs } = downtime;
  const parts = [
    ["collection", gcMs],
    ["freeze", freezeMs],
    ["zeroing", scrubMs],
    ["stop", stopMs],
    ["last round", lastRoundMs],
    ...(deviceStateMs === undefined ? [] : [["devices", deviceStateMs] as const]),
    ["start", startMs],
    ["thaw", thawMs],
  ] as const;
  const split = parts.map(([name, ms]) => `${name} ${Math.round(ms)}`).join(", ");
  const { firstPartMs } = downtime;
  const whole =
    firstPartMs === undefined
      ? formatDuration(totalMs)
      : `${formatDuration(firstPartMs)}, then ${formatDuration(totalMs - firstPartMs)}`;
  return `${whole} (ms: ${split})`;
}

function verifiedText({ verified, verifyMs }: Report): string | undefined {
  if (verified === undefined) return undefined;
  const time = verifyMs === undefined ? "" : ` (${formatDuration(verifyMs)}, not in the downtime)`;
  return verified ? `all memory is equal${time}` : `memory DIFFERS${time}`;
}

function percent(part: number, whole: number): string {
  const value = (part / whole) * 100;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "  ");
}
