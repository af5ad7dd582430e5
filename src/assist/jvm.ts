/** A Java VM that takes part without knowing it: its heap is read from outside (docs/JAVMM.md). */
import type { Clock } from "../io/index.ts";
import type { AgentClient, AgentProcess } from "./agent/index.ts";
import { AllocationMeter } from "./allocation.ts";
import { type HeapSnapshot, HotspotVm, type PauseTimes } from "./hotspot/index.ts";
import type { Participant } from "./participant.ts";
import type { MemoryRange } from "./ranges.ts";

/** Below this no collection is to be expected during a migration, nor can one be provoked. */
const idleBytesPerMs = 1_000;
/** A thread fetches a buffer of up to some MB from eden at once, and takes its time to fill it. */
const idleAfterMs = 1_000;

const fewSurvivorBytes = 2 << 20;
/** Of the whole heap instead of the young generation. */
const fullFactor = 15;
/** One that comes at any time may find more alive than those that come when eden is full (javac: 200 → 333 ms, 149 → 405 ms). */
const provokedFactor = 1.5;
/** In an emulated guest, into memory that was never touched. */
const promotedBytesPerMs = 30_000;

export class JvmParticipant implements Participant {
  readonly kind = "young";
  readonly process: AgentProcess;
  readonly vm: HotspotVm;
  readonly allocation = new AllocationMeter();
  readonly #clock: Clock;
  #pauses: PauseTimes | undefined;
  #firstPauses: PauseTimes | undefined;
  /** What a snapshot says of collections is more than those of eden, whose number is read elsewhere. */
  #countsOthers: boolean;
  /** The newest one. */
  heap: HeapSnapshot;

  private constructor(process: AgentProcess, vm: HotspotVm, heap: HeapSnapshot, clock: Clock) {
    this.process = process;
    this.vm = vm;
    this.heap = heap;
    this.#clock = clock;
    this.#countsOthers = vm.collector === "g1";
    this.#learn(heap);
  }

  /** Fails with ASSIST_UNSUPPORTED when this JVM is to travel as ordinary memory, with AGENT_* otherwise. */
  static async open(
    agent: AgentClient,
    process: AgentProcess,
    clock: Clock,
  ): Promise<JvmParticipant> {
    const vm = await HotspotVm.open({
      maps: () => agent.maps(process),
      read: (ranges) => agent.read(process, ranges),
    });
    return new JvmParticipant(process, vm, await vm.snapshot(), clock);
  }

  get name(): string {
    return `${this.process.command} (JDK ${this.vm.version}, ${this.vm.collector})`;
  }

  async snapshot(): Promise<HeapSnapshot> {
    this.heap = await this.vm.snapshot();
    this.#learn(this.heap);
    return this.heap;
  }

  /** A snapshot from which as much is learned as can be of how fast it allocates. */
  async look(): Promise<HeapSnapshot> {
    if (this.vm.collector !== "g1") return await this.snapshot();
    const before = await this.vm.youngCollections();
    const heap = await this.vm.snapshot();
    const collections = await this.vm.youngCollections();
    const countsOthers = collections !== undefined;
    // The two counts have nothing to do with each other.
    if (countsOthers !== this.#countsOthers) this.allocation.forget();
    this.#countsOthers = countsOthers;
    this.heap = heap;
    if (collections === undefined) this.#learn(heap);
    else if (collections === before) {
      this.allocation.update({ ...heap, collections }, this.#clock.nowMs());
    }
    return heap;
  }

  /** G1 counts as a collection what empties no eden: taken for one, it would seem to have been filled once more. */
  #learn(heap: HeapSnapshot): void {
    if (!this.#countsOthers) this.allocation.update(heap, this.#clock.nowMs());
  }

  /** Known to allocate hardly anything: what is in its eden stays there. */
  get isIdle(): boolean {
    const { bytesPerMs, watchedMs } = this.allocation;
    return bytesPerMs !== undefined && bytesPerMs < idleBytesPerMs && watchedMs >= idleAfterMs;
  }

  /**
   * How long its next collection will take, judged by the last one and those since it was first looked at; undefined: not known.
   * Those at a program's start, with everything cold, would be a bad guide.
   */
  get collectionMs(): number | undefined {
    const pauses = this.#pauses;
    if (pauses === undefined || pauses.count === 0) return undefined;
    const first = this.#firstPauses ?? pauses;
    const count = pauses.count - first.count;
    return count > 0
      ? Math.max(pauses.lastMs, (pauses.totalMs - first.totalMs) / count)
      : pauses.lastMs;
  }

  /**
   * How long a collection may take that is provoked. Parallel, with much in its survivor space, may collect the whole heap for
   * it, and promote all: up to fifteen times as long (measured with 12 MB of survivors: derby 152 and 430 ms, where Serial took
   * 43; crypto 51 and 530, 42 and 592, 39 and 600). Any other may take longer than usual, too. Without figures of its own: by
   * what has to be copied.
   */
  get provokedMs(): number {
    const { survivorUsedBytes } = this.heap;
    const usualMs = this.collectionMs;
    if (usualMs === undefined) return survivorUsedBytes / promotedBytesPerMs;
    const isParallel = this.vm.collector === "parallel";
    const mayCollectAll = isParallel && survivorUsedBytes > fewSurvivorBytes;
    return usualMs * (mayCollectAll ? fullFactor : provokedFactor);
  }

  /** Of an idle one only what is free: its eden will not be collected. */
  async disposable(): Promise<readonly MemoryRange[]> {
    const heap = await this.look();
    this.#pauses = (await this.vm.pauseTimes()) ?? this.#pauses;
    this.#firstPauses ??= this.#pauses;
    return this.isIdle ? heap.dead : heap.disposable;
  }
}
