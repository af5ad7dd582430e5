/**
 * The process that makes one advice from a trace file: node src/daemon/advise-main.ts JOB (JSON, see advice-job.ts). It prints
 * the events of the API, a line of JSON each. Started by the daemon for a VM, with an IPC channel that ends when the daemon
 * does, and by the command line for a file. It may be killed at any time.
 */
import { advise } from "../advise/index.ts";
import type { AdviceEvent } from "../api/index.ts";
import { toErrorRecord } from "../base/index.ts";
import { systemClock } from "../io/index.ts";
import { readTrace, readTraceHeader } from "../trace/index.ts";
import type { AdviceJob } from "./advice-job.ts";

const intervalMsDefault = 100;

process.on("disconnect", () => process.exit(1));

function tell(event: AdviceEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

async function run({ path, constraints, ...job }: AdviceJob): Promise<void> {
  const { vmName, workload, intervalMs: recordedMs, sampled } = await readTraceHeader(path);
  const intervalMs =
    job.intervalMs ?? Math.max(1, Math.round(intervalMsDefault / recordedMs)) * recordedMs;
  const advice = await advise({
    name: workload === "" || workload === vmName ? vmName : `${vmName} (${workload})`,
    open: () => readTrace(path, { intervalMs }),
    intervalMs,
    sampledPages: sampled?.pages ?? 1,
    constraints,
    clock: systemClock,
    say: (text) => tell({ type: "progress", text }),
  });
  tell({ type: "finished", advice });
}

try {
  await run(JSON.parse(process.argv[2] ?? "") as AdviceJob);
} catch (error) {
  tell({ type: "failed", error: toErrorRecord(error) });
  process.exitCode = 1;
}
// Nothing keeps this process then.
process.removeAllListeners("disconnect");
if (process.connected) process.disconnect();
