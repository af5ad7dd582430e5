/**
 * `godwit demo migrate`: two daemons on this machine, a guest with a Java application that makes garbage and checks all of
 * its work, and two migrations of it: there as any VM, and back with its assistance. What the application noticed is
 * measured from outside. Everything lies in one temporary directory and is gone at the end.
 */
import { execFile } from "node:child_process";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Command } from "@commander-js/extra-typings";
import type { MigrateRequestOptions, Report } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { bars } from "./support/bars.ts";
import { DemoHosts, type Host } from "./support/demo-hosts.ts";
import { DemoLink } from "./support/demo-link.ts";
import { Heartbeat } from "./support/heartbeat.ts";
import {
  act,
  followToEnd,
  formatBytes,
  formatDuration,
  local,
  print,
  printJson,
} from "./support/index.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const vmName = "demo";
/** Until most of what runs is compiled, and the heap has its size. */
const warmUpTicks = 20;

export function command() {
  const migrate = local(
    "migrate",
    "migrate a Java application between two daemons on this machine, without and with assistance",
    ["demo migrate", "demo migrate --memory 1G --young 480 --link 30"],
  )
    .option("--memory <size>", "the guest's memory", "512M")
    .option("--young <MB>", "size of the Java heap's young generation", "220")
    .option("--rate <MB/s>", "how much garbage the application makes", "300")
    .option("--link <MB/s>", "how much the link between the daemons carries", "40")
    .action((options) =>
      act(options, async () => {
        await using hosts = await DemoHosts.create();
        await run(hosts, options);
      }),
    );
  return new Command("demo").summary("show a migration on this machine").addCommand(migrate);
}

interface DemoOptions {
  readonly memory: string;
  readonly young: string;
  readonly rate: string;
  readonly link: string;
  readonly json?: true | undefined;
}

/** One migration, measured. */
interface Trip {
  readonly name: string;
  readonly totalMs: number;
  readonly wireBytes: number;
  readonly applicationDowntimeMs: number;
  readonly report: Report;
}

async function run(hosts: DemoHosts, options: DemoOptions): Promise<void> {
  const json = options.json === true;
  const say = json ? () => {} : print;
  const { memory, rate, young, link } = options;
  say(
    `1. Two daemons on this machine, as on two hosts, and a link between them that carries ${link} MB/s.`,
  );
  const [here, there] = [await hosts.start("a"), await hosts.start("b")];
  say(
    `2. A guest with ${memory} of memory on host A. In it an unmodified Java VM makes ${rate} MB of garbage a second in a\n` +
      `   young generation of ${young} MB; the application checks all of its work.`,
  );
  await boot(here, options);
  await ticks(here, warmUpTicks);
  say(`3. To host B as any VM. --verify compares all memory at the end.\n`);
  const plain = await trip("plain", here, there, { assist: "off" }, options);
  await ticks(there, warmUpTicks / 2);
  say("\n4. Back to host A, the Java VM telling which of its memory is garbage.\n");
  const assisted = await trip("assisted", there, here, { assist: "require" }, options);
  await ticks(here, warmUpTicks / 2);
  const trips = [plain, assisted];
  const good = trips.every(({ report }) => report.verified === true);
  if (json) printJson({ type: "demo", verified: good, trips });
  say(`\n${picture(trips)}\n`);
  say(
    good
      ? "verified: source and destination memory were equal, bit for bit, both times."
      : "NOT verified",
  );
  say(
    "The application runs on, and found all of its results right. Next: README.md, docs/JAVMM.md.",
  );
  if (!good) throw new GodwitError("VERIFY_MISMATCH", "the demo's migrations were not verified");
}

async function trip(
  name: string,
  from: Host,
  to: Host,
  more: MigrateRequestOptions,
  options: DemoOptions,
): Promise<Trip> {
  const { consoleLogPath: log = "" } = await from.client.getVm(vmName);
  using heartbeat = new Heartbeat([log, join(to.directory, relative(from.directory, log))]);
  using link = await DemoLink.open(to.port, Number(options.link) * 1e6);
  const { id } = await from.client.startMigration({
    vm: vmName,
    host: "127.0.0.1",
    port: link.port,
    insecure: false,
    options: { verify: true, ...more },
  });
  const json = options.json === true;
  await followToEnd(from.client, id, { json, cancelOnInterrupt: false });
  const { report } = await from.client.getMigration(id);
  if (report === undefined)
    throw new GodwitError("MIGRATION_FAILED", "the migration has no report");
  await ticks(to, 4);
  const { totalMs, verifyMs = 0, wireBytes } = report;
  return {
    name,
    totalMs: totalMs - verifyMs,
    wireBytes,
    applicationDowntimeMs: heartbeat.longestGapMs(verifyMs),
    report,
  };
}

function picture(trips: readonly Trip[]): string {
  const part = (title: string, value: (trip: Trip) => number, text: (value: number) => string) => {
    const rows = trips.map((one) => ({
      name: one.name,
      value: value(one),
      text: text(value(one)),
    }));
    return `${title}\n${bars(rows)}`;
  };
  return [
    part("time", ({ totalMs }) => totalMs, formatDuration),
    part("sent", ({ wireBytes }) => wireBytes, formatBytes),
    part(
      "the application stood still (longest silence, seen from outside)",
      ({ applicationDowntimeMs }) => applicationDowntimeMs,
      formatDuration,
    ),
  ].join("\n\n");
}

async function boot(host: Host, { memory, young, rate }: DemoOptions): Promise<void> {
  const { kernelPath, initrdPath, diskPath } = await guestImage();
  // Under emulation Java's second compiler would still be busy when the demo is over.
  const jvm = `-XX:TieredStopAtLevel=1,-Xmn${young}m,-Xmx${Number(young) + 80}m`;
  const words = `godwit.agent=1 godwit.run=java godwit.args=Alloc,live=40,rate=${rate} godwit.jvm=${jvm}`;
  const definition = {
    name: vmName,
    memory,
    vcpus: 1,
    accelerator: "tcg",
    kernel: kernelPath,
    initrd: initrdPath,
    disks: [{ file: diskPath, format: "raw", readOnly: true }],
    commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${words}`,
  };
  await host.client.startVm({
    text: JSON.stringify(definition),
    source: "the demo",
    baseDirectory: root,
  });
}

/** Waits until the guest has printed `count` more good ticks than now. */
async function ticks({ client }: Host, count: number): Promise<void> {
  const known = async (): Promise<number> => {
    const { text } = await client.getConsole(vmName, 1 << 22);
    if (/CORRUPT|Kernel panic|godwit-guest exit/.test(text))
      throw new GodwitError("VERIFY_MISMATCH", text.slice(-500));
    return text.match(/godwit-guest tick \d+ ok/g)?.length ?? 0;
  };
  const start = await known();
  for (let attempt = 0; attempt < 300; attempt++) {
    const now = await known();
    if (now >= start + count) return;
    await sleep(200);
  }
  throw new GodwitError(
    "TIMEOUT",
    "the demo's guest does not run: its console shows no more ticks",
  );
}

interface Image {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly diskPath: string;
}

async function guestImage(): Promise<Image> {
  const build = join(root, "guest/image/build.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [build, "java", "--json"]);
  return JSON.parse(stdout) as Image;
}
