/**
 * Makes the captures of this folder anew: for each release and collector a JVM is brought to a stand with something in each
 * space, says what it thinks of its heap, and is read from outside.
 *
 *   node test/golden/hotspot/record.ts [RELEASE …]      needs the releases: node scripts/setup/main.ts jdk
 *
 * The JVM's own words come by SIGQUIT, upon which every release prints its heap. They are asked for before and after the
 * reading and must be the same, else it was no stand.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type JdkRelease, jdkReleases } from "../../../scripts/setup/jdk.ts";
import { HotspotVm, type ProcessMemory } from "../../../src/assist/hotspot/index.ts";
import type { MemoryRange } from "../../../src/assist/ranges.ts";
import { type Capture, SparseMemory, saveCaptures } from "./captures.ts";
import { compileJava, Jvm } from "./native.ts";

interface Variant {
  readonly name: string;
  readonly options: readonly string[];
  readonly releases: readonly number[];
  /** OLD_MB SURVIVOR_MB EDEN_MB LARGE_BYTES */
  readonly words: readonly number[];
}

const all = [8, 11, 17, 21, 25];
const sizes = ["-Xms64m", "-Xmx96m", "-Xmn24m", "-Xss256k"];
const words = [10, 1, 8, 0];

const variants: readonly Variant[] = [
  { name: "serial", options: ["-XX:+UseSerialGC", ...sizes], releases: all, words },
  { name: "parallel", options: ["-XX:+UseParallelGC", ...sizes], releases: all, words },
  {
    name: "g1",
    options: ["-XX:+UseG1GC", "-Xlog:gc+heap+region=trace", ...sizes],
    releases: [11, 17, 21, 25],
    words: [10, 1, 8, 3_000_000],
  },
  {
    name: "serial-full-class-words",
    options: ["-XX:+UseSerialGC", "-XX:-UseCompressedClassPointers", ...sizes],
    releases: [17],
    words,
  },
];

class Recorder implements ProcessMemory {
  readonly #jvm: Jvm;
  readonly memory = new SparseMemory();
  mapsText = "";
  requestCount = 0;

  constructor(jvm: Jvm) {
    this.#jvm = jvm;
  }

  async maps(): Promise<string> {
    this.requestCount++;
    this.mapsText = withoutNames(await this.#jvm.process.maps());
    return this.mapsText;
  }

  async read(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.requestCount++;
    const pieces = await this.#jvm.process.read(ranges);
    for (const [index, bytes] of pieces.entries())
      this.memory.add(ranges[index]?.address ?? 0, bytes);
    return pieces;
  }
}

/** Paths of the machine on which a capture is made do not matter and are left out, but for the file's own name. */
function withoutNames(maps: string): string {
  return maps.replaceAll(/ \/\S*\//g, " /captured/");
}

/** What the JVM prints of its heap when asked by SIGQUIT. */
async function heapByItself(jvm: Jvm): Promise<string> {
  const from = jvm.output.length;
  process.kill(jvm.process.pid, "SIGQUIT");
  await jvm.waitFor(/Heap\n[^]*[Mm]etaspace +used/, from);
  await sleep(50);
  const text = jvm.output.slice(from);
  return text.slice(text.lastIndexOf("\nHeap\n") + 1).replace(/\n *[Mm]etaspace[^]*/, "\n");
}

/** The last list of regions in G1's log. */
function regionsByItself(jvm: Jvm): string[] {
  const line = /\| *(\d+)\|0x0*(\w+), 0x0*(\w+), 0x0*(\w+)\| *\d+%\| *(\w+)\|/g;
  const list = jvm.output.slice(jvm.output.lastIndexOf("Heap Regions:"));
  return [...list.matchAll(line)].map((match) => match.slice(1, 6).join(" "));
}

async function record(release: JdkRelease, variant: Variant, classes: string): Promise<Capture> {
  // Without random addresses the tables of a release are the same for all its captures.
  const options = [...variant.options, "Still"];
  await using jvm = await Jvm.start(release, classes, options, variant.words, ["setarch", "-R"]);
  // What the VM does by itself after the start (compiling, a concurrent cycle) comes to its end.
  await sleep(1000);
  const oracle = await heapByItself(jvm);
  await jvm.process.hold();
  const recorder = new Recorder(jvm);
  const vm = await HotspotVm.open(recorder);
  const snapshot = await vm.snapshot();
  assert.equal(snapshot.active, false);
  await vm.phantom(snapshot);
  jvm.process.thaw();
  assert.equal(await heapByItself(jvm), oracle, "the JVM did not stand still");
  return {
    name: variant.name,
    options: variant.options,
    maps: recorder.mapsText,
    memory: recorder.memory.joined(),
    oracle,
    regions: regionsByItself(jvm),
    version: vm.version,
    requestCount: recorder.requestCount,
  };
}

await using java = await compileJava();
const chosen = process.argv.slice(2).map(Number);
for (const release of jdkReleases) {
  if (chosen.length > 0 && !chosen.includes(release)) continue;
  const captures: Capture[] = [];
  for (const variant of variants) {
    if (!variant.releases.includes(release)) continue;
    captures.push(await record(release, variant, java.folder));
    console.log(`${release} ${variant.name}\n${captures.at(-1)?.oracle}`);
  }
  console.log(`${release}: ${captures.length} captures, ${saveCaptures(release, captures)} bytes`);
}
