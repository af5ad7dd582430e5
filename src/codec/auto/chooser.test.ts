/** Whole migrations in simulated time, of memory that is made up: what `auto` takes is compared with every fixed choice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type EncodedLater,
  migrate,
  type Outcome,
  ThreadTime,
  type World,
} from "../../../test/sim/auto-migration.ts";
import { Prng } from "../../base/index.ts";
import type { BatchEncoder, PageBatch } from "../index.ts";
import { Chooser } from "./chooser.ts";
import { AutoEncoder, type Candidate } from "./encoder.ts";

const batchBytes = 256 << 10;
const MiB = 2 ** 20;

/** Of memory: what lz4 makes of it, and how much of it a history leaves for a pack. */
interface Batch extends PageBatch {
  readonly lz4Ratio: number;
  readonly leftShare: number;
}

interface Pack {
  readonly name: string;
  /** How many times as much as lz4 it saves, and the time it takes. */
  readonly gain: number;
  readonly msPerMb: number;
}

const packs: readonly Pack[] = [
  { name: "lz4", gain: 1, msPerMb: 1 },
  { name: "zstd-1", gain: 1.4, msPerMb: 1.9 },
  // Levels do not gain evenly.
  { name: "zstd-3", gain: 1.405, msPerMb: 2.8 },
  { name: "zstd-6", gain: 1.5, msPerMb: 6.5 },
];
const pagesMsPerMb = 0.6;
/** To hand streams to another thread. */
const copyMsPerMb = 0.15;

/** Memory comes in stretches that have nothing to do with each other; later rounds change little. */
function memory(mebibytes: number, { seed = 1, compresses = true } = {}): Batch[] {
  const prng = new Prng(seed);
  const batches: Batch[] = [];
  const count = (mebibytes * MiB) / batchBytes;
  while (batches.length < count) {
    const lz4Ratio = compresses ? [1, 1.5, 2.2, 2.6, 3, 9][prng.integer(0, 5)] : 1;
    const leftShare = compresses && batches.length > count * 0.6 ? 0.02 + 0.2 * prng.fraction() : 1;
    for (let left = prng.integer(4, 60); left > 0; left--) {
      const noise = compresses ? 0.85 + 0.3 * prng.fraction() : 1;
      batches.push({
        block: 0,
        pieces: [],
        bytes: batchBytes,
        pageCount: 63,
        zeroCount: 0,
        leftShare,
        lz4Ratio: Math.max(1, (lz4Ratio ?? 1) * noise),
      });
    }
  }
  return batches.slice(0, count);
}

function candidatesIn(time: ThreadTime, seed = 1): Candidate[] {
  const prng = new Prng(seed);
  let last: Batch | undefined;
  // Now and then a thread has to wait for its turn, or for a collection of garbage.
  const disturbed = (ms: number): number =>
    ms * (0.85 + 0.3 * prng.fraction()) * (prng.chance(0.01) ? 8 : 1);
  const take = (ms: number): void => {
    time.ms += disturbed(ms);
  };
  const packed = ({ gain }: Pack): number => {
    const { bytes, leftShare, lz4Ratio } = last as Batch;
    return (bytes * leftShare) / (lz4Ratio < 1.1 ? 1 : lz4Ratio * gain);
  };
  const packMs = ({ msPerMb }: Pack): number => (besideBytes() * msPerMb) / 1e6;
  const besideBytes = (): number => (last as Batch).bytes * (last as Batch).leftShare;
  const bodyBytes = (pack: Pack): number => {
    take(packMs(pack));
    return packed(pack);
  };
  const candidate = (name: string, encode: (batch: Batch) => number, tried: () => number) => {
    const encoder: BatchEncoder = {
      id: 0,
      name,
      memoryBytes: 0,
      reset: () => {},
      encode: (batch) => [{ length: encode(batch as Batch) } as Uint8Array],
    };
    return { name, use: () => encoder, bodyBytes: tried };
  };
  const hybrid = (pack: Pack): Candidate => {
    const encode = (batch: Batch): number => {
      last = batch;
      take((batch.bytes * pagesMsPerMb) / 1e6);
      return bodyBytes(pack);
    };
    const made = candidate(pack.name, encode, () => bodyBytes(pack));
    const later = (batch: PageBatch): Promise<EncodedLater> => {
      last = batch as Batch;
      take((batch.bytes * (pagesMsPerMb + copyMsPerMb)) / 1e6);
      const body = [{ length: packed(pack) } as Uint8Array];
      return Promise.resolve({ id: 0, body, readyMs: time.beside(disturbed(packMs(pack))) });
    };
    return { ...made, besideBytes, use: () => ({ ...made.use(), later }) };
  };
  return [
    candidate(
      "none",
      ({ bytes }) => bytes,
      () => 0,
    ),
    ...packs.map(hybrid),
  ];
}

