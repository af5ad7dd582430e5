/**
 * Records the traces of test/golden/traces from real guests: what their memory does while a database, a cache, a compiler, a
 * Java VM or nobody is at work.
 *
 *   npm run traces -- [NAME …] [--reduce]
 *
 * Without names all of them, one after another: a guest is booted under TCG, its load has to say that it works, and then it is
 * recorded. The whole trace goes into the cache ($GODWIT_CACHE/traces), a small one, with the pages that are written and a sample of the
 * others, into the tree, and its figures into the README there. --reduce makes the small ones anew from those in the cache.
 */
import { chmod, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuestImage } from "../guest/image/build.ts";
import type { GuestVariant } from "../guest/image/recipe.ts";
import { killProcess, sleep, systemClock } from "../src/io/index.ts";
import { checkDefinition, type LaunchedVm, launchVm } from "../src/qemu/launch/index.ts";
import { findQemu } from "../src/qemu/probe/index.ts";
import { readTraceHeader, recordTrace, reduceTrace } from "../src/trace/index.ts";
import { measureTrace } from "./measure-trace.ts";
import { cacheFolder, mainProgram, say, SetupError, withTemporaryFolder } from "./setup/shell.ts";

interface Recipe {
  readonly image: GuestVariant;
  readonly memory: string;
  readonly workload: string;
  /** Of the guest's command line: guest/image/README.md. */
  readonly words: string;
  /** Ticks that the load has to say before it is recorded. */
  readonly ticks: number;
  /** What the small trace keeps: one of so many pages that are written, and of the others. */
  readonly pages: number;
  readonly basePages: number;
}

const postgres = (seed: number): Recipe => ({
  image: "server",
  memory: "512M",
  workload: `PostgreSQL 15, pgbench, seed ${seed}`,
  words: `godwit.run=server godwit.app=postgres godwit.rate=40 godwit.seed=${seed}`,
  ticks: 5,
  pages: 2,
  basePages: 32,
});

/** The three PostgreSQL guests together are the cluster: the same software, each with clients of its own. */
const recipes: Readonly<Record<string, Recipe>> = {
  idle: {
    image: "small",
    memory: "384M",
    workload: "idle",
    words: "godwit.run=idle",
    ticks: 5,
    pages: 1,
    basePages: 16,
  },
  "postgres-1": postgres(1),
  "postgres-2": postgres(2),
  "postgres-3": postgres(3),
  redis: {
    image: "server",
    memory: "512M",
    workload: "Redis 7, records of 100 to 1000 bytes",
    words: "godwit.run=server godwit.app=redis godwit.rate=3000",
    ticks: 5,
    pages: 8,
    basePages: 64,
  },
  gcc: {
    image: "server",
    memory: "384M",
    workload: "gcc 12 -O2",
    words: "godwit.run=server godwit.app=gcc",
    ticks: 3,
    pages: 4,
    basePages: 64,
  },
  java: {
    image: "java",
    memory: "512M",
    workload: "Java 17, H2",
    words:
      "godwit.run=java godwit.args=H2,pause=5 godwit.jvm=-XX:TieredStopAtLevel=1,-XX:+UseSerialGC,-Xmn96m,-Xmx256m",
    ticks: 5,
    pages: 8,
    basePages: 64,
  },
};

const intervalMs = 25;
const durationMs = 8_000;
const bootMs = 300_000;
/** Of zstd, for the files in the tree: 32 MiB to read them with. */
const small = { level: 12, windowLog: 25 };

const folder = join(import.meta.dirname, "../test/golden/traces");
const fullPath = (name: string): string => join(cacheFolder(), "traces", `${name}.gtrace`);
const smallPath = (name: string): string => join(folder, `${name}.gtrace`);

