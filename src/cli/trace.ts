import { resolve } from "node:path";
import type { TraceEvent, TraceProgress, TraceSummary } from "../api/index.ts";
import { fromErrorRecord, GodwitError } from "../base/index.ts";
import {
  act,
  clientFor,
  formatBytes,
  formatCount,
  formatDuration,
  option,
  parseBytes,
  parseDuration,
  print,
  printJson,
  SilentFailure,
  UsageError,
  verb,
} from "./support/index.ts";

const bases = ["full", "touched", "none"] as const;

export function command() {
  return verb("trace", "record which pages a VM writes, into a file", [
    "trace web --to web.gtrace",
    "trace web --to web.gtrace --interval 25ms --duration 30s",
    "trace web --to small.gtrace --base touched --sample 1/4",
  ])
    .description(
      "Records the VM's memory, and then what it writes, interval by interval, into a file (docs/formats/trace.md) that " +
        "`godwit advise` and benchmarks read. The VM runs on; it cannot be migrated meanwhile. The file is guest memory: it is " +
        "readable for its owner only. Ctrl-C ends the recording and keeps what there is; a second one gives up making it smaller.",
    )
    .argument("<vm>", "its name")
    .requiredOption("--to <file>", "the file, on the daemon's host; must not be there yet")
    .option(
      "--interval <time>",
      "length of an epoch (default: 100ms)",
      option("--interval", parseDuration),
    )
    .option(
      "--duration <time>",
      "after the base image (default: 10s)",
      option("--duration", parseDuration),
    )
    .option(
      "--base <what>",
      "full: all memory as it was first; touched: only pages that are written later, and a few others; none",
      option("--base", parseBase),
    )
    .option(
      "--sample <share>",
      "keep a share of the pages, like 1/4",
      option("--sample", parseSample),
    )
    .option(
      "--size-limit <size>",
      "end when the file is so large (default: 4G)",
      option("--size-limit", parseBytes),
    )
    .option("--workload <words>", "what runs in the VM, to be noted in the file")
    .action((vm, options) =>
      act(options, async () => {
        const client = clientFor(options);
        const events = client.traceVm(vm, {
          path: resolve(options.to),
          intervalMs: options.interval,
          durationMs: options.duration,
          base: options.base,
          pages: options.sample,
          fileBytesMax: options.sizeLimit,
          workload: options.workload,
        });
        let askedCount = 0;
        const onInterrupt = (): void => {
          // The second one gives up what takes time then, making the file smaller; the third leaves that to the daemon.
          if (++askedCount > 2) process.exit(130);
          client.endTrace(vm).catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
        };
        process.on("SIGINT", onInterrupt);
        try {
          const summary = await follow(events, options.json === true);
          if (!options.json) print(summaryText(summary));
        } finally {
          process.off("SIGINT", onInterrupt);
        }
      }),
    );
}

function parseBase(text: string): (typeof bases)[number] {
  const base = bases.find((one) => one === text);
  if (base === undefined) throw new UsageError(`"${text}" is none of ${bases.join(", ")}`);
  return base;
}

/** "1/4" → 4. */
function parseSample(text: string): number {
  const match = /^1\/(\d{1,5})$/.exec(text.trim());
  const outOf = Number(match?.[1]);
  if (match !== null && outOf >= 1 && outOf <= 65_536) return outOf;
  throw new UsageError(`"${text}" is no share of the pages`, "write 1/4 to keep one of four");
}

async function follow(events: AsyncIterable<TraceEvent>, json: boolean): Promise<TraceSummary> {
  let shownMs = Number.NEGATIVE_INFINITY;
  let shownTenth = -1;
  for await (const event of events) {
    if (json) printJson(event);
    if (event.type === "failed") {
      if (json) throw new SilentFailure();
      throw fromErrorRecord(event.error as Parameters<typeof fromErrorRecord>[0]);
    }
    if (event.type === "finished") return event.summary;
    const { elapsedMs, phase } = event.progress;
    const tenth = Math.floor((event.progress.doneShare ?? 0) * 10);
    if (json || (elapsedMs - shownMs < 1_000 && (phase !== "finishing" || tenth === shownTenth))) {
      continue;
    }
    shownMs = elapsedMs;
    shownTenth = tenth;
    process.stderr.write(`${progressText(event.progress)}\n`);
  }
  throw new GodwitError("IO", "the daemon ended during the recording; what was recorded is kept");
}

function progressText(progress: TraceProgress): string {
  const { phase, elapsedMs, memoryBytes, epochCount, dirtyPageCount, fileBytes, doneShare } =
    progress;
  const file = `file ${formatBytes(fileBytes)}`;
  if (phase === "base") return `base image of ${formatBytes(memoryBytes)}, ${file}`;
  if (phase === "finishing") {
    const done = doneShare === undefined ? "" : ` (${Math.floor(doneShare * 100)} %)`;
    return `finishing${done}, ${file}`;
  }
  const pages = `${formatCount(dirtyPageCount)} pages in the last`;
  return `${formatDuration(elapsedMs)}: ${epochCount} epochs, ${pages}, ${file}`;
}

function summaryText(summary: TraceSummary): string {
  const { path, ended, epochCount, medianIntervalMs, medianDirtyPages, rawBytes } = summary;
  const why = {
    duration: "",
    size: " (the file has its size)",
    cancelled: " (ended early)",
    stopped: " (the VM was stopped)",
  }[ended];
  const late =
    summary.lateCount === 0 ? "" : `; ${summary.lateCount} epochs may lack pages that came late`;
  return (
    `${path}: ${formatCount(epochCount)} epochs${why} of ${formatDuration(medianIntervalMs)} and ` +
    `${formatCount(medianDirtyPages)} pages (medians), ${formatBytes(rawBytes)} of pages in ` +
    `${formatBytes(summary.fileBytes)}${late}`
  );
}
