/**
 * Records what a running VM writes, on unmodified QEMU and without stopping it: as a migration to a socket of ours that is
 * never completed.
 *
 *   QEMU ──unix──▶ StreamTap ──▶ first pass ─────────────▶ epoch 0 of the file
 *                      └───────▶ what was written since ──▶ epoch 0, second sweep; epochs 1, 2, …
 *
 * QEMU's stream does not say where a pass begins. So time is cut like this: for most of an interval nothing is read, QEMU
 * waits with its buffers full, and the guest writes; then the stream is read until QEMU has looked for dirty pages twice
 * (event MIGRATION_PASS): whatever was written before the first look has been sent by the second; or, sooner, until the
 * pages that follow the first look cease to come, as looking takes QEMU milliseconds. What is read in that time is the epoch,
 * each page once. A page that comes later than that is in the next one. *Rejected:* one pass, one epoch. A guest that
 * writes little is then recorded thousands of times a second, and one that writes much at whatever pace we read.
 *
 * If this process dies, QEMU finds its socket closed and gives the migration up by itself; the VM never notices.
 */
import { join } from "node:path";
import { assert, GodwitError } from "../base/index.ts";
import { type Clock, sleep, withDeadline } from "../io/index.ts";
import { QmpClient } from "../qemu/qmp/index.ts";
import type { StreamHead } from "../qemu/stream/index.ts";
import { TraceFile } from "./create.ts";
import { countRecords } from "./epoch-pages.ts";
import type { TraceHeader } from "./format.ts";
import type { RecordOptions, TraceProgress, TraceSummary } from "./job.ts";
import { RecordedQemu } from "./qemu.ts";
import { StreamTap } from "./tap.ts";

const deadlines = {
  connectMs: 30_000,
  /** Without a byte of the first pass. */
  silenceMs: 30_000,
  endMs: 30_000,
};
/** After QEMU's second look: for what lies in buffers. */
const ebbMs = 8;
/** In a millisecond: no more than a pass without pages has. */
const quietBytes = 8 << 10;
/** An epoch is not drained longer than this and four intervals. */
const drainMs = 250;
/** Pages of one epoch, in memory. */
const epochBytesMax = 2 ** 30;
const fileBytesDefault = 4 * 2 ** 30;
export const progressEveryMs = 200;

/** One recording: see `recordTrace` (record.ts), of which this is all but making the file smaller. */
export class Recorder {
  readonly #options: RecordOptions;
  readonly #clock: Clock;
  readonly #qmp: QmpClient;
  readonly #qemu: RecordedQemu;
  readonly #tap: StreamTap;
  readonly #began = Promise.withResolvers<StreamHead>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #dirtyCounts: number[] = [];
  readonly #epochMs: number[] = [];
  #file: TraceFile | undefined;
  /** What came with the stream's head, before there was a file. */
  #early: { block: number; piece: Uint8Array }[] = [];
  #phase: TraceProgress["phase"] = "base";
  #startMs = 0;
  #lateCount = 0;
  /** Between epochs nothing is read. */
  #reading = true;
  #ending = false;
  #stopProgress: () => void = () => {};
  /** Ends a wait between epochs: a VM that was stopped is not to be kept waiting. */
  #wake = (): void => {};

