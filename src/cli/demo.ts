/**
 * `godwit demo migrate`: two daemons on this machine, a small guest that writes to its memory and checks it all the time,
 * and its migration from one to the other. Everything lies in one temporary directory and is gone at the end.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Command } from "@commander-js/extra-typings";
import { GodwitClient } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { act, followToEnd, local, print, printJson } from "./support/index.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const vmName = "demo";

export function command() {
  const migrate = local("migrate", "migrate a small guest between two daemons on this machine", [
    "demo migrate",
    "demo migrate --memory 1G --rate 50 --bandwidth 100",
  ])
    .option("--memory <size>", "the guest's memory", "512M")
    .option("--rate <MB/s>", "how fast the guest writes to its memory", "20")
    .option("--bandwidth <MB/s>", "limit on what goes between the daemons", "200")
    .action((options) =>
      act(options, async () => {
        await using demo = await Demo.create();
        await demo.run(options);
      }),
    );
  return new Command("demo").summary("show a migration on this machine").addCommand(migrate);
}

interface DemoOptions {
  readonly memory: string;
  readonly rate: string;
  readonly bandwidth: string;
  readonly json?: true | undefined;
}

interface Host {
  readonly client: GodwitClient;
  readonly port: number;
  readonly process: ChildProcess;
}

class Demo implements AsyncDisposable {
  readonly #directory: string;
  readonly #hosts: Host[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(): Promise<Demo> {
    const demo = new Demo(await mkdtemp(join(tmpdir(), "godwit-demo-")));
    // A demo that is interrupted leaves nothing either.
    process.once("SIGINT", () => void demo[Symbol.asyncDispose]().then(() => process.exit(130)));
    return demo;
  }

  async run(options: DemoOptions): Promise<void> {
    const say = options.json === true ? () => {} : print;
    say("1. Two daemons on this machine, as on two hosts.");
    const [here, there] = [await this.#host("a"), await this.#host("b")];
    say(
      `2. A guest with ${options.memory} of memory on host A; it writes ${options.rate} MB/s and checks what it wrote.`,
    );
    await this.#boot(here, options);
    await ticks(here, 4);
    say("3. Its migration to host B, while it runs. --verify compares all memory at the end.\n");
    const migration = await here.client.startMigration({
      vm: vmName,
      host: "127.0.0.1",
      port: there.port,
      insecure: false,
      options: { verify: true, bandwidthBytesPerSecond: Number(options.bandwidth) * 1e6 },
    });
    const json = options.json === true;
    await followToEnd(here.client, migration.id, { json, cancelOnInterrupt: false });
    const before = await ticks(there, 0);
    const after = await ticks(there, 8);
    const { report } = await here.client.getMigration(migration.id);
    const good = report?.verified === true;
    if (json) printJson({ type: "demo", verified: good, report, ticksAfter: after - before });
    say(
      `\n4. The guest runs on at host B and still finds its memory as it wrote it (${after - before} checks since).`,
    );
    say(
      good
        ? "\nverified: source and destination memory were equal, bit for bit."
        : "\nNOT verified",
    );
    say("Next: README.md, or `npm run godwit -- --help`.");
    if (!good) throw new GodwitError("VERIFY_MISMATCH", "the demo's migration was not verified");
  }

  async #host(name: string): Promise<Host> {
    const directory = join(this.#directory, name);
    const port = await freePort();
    const socket = join(this.#directory, `${name}.sock`);
    const args = ["daemon", "--socket", socket, "--listen", `127.0.0.1:${port}`];
    const folders = [
      "--runtime-directory",
      directory,
      "--state-directory",
      join(directory, "state"),
    ];
    const main = join(root, "src/cli/main.ts");
    const child = spawn(process.execPath, [main, ...args, ...folders], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    child.stderr?.pipe(createWriteStream(join(this.#directory, `${name}.log`)));
    const host = { client: new GodwitClient({ socketPath: socket }), port, process: child };
    this.#hosts.push(host);
    await answering(host);
    return host;
  }

  async #boot(host: Host, { memory, rate }: DemoOptions): Promise<void> {
    const { kernelPath, initrdPath } = await guestImage();
    const words = `godwit.run=writer godwit.mb=64 godwit.rate=${rate}`;
    const definition = {
      name: vmName,
      memory,
      vcpus: 1,
      accelerator: "tcg",
      kernel: kernelPath,
      initrd: initrdPath,
      commandLine: `console=ttyS0 quiet panic=-1 random.trust_cpu=on ${words}`,
    };
    await host.client.startVm({
      text: JSON.stringify(definition),
      source: "the demo",
      baseDirectory: root,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client, process: child } of this.#hosts) {
      await client.stopVm(vmName, { how: "kill" }).catch(() => {});
      child.kill("SIGTERM");
      const ended = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode === null)
        await Promise.race([ended, sleep(10_000, undefined, { ref: false })]);
      child.kill("SIGKILL");
    }
    this.#hosts.length = 0;
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function answering({ client, process: child }: Host): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const host = await client.getHost().catch(() => undefined);
    if (host !== undefined) return;
    if (child.exitCode !== null) break;
    await sleep(50);
  }
  throw new GodwitError(
    "IO",
    "a daemon of the demo did not start; `npm run godwit -- daemon` shows why",
  );
}

/** Waits until the guest has printed `count` more good ticks than now; answers how many there are. */
async function ticks({ client }: Host, count: number): Promise<number> {
  const known = async (): Promise<number> => {
    const { text } = await client.getConsole(vmName, 1 << 20);
    if (/CORRUPT|Kernel panic/.test(text))
      throw new GodwitError("VERIFY_MISMATCH", text.slice(-500));
    return text.match(/godwit-guest tick \d+ ok/g)?.length ?? 0;
  };
  const start = await known();
  for (let attempt = 0; attempt < 600; attempt++) {
    const now = await known();
    if (now >= start + count) return now;
    await sleep(100);
  }
  throw new GodwitError(
    "TIMEOUT",
    "the demo's guest does not run: its console shows no more ticks",
  );
}

async function guestImage(): Promise<{ kernelPath: string; initrdPath: string }> {
  const build = join(root, "guest/image/build.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [build, "small", "--json"]);
  return JSON.parse(stdout) as { kernelPath: string; initrdPath: string };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return address !== null && typeof address === "object" ? address.port : 0;
}
