/**
 * What one method makes of a trace: how small, at how much CPU time, and how fast it is undone. Everything that is encoded is
 * decoded and compared, so a figure here is a figure of something that works.
 *
 * Batches are made as a sender makes them (rebatch.ts), copied to memory of ours and taken in groups of a few MiB: a group is encoded, then decoded, each under one
 * clock, so that looking at the clock, reading the file and comparing are not counted. Several passes over the trace see the
 * same groups; of each group's times the shortest counts, since what disturbs a process only ever makes it slower.
 */
import { setImmediate as turn } from "node:timers/promises";
import { assert, GodwitError } from "../base/index.ts";
import {
  type BatchEncoder,
  batchBytesMax,
  Decoders,
  type PageBatch,
  type RecordRange,
} from "../codec/index.ts";
import { makeDecoders } from "./decoders.ts";
import type { Method } from "./methods.ts";
import { rebatched } from "./rebatch.ts";
import type { TraceBatch } from "../trace/index.ts";

/** Reads a trace from its beginning, each time that it is called. */
export type OpenTrace = () => AsyncIterable<TraceBatch>;

/** Decoders by the id of what they decode, all of one connection. */
export type DecoderTable = Pick<Decoders, "get">;

export interface MeasureOptions {
  /** Bound on the pages that a method keeps. */
  readonly memoryBytes: number;
  /** Default 1. */
  readonly passCount?: number;
  /** Of the first copy, methods without memory are judged by every n-th batch: about this much. Default: all. */
  readonly firstCopyBytesMax?: number;
  /** Epochs are taken until there is this much of them, the same for all methods. Default: all. */
  readonly epochsBytesMax?: number;
  readonly signal?: AbortSignal;
  /** Those of the other side; a new one for each pass. Default: all that there are. */
  readonly makeDecoders?: () => DecoderTable;
  /** CPU time of this process in milliseconds; tests have their own. */
  readonly cpuMs?: () => number;
}

export interface PhaseFigures {
  /** Records as QEMU sends them: a page with its word takes 4104 bytes, a zero page 9. */
  readonly rawBytes: number;
  readonly encodedBytes: number;
  readonly ratio: number;
  /** MB are 10^6 bytes of `rawBytes`. */
  readonly encodeMsPerMb: number;
  /** Up to `decodeMbPerSMax`. */
  readonly decodeMbPerS: number;
}

export interface MethodFigures {
  readonly method: string;
  readonly firstCopy: PhaseFigures | undefined;
  readonly epochs: PhaseFigures | undefined;
  /** The most that the encoder held from one batch to the next. */
  readonly memoryBytes: number;
}

/** Handing a batch through takes no time worth a figure. */
export const decodeMbPerSMax = 100_000;

/** Small enough that the decoders never ask for a pause (codec/codecs.ts). */
const groupBytesMax = 8 << 20;

export type Phase = "firstCopy" | "epochs";

/** What `measure` needs of a method. */
export type Measurable = Pick<Method, "name" | "keepsPages" | "make">;

/** Fails with VERIFY_MISMATCH when what is decoded is not what was encoded. */
export async function measure(
  { name, keepsPages, make }: Measurable,
  open: OpenTrace,
  options: MeasureOptions,
): Promise<MethodFigures> {
  const measurement = new Measurement(name, options.cpuMs);
  const stride = keepsPages ? 1 : await strideOf(open, options);
  for (let pass = 0; pass < (options.passCount ?? 1); pass++) {
    measurement.begin(make(options.memoryBytes), options.makeDecoders?.() ?? makeDecoders());
    for await (const { phase, batch } of wanted(open, stride, options)) {
      if (!measurement.add(phase, batch)) continue;
      await turn();
      options.signal?.throwIfAborted();
    }
    measurement.flush();
  }
  return measurement.figures();
}

/** One encoder and its decoders, fed from outside; `measure` does it for a whole trace. */
export class Measurement {
  readonly #name: string;
  readonly #cpuMs: () => number;
  readonly #sums = { firstCopy: new Sums(), epochs: new Sums() };
  #encoder: BatchEncoder | undefined;
  #group: Group | undefined;
  #memoryBytes = 0;

  constructor(name: string, cpuMs: () => number = systemCpuMs) {
    this.#name = name;
    this.#cpuMs = cpuMs;
  }

