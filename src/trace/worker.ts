/**
 * The process that records one trace. Started by the daemon with an IPC channel (see job.ts); ends when the recording has
 * ended, or, keeping what was recorded, when the channel closes.
 */
import { toErrorRecord } from "../base/index.ts";
import { systemClock } from "../io/index.ts";
import type { FromTraceWorker, ToTraceWorker, TraceJob } from "./job.ts";
import { recordTrace } from "./record.ts";

const cancelled = new AbortController();
const discarded = new AbortController();

function tell(message: FromTraceWorker): void {
  if (process.connected) process.send?.(message, () => {});
}

async function record(job: TraceJob): Promise<void> {
  try {
    const summary = await recordTrace({
      ...job,
      clock: systemClock,
      signal: cancelled.signal,
      discard: discarded.signal,
      onProgress: (progress) => tell({ type: "progress", progress }),
      onSettings: (settings) => tell({ type: "settings", settings }),
    });
    tell({ type: "finished", summary });
  } catch (error) {
    tell({ type: "failed", error: toErrorRecord(error) });
  }
  // Lets the last message leave, then nothing keeps this process.
  if (process.connected) process.disconnect();
}

process.on("message", (message: ToTraceWorker) => {
  if (message.type === "start") void record(message.job);
  else (message.type === "cancel" ? cancelled : discarded).abort();
});
process.on("disconnect", () => cancelled.abort());
// Signals of a terminal are for the daemon, which tells its workers what to do.
process.on("SIGINT", () => {});
