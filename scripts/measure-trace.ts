/** Figures of a trace of our own: how much its VM writes, and how much of what is written differs from before. */
import { pageBytes } from "../src/qemu/stream/index.ts";
import { readTraceFrames, readTraceHeader, type TraceBatch } from "../src/trace/index.ts";

export interface TraceFigures {
  /** Without the base. */
  readonly epochCount: number;
  readonly medianIntervalMs: number;
  readonly medianDirtyPages: number;
  readonly baseBytes: number;
  /** Records of the epochs after the base. */
  readonly dirtyBytes: number;
  /** Of the pages written: those that hold what they held before. */
  readonly unchangedPages: number;
  /** Of their 64-bit words: likewise. */
  readonly unchangedWords: number;
}

/** Needs as much memory as the VM has. */
export async function measureTrace(path: string): Promise<TraceFigures> {
  const { blocks } = await readTraceHeader(path);
  const images = blocks.map(({ lengthBytes }) => new Uint32Array(lengthBytes / 4));
  const counts: number[] = [];
  const times: number[] = [];
  const words = { pages: 0, samePages: 0, words: 0, sameWords: 0 };
  let [baseBytes, dirtyBytes, lastMs] = [0, 0, 0];
  for await (const frame of readTraceFrames(path)) {
    if (frame.type === "epoch") {
      if (frame.epoch > 0) {
        counts.push(frame.dirtyCount);
        times.push(frame.atMs - lastMs);
      }
      lastMs = frame.atMs;
    } else if (frame.type === "batch") {
      if (frame.epoch === 0) baseBytes += frame.batch.bytes;
      else dirtyBytes += frame.batch.bytes;
      apply(frame, images[frame.batch.block] as Uint32Array, words);
    }
  }
  return {
    epochCount: counts.length,
    medianIntervalMs: median(times),
    medianDirtyPages: median(counts),
    baseBytes,
    dirtyBytes,
    unchangedPages: words.samePages / words.pages,
    unchangedWords: words.sameWords / words.words,
  };
}

type Counts = { pages: number; samePages: number; words: number; sameWords: number };

function apply({ epoch, batch }: TraceBatch, image: Uint32Array, counts: Counts): void {
  const bytes = Buffer.concat(batch.pieces);
  for (let at = 0; at < bytes.length; ) {
    const word = bytes.readBigUInt64BE(at);
    const isZero = (word & 0x02n) !== 0n;
    const page = new Uint8Array(pageBytes);
    if (!isZero) page.set(bytes.subarray(at + 8, at + 8 + pageBytes));
    const first = Number(word >> 12n) * (pageBytes / 4);
    const same = replace(
      image.subarray(first, first + pageBytes / 4),
      new Uint32Array(page.buffer),
    );
    if (epoch > 0) {
      counts.pages++;
      counts.words += pageBytes / 8;
      counts.sameWords += same;
      if (same === pageBytes / 8) counts.samePages++;
    }
    at += isZero ? 9 : 8 + pageBytes;
  }
}

/** Answers how many 64-bit words were the same. */
function replace(old: Uint32Array, now: Uint32Array): number {
  let same = 0;
  for (let i = 0; i < now.length; i += 2) {
    if (old[i] === now[i] && old[i + 1] === now[i + 1]) same++;
  }
  old.set(now);
  return same;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
