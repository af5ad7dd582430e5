/**
 * Whole migrations in simulated time: a source, one thread that encodes, a link with a queue. What `auto` carries is compared
 * with every fixed choice under the same conditions.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../base/index.ts";
import { Chooser, type Method } from "./chooser.ts";

const batchBytes = 256 << 10;
const queueMs = 40;

interface Behaviour extends Method {
  /** MB of records per second that one thread encodes. */
  readonly cpuRate: number;
  readonly ratio: (rawBytes: number) => number;
}

interface World {
  /** MB/s of bodies, at that time. */
  readonly link: (nowMs: number) => number;
  /** MB/s of records. */
  readonly source: number;
  readonly totalBytes: number;
}

function method(name: string, cpuRate: number, ratio: number, laterRatio = ratio): Behaviour {
  return {
    name,
    cpuRate,
    hasHistory: laterRatio !== ratio,
    isFree: name === "none",
    // After 256 MiB everything is known.
    ratio: (rawBytes) => (rawBytes < 256 << 20 ? ratio : laterRatio),
  };
}

const memory: readonly Behaviour[] = [
  method("none", Number.POSITIVE_INFINITY, 1),
  method("lz4", 420, 2.6),
  method("zstd", 500, 4.1),
  method("hybrid-lz4", 900, 2.5, 14),
  method("hybrid-zstd", 560, 4, 22),
];

interface Run {
  readonly ms: number;
  readonly sentBytes: number;
  readonly rawBytesBy: ReadonlyMap<string, number>;
  readonly switchCount: number;
}

/** `pick` undefined: the chooser's choice. */
function simulate(world: World, methods: readonly Behaviour[], pick?: string, seed = 1): Run {
  const prng = new Prng(seed);
  const chooser = new Chooser(methods, 1, 0);
  const rawBytesBy = new Map<string, number>();
  let [nowMs, raw, sent, queued, arrived] = [0, 0, 0, 0, 0];
  let [linkAtMs, linkEveryMs, waitingMs] = [0, 10, 0];
  const pass = (ms: number): void => {
    const moved = Math.min(queued, world.link(nowMs) * 1000 * ms);
    nowMs += ms;
    queued -= moved;
    arrived += moved;
    if (nowMs - linkAtMs < linkEveryMs) return;
    chooser.link(arrived / (nowMs - linkAtMs), waitingMs / (nowMs - linkAtMs), nowMs);
    linkAtMs = nowMs;
    linkEveryMs = Math.min(100, linkEveryMs * 2);
    waitingMs = 0;
    arrived = 0;
  };
  let sourceMs = 0;
  while (raw < world.totalBytes) {
    const index =
      pick === undefined ? chooser.next(nowMs) : methods.findIndex(({ name }) => name === pick);
    const { name, cpuRate, ratio } = methods[index] as Behaviour;
    const noise = 0.8 + 0.4 * prng.fraction();
    const body = name === "none" ? batchBytes : batchBytes / Math.max(1, ratio(raw) * noise);
    // Now and then this thread has to wait for its turn, or for a collection of garbage; the first batches are slow.
    const count = rawBytesBy.get(name) ?? 0;
    const delay = (prng.chance(0.01) ? 10 : 1) * (count < 2 * batchBytes ? 4 : 1);
    const encodeMs = (batchBytes / cpuRate / 1000) * delay * (0.9 + 0.2 * prng.fraction());
    // The source works beside this thread, a few batches ahead at most.
    sourceMs = Math.max(sourceMs, nowMs - 5) + batchBytes / world.source / 1000;
    if (sourceMs > nowMs) pass(sourceMs - nowMs);
    pass(encodeMs + batchBytes / 4e6 + body / 3e6);
    chooser.encoded(index, batchBytes, body, encodeMs, nowMs);
    raw += batchBytes;
    sent += body;
    queued += body;
    rawBytesBy.set(name, (rawBytesBy.get(name) ?? 0) + batchBytes);
    while (queued > Math.max(512 << 10, world.link(nowMs) * 1000 * queueMs)) {
      pass(1);
      waitingMs++;
    }
  }
  pass(queued / world.link(nowMs) / 1000);
  return { ms: nowMs, sentBytes: sent, rawBytesBy, switchCount: chooser.switchCount };
}

const links = { "100 Mbit/s": 11.7, "1 Gbit/s": 117, "10 Gbit/s": 1170 } as const;
const GiB = 2 ** 30;