interface Run extends Outcome {
  readonly shareOf: (name: string) => number;
}

async function runAuto(batches: readonly Batch[], world: World, seed = 1): Promise<Run> {
  const time = new ThreadTime();
  const auto = new AutoEncoder(candidatesIn(time, seed), "zstd-1", time, () => time.idleMs);
  const outcome = await migrate(batches, auto, time, world);
  const shareOf = (name: string): number =>
    (auto.usage().find((one) => one.name === name)?.batchCount ?? 0) / batches.length;
  return { ...outcome, shareOf };
}

async function runFixed(batches: readonly Batch[], world: World): Promise<readonly Outcome[]> {
  const outcomes = ["none", ...packs.map(({ name }) => name)].map((_, index) => {
    const time = new ThreadTime();
    return migrate(batches, (candidatesIn(time)[index] as Candidate).use(), time, world);
  });
  return await Promise.all(outcomes);
}

const links = { "100 Mbit/s": 12e3, "200 Mbit/s": 24e3, "1 Gbit/s": 120e3, "10 Gbit/s": 1200e3 };

function worldOf(link: number | ((nowMs: number) => number), source = 1500): World {
  const at = typeof link === "number" ? () => link : link;
  return { link: at, source: source * 1000, readyBytes: 512 << 10 };
}

for (const [name, link] of Object.entries(links)) {
  test(`auto is as fast as the best fixed choice, or nearly [${name}]`, async () => {
    for (const source of [150, 400, 1500]) {
      for (const seed of [1, 2, 3]) {
        const batches = memory(1024, { seed });
        const best = Math.min(
          ...(await runFixed(batches, worldOf(link, source))).map(({ ms }) => ms),
        );
        const { ms } = await runAuto(batches, worldOf(link, source), seed);
        assert.ok(ms <= best * 1.05, `source ${source}, seed ${seed}: auto ${ms}, best ${best}`);
      }
    }
  });
}

for (const [name, link] of Object.entries(links)) {
  test(`where all share a processor auto is as fast as the best fixed choice, or nearly [${name}]`, async () => {
    for (const source of [250, 400, 800]) {
      for (const seed of [1, 2, 3]) {
        const batches = memory(1024, { seed });
        const world = { ...worldOf(link, source), isShared: true };
        const best = Math.min(...(await runFixed(batches, world)).map(({ ms }) => ms));
        const { ms } = await runAuto(batches, world, seed);
        assert.ok(ms <= best * 1.05, `source ${source}, seed ${seed}: auto ${ms}, best ${best}`);
      }
    }
  });
}

test("where the destination takes no more, compressing is no help", async () => {
  for (const destination of [200e3, 400e3]) {
    const batches = memory(1024);
    const world = { ...worldOf(1200e3, 800), isShared: true, destination };
    const [none] = await runFixed(batches, world);
    const { ms } = await runAuto(batches, world);
    assert.ok(none !== undefined && ms <= none.ms * 1.02, `auto ${ms}, none ${none?.ms}`);
  }
});

