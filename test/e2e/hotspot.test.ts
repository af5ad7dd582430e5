/**
 * Real JVMs on this machine, read and written from outside while held: a program that checks all its memory allocates at full
 * speed, its dead memory is overwritten at random moments, and nothing may change for it.
 *
 * Release 17 by default; GODWIT_JDKS="8 11 17 21 25" takes more releases and more options, GODWIT_SCRUBS=200 longer.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type JdkRelease, jdkReleases } from "../../scripts/setup/jdk.ts";
import { type HeapSnapshot, HotspotVm } from "../../src/assist/hotspot/index.ts";
import { Prng } from "../../src/base/index.ts";
import { compileJava, hasJdk, Jvm } from "../golden/hotspot/native.ts";

const wanted = (process.env["GODWIT_JDKS"] ?? "17").split(" ").map(Number);
const scrubCount = Number(process.env["GODWIT_SCRUBS"] ?? 60);
const seed = Number(process.env["GODWIT_SEED"] ?? Date.now() % 1e9);

const collectors = ["Serial", "Parallel", "G1"] as const;
const verify = ["-XX:+UnlockDiagnosticVMOptions", "-XX:+VerifyBeforeGC", "-XX:+VerifyAfterGC"];
const heap = ["-Xms48m", "-Xmx48m", "-Xmn20m"];

/** Filled into dead memory: what is read from there by mistake is neither zero nor an object. */
const poison = new Uint8Array(1 << 20).fill(0xab);
const zeros = new Uint8Array(1 << 20);

let java: Awaited<ReturnType<typeof compileJava>>;
const skip = wanted.every((release) => hasJdk(release as JdkRelease))
  ? false
  : `Java ${wanted.join(", ")} is not in the cache: node scripts/setup/main.ts jdk`;

describe("a running JVM", { skip }, () => {
  before(async () => {
    console.log(`# seed ${seed}`);
    java = await compileJava();
  });
  after(() => java[Symbol.asyncDispose]());
  for (const release of jdkReleases.filter((known) => wanted.includes(known))) {
    refuse(release);
    for (const collector of collectors) {
      if (release === 8 && collector === "G1") continue;
      forOne(release, collector);
    }
  }
});

/** Collectors and options under which a JVM is not assisted, and a word of the reason. */
const refusals: readonly {
  options: readonly string[];
  reason: RegExp;
  releases: readonly number[];
}[] = [
  { options: ["-XX:+UseG1GC"], reason: /release 8 and collects with G1/, releases: [8] },
  { options: ["-XX:+UseConcMarkSweepGC"], reason: /with CMS/, releases: [8, 11] },
  { options: ["-XX:+UseZGC"], reason: /with ZGC/, releases: [17, 21, 25] },
  { options: ["-XX:+UseShenandoahGC"], reason: /with Shenandoah/, releases: [17, 21, 25] },
  {
    options: ["-XX:+UnlockExperimentalVMOptions", "-XX:+UseEpsilonGC"],
    reason: /with Epsilon/,
    releases: [11, 17, 21, 25],
  },
  {
    options: ["-XX:+UseSerialGC", "-XX:AllocateHeapAt=/tmp"],
    reason: /keeps its heap in a file/,
    releases: [17, 21, 25],
  },
  {
    options: [
      "-XX:+UseParallelGC",
      "-XX:+UseNUMA",
      "-XX:+UnlockDiagnosticVMOptions",
      "-XX:+ForceNUMA",
    ],
    reason: /UseNUMA/,
    // Newer ones turn it off on a machine of one node.
    releases: [8],
  },
];

function refuse(release: JdkRelease): void {
  test(`is refused with the reason when its heap cannot be told to be dead [${release}]`, async () => {
    for (const { options, reason, releases } of refusals) {
      if (!releases.includes(release)) continue;
      await using jvm = await Jvm.start(
        release,
        java.folder,
        [...options, "-Xmx64m", "Still"],
        [1, 0, 0, 0],
      );
      await assert.rejects(HotspotVm.open(jvm.process), {
        code: "ASSIST_UNSUPPORTED",
        message: reason,
      });
    }
  });
}