  constructor(options: RecordOptions, qmp: QmpClient) {
    const { clock, runtimeDirectory, id } = options;
    this.#options = options;
    this.#clock = clock;
    this.#qmp = qmp;
    this.#qemu = new RecordedQemu(qmp, clock);
    this.#failed.promise.catch(() => {});
    this.#began.promise.catch(() => {});
    const socketPath = join(runtimeDirectory, `trace-${id}.sock`);
    this.#tap = new StreamTap(socketPath, qmp, epochBytesMax, {
      began: (head) => {
        this.#startMs = clock.nowMs();
        this.#began.resolve(head);
      },
      firstPass: (block, piece) => this.#firstPass(block, piece),
      failed: (error) => this.#fail(error),
    });
    qmp.on("STOP", () => this.#wake());
    void qmp.closed.then((reason) => this.#fail(reason));
  }

  async run(): Promise<TraceSummary> {
    try {
      return await Promise.race([this.#run(), this.#failed.promise]);
    } catch (error) {
      // What went wrong first is told.
      await this.#endMigration().catch(() => {});
      throw error;
    } finally {
      this.#stopProgress();
      await this.#tap.close();
      await this.#file?.abandon();
    }
  }

  async #run(): Promise<TraceSummary> {
    await this.#qemu.check();
    const settings = await this.#qemu.readSettings();
    this.#throwIfCancelled();
    this.#options.onSettings?.(settings);
    await this.#qemu.configure(settings);
    await this.#tap.listen();
    await this.#qemu.migrateTo(this.#tap.path);
    const { connectMs } = deadlines;
    const head = await withDeadline(this.#clock, connectMs, "QEMU's stream", this.#began.promise);
    this.#followProgress(head);
    await this.#recordBase(head);
    this.#phase = "recording";
    const ended = await this.#recordEpochs();
    this.#phase = "finishing";
    await this.#endMigration();
    await this.#file?.close();
    return this.#summary(head, ended);
  }

  /** Fails when QEMU does not take its settings back. */
  async #endMigration(): Promise<void> {
    this.#ending = true;
    this.#tap.ignore();
    try {
      // Before the socket is closed: QEMU then says "cancelled", not "failed".
      await this.#qemu.end(deadlines.endMs);
    } catch (error) {
      // Without its monitor QEMU ends by the closed socket, and there is nobody to put anything back with.
      if (!(error instanceof GodwitError) || error.code !== "QMP_CLOSED") throw error;
    }
  }

  // Epoch 0

  /** Reads all memory, and then what was written meanwhile. */
  async #recordBase(head: StreamHead): Promise<void> {
    const file = await TraceFile.create(this.#options.path, this.#traceHeader(head));
    this.#file = file;
    for (const { block, piece } of this.#early) this.#firstPass(block, piece);
    this.#early = [];
    if (!file.isFull) this.#tap.goOn();
    let { offset } = this.#tap;
    let heardMs = this.#clock.nowMs();
    // Its second look follows the first pass.
    while (this.#tap.passCount < 2 && !this.#tap.ramEnded) {
      this.#throwIfCancelled();
      this.#checkSize(file);
      await sleep(this.#clock, 10);
      if (this.#tap.offset !== offset) heardMs = this.#clock.nowMs();
      offset = this.#tap.offset;
      if (this.#clock.nowMs() - heardMs > deadlines.silenceMs) {
        throw new GodwitError("TIMEOUT", `QEMU sent nothing for ${deadlines.silenceMs} ms`);
      }
    }
    await this.#drain();
    this.#tap.endFirstPass();
    await this.#endEpoch(this.#options.base !== "none");
  }

  #firstPass(block: number, piece: Uint8Array): void {
    if (this.#options.base === "none") return;
    const file = this.#file;
    if (file === undefined) {
      this.#early.push({ block, piece: new Uint8Array(piece) });
      return;
    }
    const counts = countRecords(piece);
    file.batch(this.#nowMs(), { block, pieces: [piece], bytes: piece.length, ...counts });
    if (!file.isFull) return;
    this.#tap.hold();
    file.drained().then(
      () => {
        if (this.#reading) this.#tap.goOn();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #checkSize(file: TraceFile): void {
    const { fileBytesMax = fileBytesDefault } = this.#options;
    if (file.fileBytes <= fileBytesMax) return;
    throw new GodwitError(
      "CONFLICT",
      `the base image alone is larger than ${fileBytesMax} bytes; record with base none or a larger limit`,
    );
  }

  #traceHeader(head: StreamHead): TraceHeader {
    const { vmName, workload = "", accelerator = "unknown", intervalMs, note = "" } = this.#options;
    const { major, minor, micro } = this.#qmp.version.qemu;
    return {
      vmName,
      workload,
      qemuVersion: `${major}.${minor}.${micro}`,
      accelerator,
      blocks: head.blocks.map(({ name, lengthBytes }) => ({ name, lengthBytes })),
      memoryBytes: memoryBytesOf(head),
      intervalMs,
      base: this.#options.base === "none" ? "none" : "full",
      note,
    };
  }

  // Later epochs

  async #recordEpochs(): Promise<TraceSummary["ended"]> {
    const { intervalMs, durationMs, signal, fileBytesMax = fileBytesDefault } = this.#options;
    const untilMs = this.#clock.nowMs() + durationMs;
    let lastMs = this.#clock.nowMs();
    for (let nextMs = lastMs + intervalMs; !this.#tap.ramEnded; nextMs += intervalMs) {
      const nowMs = this.#clock.nowMs();
      // Late by more than an interval: what was missed is not made up for.
      nextMs = Math.max(nextMs, nowMs + intervalMs / 4);
      await this.#pause(nextMs - nowMs);
      this.#throwIfEnding();
      if (signal?.aborted === true) {
        if (this.#dirtyCounts.length === 0) this.#throwIfCancelled();
        return "cancelled";
      }
      await this.#drain();
      const count = await this.#endEpoch(true);
      this.#dirtyCounts.push(count);
      const endMs = this.#clock.nowMs();
      this.#epochMs.push(endMs - lastMs);
      lastMs = endMs;
      if (this.#tap.ramEnded) break;
      if ((this.#file?.fileBytes ?? 0) > fileBytesMax) return "size";
      if (endMs >= untilMs) return "duration";
    }
    return "stopped";
  }

  async #pause(ms: number): Promise<void> {
    const woken = Promise.withResolvers<void>();
    this.#wake = woken.resolve;
    const stop = this.#clock.after(ms, woken.resolve);
    await woken.promise;
    stop();
  }

  /** Reads until everything has come that was written before now. */
  async #drain(): Promise<void> {
    const [clock, tap] = [this.#clock, this.#tap];
    const look = tap.passCount + 1;
    const untilMs = clock.nowMs() + drainMs + 4 * this.#options.intervalMs;
    this.#reading = true;
    await this.#file?.drained();
    tap.goOn();
    let quietTicks = 0;
    let ebbUntilMs = Number.POSITIVE_INFINITY;
    for (;;) {
      const { offset } = tap;
      await sleep(clock, 1);
      this.#throwIfEnding();
      if (tap.ramEnded || tap.isFull) break;
      // Held back only by a file that cannot take more: then what is missing is not known.
      if (tap.isHeld) continue;
      if (clock.nowMs() > untilMs) {
        this.#lateCount++;
        break;
      }
      if (tap.passCount < look) continue;
      quietTicks = tap.offset - offset < quietBytes ? quietTicks + 1 : 0;
      if (tap.passCount > look) {
        ebbUntilMs = Math.min(ebbUntilMs, clock.nowMs() + ebbMs);
        if (quietTicks > 0 || clock.nowMs() >= ebbUntilMs) break;
      } else if (quietTicks >= 2 && tap.hasPagesOfPass) break;
    }
    this.#reading = false;
    tap.hold();
  }

  /** Writes the pages that were collected, unless they are to be dropped; answers how many there were. */
  async #endEpoch(keep: boolean): Promise<number> {
    const file = this.#file;
    assert(file !== undefined, "a base comes first");
    const { written } = this.#tap;
    const { count } = written;
    const atMs = this.#nowMs();
    if (keep) {
      for (const batch of written.batches()) {
        file.batch(atMs, batch);
        await file.drained();
      }
    }
    file.endEpoch(atMs);
    written.clear();
    return count;
  }

  // Life

  #nowMs(): number {
    return this.#clock.nowMs() - this.#startMs;
  }

  /** It failed while this was waited for. */
  #throwIfEnding(): void {
    if (this.#ending) throw new GodwitError("CANCELLED", "the recording has ended");
  }

  #throwIfCancelled(): void {
    this.#throwIfEnding();
    if (this.#options.signal?.aborted !== true) return;
    throw new GodwitError("CANCELLED", "cancelled before anything was recorded");
  }

  #fail(error: unknown): void {
    if (this.#ending) return;
    this.#tap.hold();
    const failure =
      error instanceof Error ? error : new GodwitError("IO", String(error), { cause: error });
    this.#began.reject(failure);
    this.#failed.reject(failure);
  }

  #followProgress(head: StreamHead): void {
    const { onProgress } = this.#options;
    if (onProgress === undefined) return;
    const tick = (): void => {
      onProgress({
        phase: this.#phase,
        elapsedMs: this.#nowMs(),
        memoryBytes: memoryBytesOf(head),
        epochCount: this.#dirtyCounts.length,
        pageCount: this.#tap.pageCount,
        dirtyPageCount: this.#dirtyCounts.at(-1) ?? 0,
        rawBytes: this.#file?.rawBytes ?? 0,
        fileBytes: this.#file?.fileBytes ?? 0,
      });
      this.#stopProgress = this.#clock.after(progressEveryMs, tick);
    };
    tick();
  }

  #summary(head: StreamHead, ended: TraceSummary["ended"]): TraceSummary {
    return {
      path: this.#options.path,
      ended,
      memoryBytes: memoryBytesOf(head),
      epochCount: this.#dirtyCounts.length,
      intervalMs: this.#options.intervalMs,
      medianIntervalMs: median(this.#epochMs),
      basePageCount: this.#tap.basePageCount,
      medianDirtyPages: median(this.#dirtyCounts),
      rawBytes: this.#file?.rawBytes ?? 0,
      fileBytes: this.#file?.fileBytes ?? 0,
      lateCount: this.#lateCount,
      recordedMs: this.#nowMs(),
    };
  }
}

function memoryBytesOf({ blocks }: StreamHead): number {
  return blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
