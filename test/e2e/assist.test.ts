/** Applications in real guests take part in migrations: Java VMs that know nothing of it, and a program that does. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { sleep, systemClock } from "../../src/io/index.ts";
import type { MigrateOptions, MigrationReport } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { Harness } from "./harness.ts";
import { javaGuest } from "./java-guest.ts";

/** Slow enough that plain pre-copy would not pay, however slow the machine that emulates the guest. */
const link = { bandwidthBytesPerSecond: 40_000_000, verify: true } as const;

interface Arrived {
  readonly vm: LaunchedVm;
  readonly report: MigrationReport;
  readonly said: string;
}

/** Migrates, compares all memory, ends the source, and sees the guest go on. */
async function move(
  harness: Harness,
  vm: LaunchedVm,
  options: Partial<MigrateOptions> = {},
): Promise<Arrived> {
  const run = await harness.migrate(vm, { ...link, ...options });
  const { result, text, report } = await run.source.outcome;
  const said = run.source.said.join("\n");
  assert.equal(result, "done", `${text}\n${said}`);
  assert.equal(report.verified, true);
  const there = await run.prepared;
  await (await run.destination).ended;
  await harness.end(vm);
  await harness.ticks(there, 4, 20_000);
  return { vm: there, report, said };
}

function assertConsistent(report: MigrationReport): void {
  const { roundDetails = [], assist } = report;
  const sum = (name: "pageCount" | "droppedCount" | "staleFetchedCount" | "wireBytes"): number =>
    roundDetails.reduce((total, round) => total + round[name], 0);
  assert.equal(sum("pageCount"), report.pageCount);
  assert.equal(sum("droppedCount"), report.droppedCount);
  assert.equal(sum("staleFetchedCount"), report.staleFetchedCount);
  const down = assist?.applicationDowntime;
  assert.ok(down !== undefined && report.downtimeMs !== undefined);
  const { totalMs, gcMs, freezeMs, scrubMs, stopMs, lastRoundMs, startMs, thawMs } = down;
  const { deviceStateMs } = down;
  const parts = gcMs + freezeMs + scrubMs + stopMs + lastRoundMs + deviceStateMs + startMs + thawMs;
  assert.ok(parts <= totalMs + 5, `${parts} of ${totalMs} ms`);
  assert.ok(totalMs >= report.downtimeMs, "applications stand still at least as long as the VM");
}

for (const collector of ["Serial", "Parallel", "G1"] as const) {
  test(`${collector}: the young generation is left out, zeroed, and the JVM goes on; twice`, async () => {
    await using harness = await Harness.create();
    const guest = await javaGuest(harness, {
      name: `jvm-${collector.toLowerCase()}`,
      collector,
      program: "Alloc,live=24,rate=200",
    });
    const first = await move(harness, guest);
    const { assist, droppedCount, droppedAreaCount } = first.report;
    const why = `${first.said}\n${JSON.stringify(assist?.prediction?.input)}`;
    assert.equal(assist?.state, "used", why);
    assert.equal(assist.participants.length, 1);
    assert.equal(assist.participants[0]?.kind, "young");
    assert.ok(droppedCount > 4_000 && droppedAreaCount === 0, `${droppedCount} pages left out`);
    assert.ok((assist.hold?.scrubbedPages ?? 0) > 4_000);
    assert.equal(assist.prediction?.saves, true);
    assertConsistent(first.report);
    const second = await move(harness, first.vm, { compress: "zstd", gc: "provoke" });
    assert.equal(second.report.assist?.state, "used", second.said);
    assert.ok((second.report.compressedAwayBytes ?? 0) > 20 << 20);
    assert.ok(second.report.wireBytes < first.report.wireBytes);
  });
}

test("a large heap that fills fast is zeroed in several standstills: the last one has little left to zero", async () => {
  await using harness = await Harness.create();
  const guest = await javaGuest(harness, {
    name: "large",
    collector: "Serial",
    memory: "1G",
    young: 420,
    heap: 500,
    program: "Alloc,live=24,rate=250",
  });
  const { report, said } = await move(harness, guest, { assist: "require" });
  assert.equal(report.assist?.state, "used", said);
  const scrubbedBytes = (report.assist.hold?.scrubbedPages ?? Number.POSITIVE_INFINITY) * 4096;
  assert.ok(scrubbedBytes < (420 << 20) * 0.7, `${scrubbedBytes} bytes; ${said}`);
  assertConsistent(report);
});

test("two JVMs, one of them in a container's namespaces: both are held, both go on", async () => {
  await using harness = await Harness.create();
  const guest = await javaGuest(harness, {
    name: "two",
    memory: "640M",
    young: 64,
    heap: 128,
    program: "Alloc,live=16,rate=100",
    words:
      "godwit.second=Alloc,live=16,rate=100 godwit.jvm2=-XX:TieredStopAtLevel=1,-XX:+UseParallelGC,-Xmn64m,-Xmx128m",
  });
  const secondTicks = async (vm: LaunchedVm): Promise<number> =>
    (await readFile(vm.consoleLogPath, "utf8")).match(/second tick \d+ ok/g)?.length ?? 0;
  for (let i = 0; (await secondTicks(guest)) < 2 && i < 200; i++) await sleep(systemClock, 100);
  const { vm, report, said } = await move(harness, guest);
  assert.equal(report.assist?.state, "used", said);
  const names = report.assist.participants.map(({ name }) => name);
  assert.equal(names.length, 2, names.join());
  assert.match(names.join(), /serial/);
  assert.match(names.join(), /parallel/);
  const before = await secondTicks(vm);
  await sleep(systemClock, 1_500);
  assert.ok((await secondTicks(vm)) > before, "the second one goes on");
});

test("a collector that cannot be read safely is named, and the VM migrates as any", async () => {
  await using harness = await Harness.create();
  const guest = await javaGuest(harness, {
    name: "zgc",
    collector: "Z",
    program: "Alloc,live=16,rate=20",
  });
  const { report, vm } = await move(harness, guest);
  assert.equal(report.assist?.state, "unused");
  assert.match(report.assist.participants[0]?.unsupported ?? "", /ZGC|Z GC|UseZGC/i);
  const off = await move(harness, vm, { assist: "off" });
  assert.equal(off.report.assist?.state, "off");
});

test("a JVM that hardly allocates: only what is free is left out and zeroed", async () => {
  await using harness = await Harness.create();
  const guest = await javaGuest(harness, { name: "idle", program: "Ticks", young: 128, heap: 192 });
  const { report, said } = await move(harness, guest, { assist: "require", dropCaches: true });
  assert.equal(report.assist?.state, "used", said);
  assert.ok((report.assist.droppedCacheBytes ?? -1) >= 0);
});

test("a program's own area is left out, and zeroed once it is ready: a cache server never gives a wrong answer", async () => {
  await using harness = await Harness.create();
  const words =
    "godwit.agent=1 godwit.run=cache godwit.mb=96 godwit.keys=3200 godwit.bytes=30000 godwit.rate=1000 godwit.tickms=250";
  const guest = await harness.guest({ name: "cache", memory: "320M", words });
  await harness.ticks(guest, 12);
  const { report, said } = await move(harness, guest);
  assert.equal(report.assist?.state, "used", said);
  assert.equal(report.assist.participants[0]?.kind, "area");
  assert.ok((report.droppedAreaCount ?? 0) > 1_000, `${report.droppedAreaCount} pages left out`);
  assert.equal(report.assist.hold?.applicationCount, 1);
});
