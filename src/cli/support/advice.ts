/** An advice in words and columns. Pure. */
import type { Advice, MethodAdvice } from "../../api/index.ts";
import { table } from "./table.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "./units.ts";

export function adviceText(advice: Advice): string {
  const { name, epochCount, epochsBytes, intervalMs, dirtyBytesPerSecond, reason } = advice;
  const { linkBytesPerSecond, cpuShare, memoryBytes } = advice.constraints;
  const head =
    `${name}: ${formatCount(epochCount)} epochs of ${formatDuration(intervalMs)}, ` +
    `${formatBytes(epochsBytes)} of pages, ${formatRate(dirtyBytesPerSecond)}`;
  const given = `link ${formatBits(linkBytesPerSecond)}, ${percent(cpuShare)} of a core, ${formatBytes(memoryBytes)} of memory`;
  const blocks = [head, given, "", methodTable(advice), ""];
  if (advice.leftOut.length > 0) blocks.push(`not measured: ${advice.leftOut.join(", ")}`, "");
  blocks.push(`recommended: ${advice.recommended ?? "none of them"}`, `  ${reason}`);
  return blocks.join("\n");
}

function methodTable({ methods, recommended }: Advice): string {
  const head = [
    "",
    "method",
    "ratio",
    "ms/MB",
    "decode",
    "memory",
    "first copy",
    "sustains",
    "limited by",
    "link now",
    "CPU now",
    "fits",
  ];
  return table(
    head,
    methods.map((one) => [
      one.method === recommended ? ">" : one.onFront ? "*" : "",
      ...cells(one),
    ]),
  );
}

function cells(one: MethodAdvice): string[] {
  return [
    one.method,
    one.ratio.toFixed(one.ratio < 10 ? 2 : 1),
    one.encodeMsPerMb.toFixed(one.encodeMsPerMb < 1 ? 3 : 1),
    formatRate(one.decodeMbPerS * 1e6),
    formatBytes(one.memoryBytes),
    one.firstCopyRatio === undefined ? "" : one.firstCopyRatio.toFixed(2),
    formatRate(one.sustainableBytesPerSecond),
    one.limit === "cpu" ? "CPU time" : "link",
    percent(one.linkShare),
    percent(one.cpuShare),
    one.fits ? "yes" : one.fitsMemory ? "no" : "no: memory",
  ];
}

function formatBits(bytesPerSecond: number): string {
  const mbit = (bytesPerSecond * 8) / 1e6;
  return mbit >= 1000 ? `${+(mbit / 1000).toFixed(1)} Gbit/s` : `${+mbit.toFixed(1)} Mbit/s`;
}

function percent(share: number): string {
  const value = share * 100;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}