function forOne(release: JdkRelease, collector: (typeof collectors)[number]): void {
  const title = `[${release}, ${collector}]`;
  const start = (options: string[], words = [4, 6, 700_000, 2000]): Promise<Jvm> =>
    Jvm.start(release, java.folder, [`-XX:+Use${collector}GC`, ...options, "Churn"], words);

  test(`does not notice that its dead memory is overwritten ${title}`, async (context) => {
    await using jvm = await start(heap);
    context.diagnostic(await scrubAtRandom(jvm, new Prng(seed), scrubCount));
  });

  test(`verifies its heap, and finds nothing when dead memory is overwritten ${title}`, async (context) => {
    await using jvm = await start([...heap, ...verify], [2, 4, 700_000, 1000]);
    context.diagnostic(await scrubAtRandom(jvm, new Prng(seed + 1), Math.ceil(scrubCount / 2)));
  });

  const variants = [
    ["transparent huge pages", ["-XX:+UseTransparentHugePages"]],
    ["no pieces of eden for threads", ["-XX:-UseTLAB"]],
    ["pre-touched", ["-XX:+AlwaysPreTouch"]],
    ["interpreted", ["-Xint"]],
    ["compact headers", ["-XX:+UnlockExperimentalVMOptions", "-XX:+UseCompactObjectHeaders"]],
  ] as const;
  for (const [name, options] of variants) {
    if (process.env["GODWIT_JDKS"] === undefined) continue;
    if (name === "compact headers" && release < 25) continue;
    test(`does not notice it with other options either [${release}, ${collector}, ${name}]`, async (context) => {
      await using jvm = await start([...heap, ...options]);
      context.diagnostic(await scrubAtRandom(jvm, new Prng(seed + 3), scrubCount));
    });
  }

  if (collector === "G1") {
    if (release >= 12) {
      test(`is made to collect by its periodic collection, once ${title}`, async (context) => {
        await using jvm = await start(heap, [1, 8, 0, 2]);
        context.diagnostic(await collectPeriodically(jvm));
      });
    }
    test(`is still known when its heap grows and shrinks ${title}`, async (context) => {
      await using jvm = await start(["-Xms16m", "-Xmx256m"], [2, 48, 700_000, 1000]);
      context.diagnostic(await scrubAtRandom(jvm, new Prng(seed + 2), Math.ceil(scrubCount / 2)));
    });
  } else {
    if (collector === "Parallel") {
      test(`resizes its young spaces, and does not miss what lies between them ${title}`, async (context) => {
        await using jvm = await start(["-Xmn120m", "-Xmx200m"], [2, 6, 700_000, 1000]);
        context.diagnostic(await scrubAtRandom(jvm, new Prng(seed + 4), scrubCount));
      });
    }
    for (const [name, options] of [
      ["", []],
      [", full class words", ["-XX:-UseCompressedClassPointers"]],
      [", verified", verify],
    ] as const) {
      test(`collects soon when a dead array fills its eden ${title.replace("]", `${name}]`)}`, async (context) => {
        await using jvm = await start([...heap, ...options], [2, 8, 0, 100]);
        context.diagnostic(await collectByPhantom(jvm, 5));
      });
    }
  }
}

/** Overwrites all dead memory `count` times at random moments; answers figures. */
async function scrubAtRandom(jvm: Jvm, random: Prng, count: number): Promise<string> {
  const vm = await HotspotVm.open(jvm.process);
  const begun = await vm.snapshot();
  let bytes = 0;
  let unsettled = 0;
  let last = begun;
  for (let index = 0; index < count; index++) {
    await sleep(random.integer(0, 40));
    const heapNow = await heldQuiet(jvm, vm);
    if (!heapNow.settled) unsettled++;
    assertSound(heapNow);
    bytes += jvm.process.overwrite(heapNow.dead, random.chance(0.7) ? poison : zeros);
    jvm.process.thaw();
    last = heapNow;
  }
  await jvm.assertWell();
  const mib = (bytes / count / 2 ** 20).toFixed(1);
  const { requestCount, readBytes } = jvm.process;
  assert.ok(bytes > 0, "there was dead memory");
  return (
    `${count} scrubs of ${mib} MiB on average, ${unsettled} unsettled, ` +
    `${last.collections - begun.collections} collections; ${requestCount} requests, ${readBytes} bytes read`
  );
}

/** Holds the JVM at a moment when it does not collect. */
async function heldQuiet(jvm: Jvm, vm: HotspotVm): Promise<HeapSnapshot> {
  for (;;) {
    await jvm.process.hold();
    const snapshot = await vm.snapshot();
    if (!snapshot.active) return snapshot;
    jvm.process.thaw();
    await sleep(1);
  }
}

function assertSound(heapNow: HeapSnapshot): void {
  let end = 0;
  for (const { address, bytes } of heapNow.dead) {
    assert.ok(address >= end && bytes > 0, "ranges ascend and are disjoint");
    end = address + bytes;
  }
}

async function collectByPhantom(jvm: Jvm, count: number): Promise<string> {
  const vm = await HotspotVm.open(jvm.process);
  const delaysMs: number[] = [];
  for (let index = 0; index < count; index++) {
    await sleep(30);
    const heapNow = await heldQuiet(jvm, vm);
    const writes = await vm.phantom(heapNow);
    for (const write of writes ?? []) jvm.process.write(write);
    const full = await vm.snapshot();
    jvm.process.thaw();
    assert.ok(writes !== undefined, "eden can be filled");
    assert.equal(full.edenFreeBytes, 0);
    delaysMs.push(await untilCollected(vm, heapNow.collections, 2000));
    await jvm.assertWell();
  }
  return `collected ${delaysMs.map((ms) => ms.toFixed(0)).join(", ")} ms after the thaw`;
}

async function collectPeriodically(jvm: Jvm): Promise<string> {
  const vm = await HotspotVm.open(jvm.process);
  const way = await vm.periodicCollection();
  assert.ok(way !== undefined);
  const { collections } = await heldQuiet(jvm, vm);
  jvm.process.write(way.set);
  jvm.process.thaw();
  const delayMs = await untilCollected(vm, collections, 5000);
  await heldQuiet(jvm, vm);
  jvm.process.write(way.restore);
  jvm.process.thaw();
  // What had begun (a concurrent cycle, with pauses of its own) may end; then all is as before.
  await sleep(700);
  const restored = await vm.snapshot();
  await sleep(1300);
  const later = await vm.snapshot();
  assert.equal(later.collections, restored.collections, "no periodic collection any more");
  await jvm.assertWell();
  return `collected ${delayMs.toFixed(0)} ms after the thaw`;
}

/** Waits until a collection has begun since `collections` was read, and has ended. */
async function untilCollected(
  vm: HotspotVm,
  collections: number,
  timeoutMs: number,
): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    const now = await vm.snapshot();
    if (now.collections !== collections && !now.active) return performance.now() - startMs;
    assert.ok(performance.now() - startMs < timeoutMs, `no collection in ${timeoutMs} ms`);
    await sleep(1);
  }
}
