/** Records a VM into a file: all that is read of it, or, by way of a file that is removed, less. */
import { rm, stat } from "node:fs/promises";
import { GodwitError } from "../base/index.ts";
import { QmpClient } from "../qemu/qmp/index.ts";
import type { RecordOptions, TraceProgress, TraceSummary } from "./job.ts";
import { progressEveryMs, Recorder } from "./recorder.ts";
import { reduceTrace } from "./reduce.ts";
import { removeUnfinished, unfinishedPath } from "./unfinished.ts";

const monitorMs = 10_000;

/**
 * Records until `durationMs` is over, the file has its size, `signal` says so, or somebody stops the VM; what was recorded by
 * then is kept. Fails with CONFLICT (the VM is being migrated or does not run; the file is there), QEMU_UNSUPPORTED, CANCELLED
 * (before the first epoch, or by `discard`), TIMEOUT, MIGRATION_FAILED (the VM ended), QMP_*, STREAM_*, IO; then there is no
 * file. In any case QEMU's settings are put back and the VM runs on.
 */
export async function recordTrace(options: RecordOptions): Promise<TraceSummary> {
  const { base = "full", pages = 1 } = options;
  const isReduced = base === "touched" || pages > 1;
  const path = isReduced ? unfinishedPath(options.path, "full") : options.path;
  const { clock, qmpPath } = options;
  // Not after an hour of recording.
  await assertFree(options.path);
  await using qmp = await QmpClient.connect(qmpPath, { clock, deadlineMs: monitorMs });
  if (!isReduced) return await new Recorder(options, qmp).run();
  let last: TraceProgress | undefined;
  const onProgress = (progress: TraceProgress): void => {
    last = progress;
    options.onProgress?.(progress);
  };
  const summary = await new Recorder({ ...options, path, onProgress }, qmp).run();
  try {
    await reduce(path, options, last);
  } finally {
    await rm(path, { force: true });
  }
  return { ...summary, path: options.path, fileBytes: (await stat(options.path)).size };
}

async function assertFree(path: string): Promise<void> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  if (isThere) {
    throw new GodwitError("CONFLICT", `${path} is there already; name another file, or remove it`);
  }
  const [writing] = await removeUnfinished(path);
  if (writing !== undefined) {
    throw new GodwitError("CONFLICT", `${writing.path} is being written`);
  }
}

async function reduce(
  path: string,
  options: RecordOptions,
  last: TraceProgress | undefined,
): Promise<void> {
  const { base = "full", pages = 1, basePages = 16, clock, discard, onProgress } = options;
  let toldMs = Number.NEGATIVE_INFINITY;
  const tell = (doneShare: number): void => {
    const nowMs = clock.nowMs();
    if (last === undefined || nowMs < toldMs + progressEveryMs) return;
    toldMs = nowMs;
    onProgress?.({ ...last, phase: "finishing", doneShare });
  };
  const made = { base, pages, basePages, signal: discard, onProgress: tell };
  await reduceTrace(path, options.path, made);
}
