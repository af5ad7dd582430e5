/**
 * `auto` on real memory: the traces of test/golden/traces with the codecs as they are, over links in simulated time. What it
 * takes is compared with every fixed choice.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AutoEncoder, type Candidate } from "../../src/codec/auto/index.ts";
import type { BatchEncoder, PageBatch } from "../../src/codec/index.ts";
import { StreamsEncoder } from "../../src/codec/streams/index.ts";
import { readTrace } from "../../src/trace/index.ts";
import { type EncodedLater, migrate, type Outcome, ThreadTime } from "./auto-migration.ts";

/**
 * The small traces have batches of two or three pages. Each stands for a batch, and for bodies, of so many times the size, and so
 * the trace for a guest so much larger.
 */
const scale = 32;
const batchBytesMax = 64 << 10;
/**
 * Until the link has shown itself records are compressed by zstd, too much for a fast link; and one batch, so much larger here than in
 * life, goes as it is, too much for a slow one.
 */
const firstLookMs = 20;
const epochCount = 12;

/** Of records for the look at pages, of what that leaves for a pack; close to what is measured. */
const pagesMsPerMb = 0.5;
/** To hand streams to another thread. */
const copyMsPerMb = 0.15;
const packs = [
  { name: "lz4", pack: "lz4", level: 0, msPerMb: 1 },
  { name: "zstd-1", pack: "zstd", level: 1, msPerMb: 1.9 },
  { name: "zstd-3", pack: "zstd", level: 3, msPerMb: 2.8 },
  { name: "zstd-6", pack: "zstd", level: 6, msPerMb: 6.5 },
] as const;
type Pack = (typeof packs)[number];

const none: Candidate = {
  name: "none",
  use: () => ({ ...encoderBasis, name: "none", encode: ({ bytes }) => pieces(bytes) }),
  bodyBytes: () => 0,
};

const encoderBasis = { id: 0, memoryBytes: 0, reset: () => {} };

/** Nothing but their length is looked at. */
function pieces(length: number): readonly Uint8Array[] {
  return [{ length } as Uint8Array];
}

function lengthOf(body: readonly Uint8Array[]): number {
  return body.reduce((sum, { length }) => sum + length, 0);
}

interface Scaled extends PageBatch {
  readonly real: PageBatch;
}

function candidatesIn(time: ThreadTime): Candidate[] {
  const streams = new StreamsEncoder({ method: "hybrid", memoryBytes: 128 << 20, generation: 1 });
  const take = (bytes: number, msPerMb: number): void => {
    time.ms += (bytes * msPerMb) / 1e6;
  };
  const hybrid = ({ name, pack, level, msPerMb }: Pack): Candidate => {
    const encode = (batch: PageBatch): readonly Uint8Array[] => {
      streams.usePack(pack, level);
      const body = streams.encode((batch as Scaled).real);
      take(batch.bytes, pagesMsPerMb);
      take(streams.streamsBytes * scale, msPerMb);
      return pieces(scale * lengthOf(body));
    };
    const later = (batch: PageBatch): Promise<EncodedLater> => {
      streams.usePack(pack, level);
      const body = pieces(scale * lengthOf(streams.encode((batch as Scaled).real)));
      take(batch.bytes, pagesMsPerMb);
      take(besideBytes(), copyMsPerMb);
      const readyMs = time.beside((besideBytes() * msPerMb) / 1e6);
      return Promise.resolve({ id: 0, body, readyMs });
    };
    const besideBytes = (): number => streams.streamsBytes * scale;
    const encoder: BatchEncoder = {
      ...encoderBasis,
      name,
      encode,
      later,
    };
    const bodyBytes = (): number => {
      take(streams.streamsBytes * scale, msPerMb);
      return streams.bytesWith(pack, level) * scale;
    };
    return { name, use: () => encoder, bodyBytes, besideBytes };
  };
  return [none, ...packs.map(hybrid)];
}