async function boot(name: string, recipe: Recipe, directory: string): Promise<LaunchedVm> {
  const image = await buildGuestImage(recipe.image);
  const definition = checkDefinition({
    name,
    memory: recipe.memory,
    vcpus: 1,
    machine: "q35",
    accelerator: "tcg",
    kernel: image.kernelPath,
    initrd: image.initrdPath,
    ...(image.diskPath === undefined
      ? {}
      : { disks: [{ file: image.diskPath, format: "raw", readOnly: true }] }),
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${recipe.words}`,
  });
  return await launchVm(definition, {
    runtimeDirectory: join(directory, "vm"),
    clock: systemClock,
    binary: await findQemu({}),
    incoming: false,
    accelerator: "tcg",
  });
}

async function waitForTicks(vm: LaunchedVm, count: number): Promise<void> {
  const untilMs = systemClock.nowMs() + bootMs;
  for (;;) {
    const log = await readFile(vm.consoleLogPath, "utf8").catch(() => "");
    if (/CORRUPT|FAILED/.test(log) || systemClock.nowMs() > untilMs) {
      throw new SetupError(`${vm.definition.name} does not work:\n${log.slice(-2_000)}`);
    }
    if ([...log.matchAll(/guest tick \d+ ok/g)].length >= count) return;
    await sleep(systemClock, 200);
  }
}

async function record(name: string, recipe: Recipe): Promise<void> {
  await mkdir(join(cacheFolder(), "traces"), { recursive: true });
  await rm(fullPath(name), { force: true });
  await withTemporaryFolder(tmpdir(), async (directory) => {
    say(`traces: booting ${name}`);
    const vm = await boot(name, recipe, directory);
    try {
      await waitForTicks(vm, recipe.ticks);
      say(`traces: recording ${name}`);
      const summary = await recordTrace({
        clock: systemClock,
        qmpPath: vm.migrationQmpPath,
        runtimeDirectory: directory,
        id: name,
        vmName: name,
        workload: recipe.workload,
        accelerator: "tcg",
        note: `${recipe.words}; ${recipe.memory}; ${new Date().toISOString().slice(0, 10)}`,
        path: fullPath(name),
        intervalMs,
        durationMs,
      });
      say(`traces: ${JSON.stringify(summary)}`);
    } finally {
      await killProcess(vm, { clock: systemClock, graceMs: 0 });
    }
  });
}

async function reduce(name: string, { pages, basePages }: Recipe): Promise<void> {
  await rm(smallPath(name), { force: true });
  await reduceTrace(fullPath(name), smallPath(name), {
    base: "touched",
    pages,
    basePages,
    changedOnly: true,
    ...small,
  });
  // A part of the tree, not somebody's guest.
  await chmod(smallPath(name), 0o644);
  await writeRow(name);
}

/** Replaces the trace's row in the README's table, or adds it. */
async function writeRow(name: string): Promise<void> {
  const { workload, memoryBytes, note, qemuVersion } = await readTraceHeader(fullPath(name));
  const f = await measureTrace(fullPath(name));
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const cells = [
    `\`${name}\``,
    workload,
    (memoryBytes / 2 ** 20).toFixed(0),
    `${f.epochCount}`,
    f.medianIntervalMs.toFixed(1),
    `${f.medianDirtyPages}`,
    mb(f.dirtyBytes),
    percent(f.unchangedPages),
    percent(f.unchangedWords),
    mb((await stat(fullPath(name))).size),
    mb((await stat(smallPath(name))).size),
    `QEMU ${qemuVersion}; \`${note}\``,
  ];
  const path = join(folder, "README.md");
  const lines = (await readFile(path, "utf8")).split("\n");
  const row = `| ${cells.join(" | ")} |`;
  const known = lines.findIndex((line) => line.startsWith(`| \`${name}\``));
  const last = lines.findLastIndex((line) => line.startsWith("|"));
  lines.splice(known < 0 ? last + 1 : known, known < 0 ? 0 : 1, row);
  await writeFile(path, lines.join("\n"));
  say(`traces: ${row}`);
}

if (import.meta.main) {
  await mainProgram("traces", async () => {
    const words = process.argv.slice(2);
    const names = words.filter((word) => !word.startsWith("-"));
    for (const name of names.length === 0 ? Object.keys(recipes) : names) {
      const recipe = recipes[name];
      if (recipe === undefined) {
        throw new SetupError(
          `usage: npm run traces -- [${Object.keys(recipes).join("|")} …] [--reduce]`,
        );
      }
      if (!words.includes("--reduce")) await record(name, recipe);
      await reduce(name, recipe);
    }
  });
}