test("on a slow link lz4 is left after what was in flight, and not come back to", async () => {
  const batches = memory(512);
  const { shareOf } = await runAuto(batches, worldOf(24e3));
  assert.ok(shareOf("lz4") < 0.08, `lz4 for ${shareOf("lz4")}`);
  assert.ok(shareOf("none") < 0.004, `until the link is known, ${shareOf("none")}`);
});

test("a level that gains nothing does not hide the next one", async () => {
  const { shareOf } = await runAuto(memory(512), worldOf(12e3));
  assert.ok(shareOf("zstd-6") > 0.5, `zstd-6 for ${shareOf("zstd-6")}`);
});

test("on a fast link nothing is compressed, and none is hardly faster than auto", async () => {
  const batches = memory(1024);
  const [none] = await runFixed(batches, worldOf(1200e3));
  const { ms, shareOf } = await runAuto(batches, worldOf(1200e3));
  assert.ok(none !== undefined && ms <= none.ms * 1.02, `auto ${ms}, none ${none?.ms}`);
  assert.ok(shareOf("none") > 0.95);
});

test("where the source is slow, what thread and link have room for saves bytes", async () => {
  const batches = memory(1024);
  const [none] = await runFixed(batches, worldOf(1200e3, 150));
  const { ms, sentBytes } = await runAuto(batches, worldOf(1200e3, 150));
  assert.ok(none !== undefined && ms <= none.ms * 1.02, `auto ${ms}, none ${none?.ms}`);
  assert.ok(sentBytes < none.sentBytes / 2.5, `${sentBytes} of ${none.sentBytes}`);
});

test("a link that becomes faster, or slower, is noticed", async () => {
  const batches = memory(2048);
  for (const [before, after, atMs] of [
    [12e3, 120e3, 5000],
    [120e3, 1200e3, 1000],
    [1200e3, 12e3, 400],
    [120e3, 30e3, 1000],
  ] as const) {
    const changing = worldOf((nowMs) => (nowMs < atMs ? before : after));
    const best = Math.min(...(await runFixed(batches, changing)).map(({ ms }) => ms));
    const { ms } = await runAuto(batches, changing);
    assert.ok(ms <= best * 1.05, `${before} to ${after}: auto ${ms}, best ${best}`);
  }
});

test("memory that does not compress costs little [any link]", async () => {
  const batches = memory(512, { compresses: false });
  for (const link of Object.values(links)) {
    const none = (await runFixed(batches, worldOf(link)))[0] as Outcome;
    const { ms } = await runAuto(batches, worldOf(link));
    assert.ok(ms <= none.ms * 1.02, `${link}: auto ${ms}, none ${none.ms}`);
  }
});

test("once settled nothing is tried, but a link that fails is still answered", () => {
  const chooser = new Chooser(5, 1, 0);
  let nowMs = 0;
  const send = (count: number, link: number): number => {
    let trialCount = 0;
    for (let i = 0; i < count; i++) {
      nowMs += 2;
      const turn = chooser.next(nowMs);
      chooser.sends(turn, batchBytes);
      trialCount += turn.trials.length;
      const outcome = (index: number) => {
        return { bodyBytes: batchBytes / (1 + index), ms: index / 4, besideMs: 0 };
      };
      chooser.encoded(turn, batchBytes, outcome(turn.method), nowMs);
      chooser.tried(turn, batchBytes, turn.trials.map(outcome), nowMs);
      chooser.link(
        {
          bytesPerMs: link,
          waitingShare: 0.9,
          idleShare: 0.9,
          besideShare: 0,
          destinationIdleShare: 1,
        },
        nowMs,
      );
    }
    return trialCount;
  };
  assert.ok(send(200, 30e3) > 0, "tried now and then");
  assert.equal(chooser.current, 4);
  send(300, 300e3);
  const settled = chooser.current;
  assert.ok(settled < 4);
  chooser.settle();
  assert.equal(send(100, 300e3), 0);
  assert.equal(chooser.current, settled);
  send(100, 30e3);
  assert.ok(chooser.current > settled);
});