  /** The next pass, which is to see the same batches in the same groups. */
  begin(encoder: BatchEncoder, decoders: DecoderTable): void {
    this.flush();
    this.#encoder = encoder;
    this.#group = new Group(this.#name, encoder, decoders, this.#cpuMs);
    for (const sum of Object.values(this.#sums)) sum.begin();
  }

  /** Answers true when a group was full before, and was measured: a good moment to look at the clock. */
  add(phase: Phase, batch: PageBatch): boolean {
    assert(this.#group !== undefined, "a pass has begun");
    const isFull = !this.#group.takes(phase, batch);
    if (isFull) this.flush();
    this.#group.add(phase, batch);
    return isFull;
  }

  /** Measures what was added since. */
  flush(): void {
    this.#group?.run(this.#sums);
    this.#memoryBytes = Math.max(this.#memoryBytes, this.#encoder?.memoryBytes ?? 0);
  }

  figures(): MethodFigures {
    const { firstCopy, epochs } = this.#sums;
    return {
      method: this.#name,
      firstCopy: firstCopy.figures(),
      epochs: epochs.figures(),
      memoryBytes: this.#memoryBytes,
    };
  }
}

export interface Survey {
  readonly firstCopyBytes: number;
  readonly epochsBytes: number;
  readonly epochCount: number;
  /** Full pages of the epochs; 4096 bytes each. */
  readonly pageCount: number;
  readonly zeroCount: number;
  /** Of the last epoch. */
  readonly endMs: number;
}

/** What there is in a trace, without encoding it. */
export async function survey(open: OpenTrace): Promise<Survey> {
  const epochs = new Set<number>();
  const sum = {
    firstCopyBytes: 0,
    epochsBytes: 0,
    epochCount: 0,
    pageCount: 0,
    zeroCount: 0,
    endMs: 0,
  };
  for await (const { epoch, atMs, batch } of open()) {
    sum.endMs = Math.max(sum.endMs, atMs);
    if (epoch === 0) {
      sum.firstCopyBytes += batch.bytes;
      continue;
    }
    epochs.add(epoch);
    sum.epochsBytes += batch.bytes;
    sum.pageCount += batch.pageCount;
    sum.zeroCount += batch.zeroCount;
  }
  return { ...sum, epochCount: epochs.size };
}

/** Every so manieth batch of the first copy makes the sample. */
async function strideOf(open: OpenTrace, { firstCopyBytesMax }: MeasureOptions): Promise<number> {
  if (firstCopyBytesMax === undefined) return 1;
  let bytes = 0;
  for await (const { epoch, batch } of open()) {
    if (epoch > 0) break;
    bytes += batch.bytes;
  }
  return Math.max(1, Math.ceil(bytes / firstCopyBytesMax));
}

async function* wanted(
  open: OpenTrace,
  stride: number,
  { epochsBytesMax = Number.POSITIVE_INFINITY }: MeasureOptions,
): AsyncGenerator<{ phase: Phase; batch: PageBatch }> {
  let index = 0;
  let epochsBytes = 0;
  let lastEpoch = 0;
  for await (const { epoch, batch } of rebatched(open())) {
    if (epoch === 0) {
      if (index++ % stride === 0) yield { phase: "firstCopy", batch };
      continue;
    }
    // Whole epochs only: half of one would be another mix of pages.
    if (epoch !== lastEpoch && epochsBytes >= epochsBytesMax) return;
    lastEpoch = epoch;
    epochsBytes += batch.bytes;
    yield { phase: "epochs", batch };
  }
}

function systemCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Batches that are encoded under one clock, and then decoded under one. */
class Group {
  readonly #name: string;
  readonly #encoder: BatchEncoder;
  readonly #decoders: DecoderTable;
  readonly #cpuMs: () => number;
  readonly #memory = Buffer.allocUnsafeSlow(groupBytesMax);
  #phase: Phase = "firstCopy";
  #used = 0;
  #batches: PageBatch[] = [];

  constructor(name: string, encoder: BatchEncoder, decoders: DecoderTable, cpuMs: () => number) {
    this.#name = name;
    this.#encoder = encoder;
    this.#decoders = decoders;
    this.#cpuMs = cpuMs;
  }

  takes(phase: Phase, { bytes }: PageBatch): boolean {
    if (this.#batches.length === 0) return true;
    return phase === this.#phase && this.#used + bytes <= groupBytesMax;
  }

  add(phase: Phase, batch: PageBatch): void {
    assert(batch.bytes <= batchBytesMax, "a batch fits a frame");
    this.#phase = phase;
    const from = this.#used;
    for (const piece of batch.pieces) {
      this.#memory.set(piece, this.#used);
      this.#used += piece.length;
    }
    const records = this.#memory.subarray(from, this.#used);
    assert(records.length === batch.bytes, "the pieces are the batch");
    this.#batches.push({ ...batch, pieces: [records] });
  }

  run(sums: Readonly<Record<Phase, Sums>>): void {
    if (this.#batches.length === 0) return;
    const { encodeMs, ids, bodies } = this.#encode();
    const decodeMs = this.#decode(ids, bodies);
    const encodedBytes = bodies.reduce((sum, { length }) => sum + length, 0);
    sums[this.#phase].add({ rawBytes: this.#used, encodedBytes, encodeMs, decodeMs });
    this.#batches = [];
    this.#used = 0;
  }

  #encode() {
    const encoder = this.#encoder;
    const [ids, pieces] = [[] as number[], [] as (readonly Uint8Array[])[]];
    const began = this.#cpuMs();
    for (const batch of this.#batches) {
      pieces.push(encoder.encode(batch));
      ids.push(encoder.id);
    }
    const encodeMs = this.#cpuMs() - began;
    // As it arrives at the other side: in one piece, and not in the encoder's memory.
    return { encodeMs, ids, bodies: pieces.map((some) => Buffer.concat(some)) };
  }

  #decode(ids: readonly number[], bodies: readonly Buffer[]): number {
    const ranges: RecordRange[] = [];
    const releases: (() => void)[] = [];
    const began = this.#cpuMs();
    for (const [i, body] of bodies.entries()) {
      const decoder = this.#decoders.get(ids[i] as number);
      const range = decoder.decode(rangeOf(body), this.#batches[i]?.bytes ?? 0);
      releases.push(range.hold());
      ranges.push(range);
    }
    const decodeMs = this.#cpuMs() - began;
    for (const [i, { bytes, from, to }] of ranges.entries()) {
      const records = this.#batches[i]?.pieces[0] as Buffer;
      if (records.equals(bytes.subarray(from, to))) continue;
      throw new GodwitError(
        "VERIFY_MISMATCH",
        `${this.#name} does not give back what it was given`,
      );
    }
    for (const release of releases) release();
    return decodeMs;
  }
}

function rangeOf(body: Uint8Array): RecordRange {
  return { bytes: body, from: 0, to: body.length, hold: () => () => {} };
}

interface GroupFigures {
  readonly rawBytes: number;
  readonly encodedBytes: number;
  readonly encodeMs: number;
  readonly decodeMs: number;
}

/** Of one phase: the best of all passes, group by group. */
class Sums {
  readonly #groups: GroupFigures[] = [];
  #index = 0;

  /** The next pass. */
  begin(): void {
    this.#index = 0;
  }

  add(now: GroupFigures): void {
    const before = this.#groups[this.#index] ?? now;
    assert(before.rawBytes === now.rawBytes, "all passes see the same groups");
    this.#groups[this.#index++] = {
      ...now,
      encodeMs: Math.min(before.encodeMs, now.encodeMs),
      decodeMs: Math.min(before.decodeMs, now.decodeMs),
    };
  }

  figures(): PhaseFigures | undefined {
    const sum = (key: keyof GroupFigures) =>
      this.#groups.reduce((total, group) => total + group[key], 0);
    const [rawBytes, encodedBytes] = [sum("rawBytes"), sum("encodedBytes")];
    if (rawBytes === 0) return undefined;
    const mbPerS = rawBytes / 1e6 / (sum("decodeMs") / 1e3);
    return {
      rawBytes,
      encodedBytes,
      ratio: rawBytes / encodedBytes,
      encodeMsPerMb: sum("encodeMs") / (rawBytes / 1e6),
      decodeMbPerS: Math.min(mbPerS, decodeMbPerSMax),
    };
  }
}
