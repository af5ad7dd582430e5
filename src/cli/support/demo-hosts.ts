/** Daemons of one demo, in one temporary directory, which end with it and leave nothing. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { GodwitClient } from "../../api/index.ts";
import { GodwitError } from "../../base/index.ts";

export interface Host {
  readonly client: GodwitClient;
  /** Where it takes migrations. */
  readonly port: number;
  /** Its runtime directory. */
  readonly directory: string;
  readonly process: ChildProcess;
}

const main = fileURLToPath(new URL("../main.ts", import.meta.url));

export class DemoHosts implements AsyncDisposable {
  readonly #directory: string;
  readonly #hosts: Host[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(): Promise<DemoHosts> {
    const hosts = new DemoHosts(await mkdtemp(join(tmpdir(), "godwit-demo-")));
    // A demo that is interrupted leaves nothing either.
    process.once("SIGINT", () => void hosts[Symbol.asyncDispose]().then(() => process.exit(130)));
    return hosts;
  }

  async start(name: string): Promise<Host> {
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
    const child = spawn(process.execPath, [main, ...args, ...folders], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    child.stderr?.pipe(createWriteStream(join(this.#directory, `${name}.log`)));
    const client = new GodwitClient({ socketPath: socket });
    const host = { client, port, directory, process: child };
    this.#hosts.push(host);
    await answering(host);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client, process: child } of this.#hosts) {
      const vms = await client.listVms().catch(() => []);
      for (const { name } of vms) await client.stopVm(name, { how: "kill" }).catch(() => {});
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

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return address !== null && typeof address === "object" ? address.port : 0;
}