for (const [name, rate] of Object.entries(links)) {
  for (const source of [300, 900, 2000]) {
    test(`auto is as fast as the best fixed choice, or nearly [${name}, source ${source} MB/s]`, () => {
      for (const totalBytes of [GiB / 2, 2 * GiB]) {
        const world = { link: () => rate, source, totalBytes };
        const fixed = memory.map((one) => simulate(world, memory, one.name).ms);
        const auto = simulate(world, memory);
        const allowed = totalBytes > GiB ? 1.03 : 1.06;
        const best = Math.min(...fixed);
        assert.ok(auto.ms <= best * allowed, `${totalBytes}: auto ${auto.ms}, best ${best}`);
      }
    });
  }
}

test("on a fast link nothing is compressed, and none is hardly faster than auto", () => {
  const world = { link: () => 1170, source: 2000, totalBytes: 4 * GiB };
  const none = simulate(world, memory, "none");
  const auto = simulate(world, memory);
  assert.ok(auto.ms <= none.ms * 1.02, `auto ${auto.ms}, none ${none.ms}`);
  assert.ok((auto.rawBytesBy.get("none") ?? 0) > 0.97 * world.totalBytes);
});

test("where the source is slow, what thread and link have room for saves bytes", () => {
  const world = { link: () => 1170, source: 200, totalBytes: 2 * GiB };
  const none = simulate(world, memory, "none");
  const auto = simulate(world, memory);
  assert.ok(auto.ms <= none.ms * 1.02, `auto ${auto.ms}, none ${none.ms}`);
  assert.ok(auto.sentBytes < none.sentBytes / 4, `${auto.sentBytes} of ${none.sentBytes}`);
});

test("a link that becomes faster, or slower, is noticed", () => {
  for (const [before, after] of [
    [11.7, 117],
    [117, 1170],
    [1170, 11.7],
    [117, 30],
  ] as const) {
    const half = simulate({ link: () => before, source: 2000, totalBytes: GiB }, memory).ms;
    const link = (nowMs: number): number => (nowMs < half ? before : after);
    const world = { link, source: 2000, totalBytes: 3 * GiB };
    const fixed = memory.map((one) => simulate(world, memory, one.name).ms);
    const auto = simulate(world, memory);
    const best = Math.min(...fixed);
    assert.ok(auto.ms <= best * 1.25, `${before} to ${after}: auto ${auto.ms}, best ${best}`);
  }
});

test("memory that does not compress costs little [slow codecs, fast and slow link]", () => {
  const noise = memory.map(({ name }) =>
    method(name, name === "none" ? Number.POSITIVE_INFINITY : 1500, 1),
  );
  for (const rate of [11.7, 117, 1170]) {
    const world = { link: () => rate, source: 2000, totalBytes: GiB };
    const none = simulate(world, noise, "none");
    const auto = simulate(world, noise);
    assert.ok(auto.ms <= none.ms * 1.02, `${rate} MB/s: auto ${auto.ms}, none ${none.ms}`);
  }
});

test("noise in the figures does not make it change again and again", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    for (const rate of Object.values(links)) {
      const world = { link: () => rate, source: 2000, totalBytes: 2 * GiB };
      const { switchCount, ms } = simulate(world, memory, undefined, seed);
      assert.ok(switchCount <= 8 + ms / 4000, `${switchCount} changes in ${ms} ms at ${rate}`);
    }
  }
});

test("without methods that keep a history it chooses among the rest", () => {
  const methods = memory.slice(0, 3);
  const world = { link: () => 11.7, source: 900, totalBytes: GiB / 2 };
  const best = Math.min(...methods.map((one) => simulate(world, methods, one.name).ms));
  const auto = simulate(world, methods);
  assert.ok(auto.ms <= best * 1.05, `auto ${auto.ms}, best ${best}`);
});

test("once settled nothing is tried, but a link that fails is still answered", () => {
  const chooser = new Chooser(memory, 1, 0);
  let nowMs = 0;
  const send = (count: number, linkBytesPerMs: number, waitingShare: number): Set<string> => {
    const used = new Set<string>();
    for (let i = 0; i < count; i++) {
      const index = chooser.next(nowMs);
      const { name, ratio } = memory[index] as Behaviour;
      used.add(name);
      nowMs += 10;
      chooser.encoded(index, batchBytes, batchBytes / ratio(0), 1, nowMs);
      if (i % 10 === 9) chooser.link(linkBytesPerMs, waitingShare, nowMs);
    }
    return used;
  };
  send(1000, 400_000, 0.9);
  assert.ok(send(3000, 400_000, 0.9).size > 1, "tried now and then");
  chooser.settle();
  const settled = send(3000, 400_000, 0.9);
  assert.equal(settled.size, 1);
  send(200, 5_000, 0.9);
  assert.notEqual(memory[chooser.current]?.name, [...settled][0]);
});
