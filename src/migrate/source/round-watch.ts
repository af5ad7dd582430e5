/**
 * What QEMU's passes begin with: how much each found dirty, and how fast the link carries memory. That becomes the event `round`; what
 * follows from it is decided in machine.ts.
 */
import { Prng } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { pageBytes, type StreamHead } from "../../qemu/stream/index.ts";
import type { FrameChannel } from "../channel.ts";
import type { MigrateOptions } from "../job.ts";
import { RandomHints } from "../random-hints.ts";
import { firstRoundEnds, type RateMeter, RecordRate } from "../rate.ts";
import type { Round } from "../rounds.ts";
import type { SkipMap } from "../skip-map.ts";
import type { Assistance } from "./assistance.ts";
import type { AssistedRounds } from "./assisted-rounds.ts";
import type { SourcePhase } from "./machine.ts";
import type { SourcePump } from "./pump.ts";
import type { SourceQemu } from "./qemu.ts";
import type { SourceStatistics } from "./statistics.ts";

export interface RoundWatchOptions {
  readonly clock: Clock;
  readonly options: MigrateOptions;
  readonly channel: FrameChannel;
  readonly meter: RateMeter;
  readonly pump: SourcePump;
  readonly skip: SkipMap;
  readonly assistance: Assistance;
  readonly assisted: AssistedRounds;
  readonly statistics: SourceStatistics;
  readonly qemu: () => SourceQemu | undefined;
  readonly phase: () => SourcePhase;
  /** A round has begun; `bytesPerMs` is what the link carried lately, as memory. */
  readonly round: (round: Round, bytesPerMs: number) => void;
  readonly failed: (error: unknown) => void;
}

export class RoundWatch {
  readonly #options: RoundWatchOptions;
  readonly #recordRate = new RecordRate();
  #hints: RandomHints | undefined;
  #passCount = 0;
  /** When the stream began; undefined before. */
  #beganMs: number | undefined;

  constructor(options: RoundWatchOptions) {
    this.#options = options;
  }

  began(head: StreamHead): void {
    const { clock, skip } = this.#options;
    const { dropShare, dropSeed } = this.#options.options;
    this.#beganMs = clock.nowMs();
    if (dropShare > 0) {
      this.#hints = new RandomHints(skip, head.blocks, dropShare, new Prng(dropSeed));
    }
  }

  async passBegan(): Promise<void> {
    const { assisted, clock, failed, phase, pump } = this.#options;
    const startMs = clock.nowMs();
    this.#passCount++;
    const pass = this.#passCount;
    if (pass > 1) pump.sender.endBulk();
    const rest = assisted.passBegan(startMs);
    if (phase() !== "rounds" && phase() !== "setup") return;
    try {
      // The next pass tells what was dirtied meanwhile.
      if (rest !== undefined) return await rest;
      await this.#roundBegan(pass, startMs);
    } catch (error) {
      failed(error);
    }
  }

  async #roundBegan(pass: number, startMs: number): Promise<void> {
    const { assistance, assisted, channel, meter, phase, pump, qemu, statistics } = this.#options;
    const { ram } = (await qemu()?.query()) ?? {};
    if (ram === undefined) return;
    this.#hints?.refresh();
    meter.update(channel.wireBytes, startMs);
    const found = { index: ram["dirty-sync-count"], dirtyBytes: ram.remaining, startMs };
    const adjusted = assistance.adjust(found, statistics.sentCounts());
    const assists = assistance.isActive;
    this.#measureRecords();
    const { encodedRawBytes, encodedBodyBytes } = pump.sender;
    if (pass > 1) this.#recordRate.passBegan(encodedRawBytes, encodedBodyBytes);
    const bytesPerMs = this.recordsPerMs();
    if (assists && found.index === 2 && (await assisted.reconsider(found, bytesPerMs))) return;
    // Asking took so long that the next one has begun.
    if (pass !== this.#passCount) return;
    this.#options.round(assists ? adjusted : found, bytesPerMs);
    if (phase() === "rounds") await assisted.refresh();
  }

  /** At its end the queue becomes short: what is in flight has to drain before the VM is stopped. */
  lookAtFirstRound(): void {
    if (this.#beganMs === undefined || this.#passCount > 1) return;
    const { clock, pump, skip, statistics } = this.#options;
    const elapsedMs = clock.nowMs() - this.#beganMs;
    const allPages = statistics.memoryBytes / pageBytes;
    const sentPages = pump.pageCount + pump.zeroCount + skip.droppedCount;
    if (firstRoundEnds(elapsedMs, sentPages, allPages)) pump.sender.endBulk();
  }

  /** Several times a second. */
  tick(): void {
    const { channel, clock, meter } = this.#options;
    meter.update(channel.wireBytes, clock.nowMs());
    this.#measureRecords();
  }

  #measureRecords(): void {
    const { encodedRawBytes, encodedBodyBytes, encodeMs, besideMs } = this.#options.pump.sender;
    this.#recordRate.update(encodedRawBytes, encodedBodyBytes, Math.max(encodeMs, besideMs));
  }

  /** What the link carried lately, as memory: with a codec that is more than its bytes. */
  recordsPerMs(): number {
    const { clock, meter } = this.#options;
    return this.#recordRate.recordsPerMs(meter.bytesPerMs(clock.nowMs()));
  }
}
