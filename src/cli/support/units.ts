/** Quantities as people write and read them. */
import { UsageError } from "./errors.ts";

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  sec: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
};

/** "300ms", "1.5s", "10min", "2h" → milliseconds. A bare number is refused: of what? */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text.trim());
  const unit = durationUnits[match?.[2]?.toLowerCase() ?? ""];
  if (match === null || unit === undefined) {
    throw new UsageError(
      `"${text}" is no duration`,
      "write a number with ms, s, min or h, like 300ms",
    );
  }
  return Math.round(Number(match[1]) * unit);
}

const prefixes: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

/**
 * "1Gbit", "100Mbit/s", "1Gbps" are bits a second; "100MB", "100MB/s", "64MiB/s" are bytes a second; "none" and "0" mean no
 * limit. k, M, G, T are powers of 1000; Ki, Mi, Gi, Ti powers of 1024. "Mb" is refused: some mean bits, some bytes.
 */
export function parseBandwidth(text: string): number {
  const plain = text.trim();
  if (plain === "0" || plain.toLowerCase() === "none") return 0;
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?|)(bits?|bps|B)(?:\/s)?$/i.exec(plain);
  const unit = match?.[3] ?? "";
  const prefix = prefixes[match?.[2]?.toLowerCase() ?? ""];
  if (match === null || prefix === undefined || unit === "b") {
    throw new UsageError(
      `"${text}" is no bandwidth`,
      "write bits as 1Gbit or 100Mbit, bytes as 100MB or 64MiB (a second is understood), or none",
    );
  }
  const perUnit = unit === "B" ? 1 : 1 / 8;
  const bytesPerSecond = Math.round(Number(match[1]) * prefix * perUnit);
  if (bytesPerSecond < 1)
    throw new UsageError(`"${text}" is less than a byte a second`, "use more");
  return bytesPerSecond;
}

/** "64K", "1M" or a bare number of bytes; powers of two. */
export function parseBytes(text: string): number {
  const match = /^(\d+)([kmg]?)(?:i?B)?$/i.exec(text.trim());
  if (match === null) throw new UsageError(`"${text}" is no size`, "write 4096, 64K or 1M");
  return Number(match[1]) * (prefixes[match[2] ? `${match[2].toLowerCase()}i` : ""] ?? 1);
}

/** "20%" → 0.2. A bare number is refused: 0.2 of what? */
export function parseShare(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim());
  const share = Number(match?.[1]) / 100;
  if (match !== null && share > 0 && share <= 1) return share;
  throw new UsageError(
    `"${text}" is no share of a core`,
    "write a number above 0 and up to 100, with a percent sign: 20%",
  );
}

const binary = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 → "1.5 KiB". Three digits at least, so that columns stay calm. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let index = 0;
  while (value >= 1024 && index < binary.length - 1) {
    value /= 1024;
    index++;
  }
  const digits = index === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${binary[index]}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** 340 → "340 ms", 12_340 → "12.3 s", 125_000 → "2 min 5 s", 7_500_000 → "2 h 5 min". */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${ms < 10 && ms > 0 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 2_880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1_440)} d ${Math.floor((minutes % 1_440) / 60)} h`;
}

/** 1234567 → "1,234,567". */
export function formatCount(count: number): string {
  return String(Math.round(count)).replaceAll(/\B(?=(\d{3})+$)/g, ",");
}