async function guest(...names: readonly string[]): Promise<Scaled[]> {
  const [first, later]: [Scaled[], Scaled[]] = [[], []];
  for (const [block, name] of names.entries()) {
    for await (const { epoch, batch } of readTrace(`test/golden/traces/${name}.gtrace`)) {
      if (epoch > epochCount) break;
      const real = { ...batch, block: block * 100 + batch.block };
      (epoch === 0 ? first : later).push({ ...real, bytes: batch.bytes * scale, real });
    }
  }
  return [...first, ...later];
}

/** What a fixed choice makes of the batches is the same over any link. */
async function recorded(
  batches: readonly PageBatch[],
): Promise<((time: ThreadTime) => BatchEncoder)[]> {
  const made: ((time: ThreadTime) => BatchEncoder)[] = [];
  for (const [index, name] of ["none", ...packs.map((pack) => pack.name)].entries()) {
    const time = new ThreadTime();
    const candidate = candidatesIn(time)[index] as Candidate;
    const bodies: Recorded[] = [];
    for (const batch of batches) {
      const startMs = time.ms;
      const encoder = candidate.use();
      const later = encoder.later?.(batch) ?? { id: 0, body: encoder.encode(batch) };
      const { body, readyMs }: EncodedLater = await later;
      const besideMs = readyMs === undefined ? undefined : readyMs - time.ms;
      bodies.push({ length: lengthOf(body), ms: time.ms - startMs, besideMs });
      // The other threads are free for the next one.
      time.idleUntil(readyMs ?? 0);
    }
    made.push((simulated) => replayed(name, bodies, simulated));
  }
  return made;
}

interface Recorded {
  readonly length: number;
  readonly ms: number;
  readonly besideMs: number | undefined;
}

function replayed(name: string, bodies: readonly Recorded[], time: ThreadTime): BatchEncoder {
  let next = 0;
  const encode = (): never => assert.fail("as the migration does it");
  const later = (): EncodedLater => {
    const { length, ms, besideMs } = bodies[next++] as Recorded;
    time.ms += ms;
    const done = { id: 0, body: pieces(length) };
    return besideMs === undefined ? done : { ...done, readyMs: time.beside(besideMs) };
  };
  return { ...encoderBasis, name, encode, later };
}

const links = { "100 Mbit/s": 12e3, "200 Mbit/s": 24e3, "1 Gbit/s": 120e3, "10 Gbit/s": 1200e3 };
/** Slower ones want batches as small as they are in life: chooser.test.ts has them. */
const sources = [400, 1500];

async function compare(batches: readonly PageBatch[], names: string): Promise<void> {
  const fixed = await recorded(batches);
  for (const [link, bytesPerMs] of Object.entries(links)) {
    for (const source of sources) {
      const world = {
        link: () => bytesPerMs,
        source: source * 1000,
        readyBytes: batchBytesMax * scale,
      };
      const outcomes: Outcome[] = [];
      for (const make of fixed) {
        const fixedTime = new ThreadTime();
        outcomes.push(await migrate(batches, make(fixedTime), fixedTime, world));
      }
      const time = new ThreadTime();
      const auto = new AutoEncoder(candidatesIn(time), "zstd-1", time, () => time.idleMs);
      const { ms } = await migrate(batches, auto, time, world);
      const raw = outcomes[0] as Outcome;
      const best = Math.min(...outcomes.map((one) => one.ms));
      const told = `${names}, ${link}, source ${source} MB/s: auto ${ms}, best ${best}, none ${raw.ms}`;
      const lookMs = firstLookMs + (batchBytesMax * scale) / bytesPerMs;
      assert.ok(ms <= best * 1.05 + lookMs, told);
      assert.ok(ms <= raw.ms * 1.02 + lookMs, told);
    }
  }
}

for (const names of [
  ["java", "gcc"],
  ["postgres-1", "redis"],
]) {
  test(`on traces of real guests auto is as fast as the best fixed choice, or nearly [${names.join(" and ")}]`, async () => {
    await compare(await guest(...names), names.join(" and "));
  });
}