test("from records as they are a step is tried where the link is full, and elsewhere only now and then", () => {
  const tried = (destinationIdleShare: number): number[] => {
    const chooser = new Chooser(3, 1, 0);
    const atMs: number[] = [];
    for (let nowMs = 1, count = 0; nowMs < 5_000; nowMs++) {
      const turn = chooser.next(nowMs);
      chooser.sends(turn, 150e3);
      if (turn.isTrial) atMs.push(nowMs);
      // It gains nothing.
      const outcome = { bodyBytes: 150e3, ms: 2, besideMs: 0 };
      chooser.encoded(turn, 150e3, outcome, nowMs);
      chooser.arrived(++count, nowMs);
      const seen = { bytesPerMs: 150e3, waitingShare: 0.5, idleShare: 0.3, besideShare: 0 };
      if (nowMs % 50 === 0) chooser.link({ ...seen, destinationIdleShare }, nowMs);
    }
    return atMs;
  };
  const busy = tried(0.05);
  assert.ok(busy.length > 0 && busy.length <= 3, busy.join());
  assert.ok((busy[0] as number) >= 2_000, busy.join());
  assert.ok(tried(0.4).length > 10);
});

test("a thread that had to wait for a processor does not go over to records as they are, which a slow link would hold up", () => {
  const chooser = new Chooser(2, 1, 0);
  const send = slowLink(chooser);
  send(1_000, 2, 0.8);
  assert.equal(chooser.current, 1);
  // A quarter of what the link carries: a moment of that says nothing.
  send(1_300, 40, 0);
  assert.equal(chooser.current, 1);
  // In the long run it does.
  send(6_000, 40, 0);
  assert.equal(chooser.current, 0);
});

/** Sends by it over a link of 200 Mbit/s; `ms`: what the method takes for a batch, of which the link has to carry a quarter. */
function slowLink(chooser: Chooser): (untilMs: number, ms: number, waitingShare: number) => void {
  const seen = { bytesPerMs: 25e3, besideShare: 0, destinationIdleShare: 0.8 };
  let [nowMs, count] = [0, 0];
  return (untilMs, ms, waitingShare) => {
    while (nowMs < untilMs) {
      const turn = chooser.next(nowMs);
      chooser.sends(turn, batchBytes);
      const methodMs = turn.method === 0 ? 0 : ms;
      nowMs += Math.max(methodMs, 5);
      const bodyBytes = turn.method === 0 ? batchBytes : batchBytes / 4;
      chooser.encoded(turn, batchBytes, { bodyBytes, ms: methodMs, besideMs: 0 }, nowMs);
      chooser.arrived(++count, nowMs);
      chooser.link({ ...seen, waitingShare, idleShare: waitingShare }, nowMs);
    }
  };
}

test("that the first batches with a history take longer is no reason to send records as they are over a slow link", () => {
  const chooser = new Chooser(2, 1, 0);
  const send = slowLink(chooser);
  send(60, 2, 0.9);
  assert.equal(chooser.current, 1);
  chooser.ladderChanged();
  // 262 kB in 30 ms: a third of what the link carries.
  for (let untilMs = 90; untilMs <= 300; untilMs += 30) {
    send(untilMs, 30, 0);
    assert.equal(chooser.current, 1, `after ${untilMs} ms`);
  }
  send(1_000, 2, 0.8);
  assert.equal(chooser.current, 1);
});

test("from records as they are it goes up at once when a full link keeps both sides waiting, whatever was measured before", () => {
  const chooser = new Chooser(2, 1, 0);
  const send = slowLink(chooser);
  send(60, 2, 0.9);
  send(3_000, 40, 0);
  assert.equal(chooser.current, 0, "a thread that is too slow for it");
  send(3_010, 2, 0.9);
  assert.equal(chooser.current, 1);
});
