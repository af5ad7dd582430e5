/**
 * The daemon: wires everything together, in this order, and takes it apart in the other.
 *
 *   directories → lock → VMs and arrivals found again → API socket → migration port → leftovers settled
 */
import { randomBytes } from "node:crypto";
import { chmod, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { dirname, join } from "node:path";
import type { FastifyInstance } from "fastify";
import { GodwitError } from "../base/index.ts";
import {
  type Clock,
  isRunning,
  type ProcessIdentity,
  sleep,
  systemProcesses,
} from "../io/index.ts";
import { checkSocketPath } from "../qemu/launch/index.ts";
import { Arrivals } from "./arrivals.ts";
import type { Config } from "./config.ts";
import type { Context } from "./context.ts";
import { Expectations } from "./expectations.ts";
import { makeDirectory, makePrivateDirectory, readJson, writeJson } from "./files.ts";
import { History } from "./history.ts";
import { Kept } from "./kept.ts";
import { explainListen, Listener } from "./listener.ts";
import type { Logger } from "./log.ts";
import { Migrations } from "./migrations.ts";
import { findOrphans, waitForOrphans } from "./orphans.ts";
import { Receiving } from "./receiving.ts";
import { type Recovery, systemRecovery } from "./recovery.ts";
import { Sending } from "./sending.ts";
import { createServer } from "./server.ts";
import { Service } from "./service.ts";
import { SpareWorker } from "./spare-worker.ts";
import { Unsettled } from "./unsettled.ts";
import { Vms } from "./vms.ts";

export interface DaemonOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Logger;
  /** How a broken-off migration is settled. Default: by asking the source QEMU and telling the destination. */
  readonly recovery?: Partial<Recovery>;
}

/** How long migrations get to be cancelled, or to complete, when the daemon ends. */
const stopMs = 10_000;
const workerLogsMax = 50;

export class Daemon {
  readonly #context: Context;
  readonly #history: History;
  readonly #sending: Sending;
  readonly #receiving: Receiving;
  readonly #service: Service;
  readonly #listener: Listener;
  readonly #servers: FastifyInstance[] = [];
  readonly #background = new Set<Promise<void>>();

  private constructor({ config, clock, log, recovery }: DaemonOptions) {
    const { runtimeDirectory } = config;
    const vms = new Vms({ runtimeDirectory, clock, log });
    const arrivals = new Arrivals(runtimeDirectory);
    const expectations = new Expectations(clock);
    this.#history = new History(config.stateDirectory);
    const migrations = new Migrations({ history: this.#history, log });
    expectations.onChange = (name, expected) =>
      migrations.followers.emit({ type: "expectation", name, expected });
    const logDirectory = join(runtimeDirectory, "logs");
    this.#context = {
      config,
      clock,
      log,
      runtimeDirectory,
      logDirectory,
      workersDirectory: join(runtimeDirectory, "workers"),
      spare: new SpareWorker({ workerPath: config.workerPath, logDirectory, clock }),
      vms,
      arrivals,
      kept: new Kept({
        arrivals,
        vms,
        clock,
        log,
        hasArrived: (id) => migrations.hasArrived(id),
      }),
      expectations,
      migrations,
      unsettled: new Unsettled({
        runtimeDirectory,
        clock,
        log,
        migrations,
        recovery: { ...systemRecovery(clock), ...recovery },
        background: (work) => this.#inBackground(work),
      }),
      recorded: new Set(),
      stopping: false,
      background: (work) => this.#inBackground(work),
    };
    this.#sending = new Sending(this.#context);
    this.#receiving = new Receiving(this.#context);
    this.#service = new Service(this.#context, this.#sending, this.#receiving);
    this.#listener = new Listener((socket) => this.#inBackground(this.#receiving.accept(socket)));
  }

  /** Fails with CONFLICT when one runs already, IO, CONFIG_INVALID. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options);
    try {
      await daemon.#start();
      return daemon;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  /** "HOST:PORT" as bound. */
  get migrationAddress(): string {
    return this.#service.migrationAddress ?? "";
  }

  /** Migrations are cancelled or complete, within a bounded time; VMs run on. */
  async stop(): Promise<void> {
    const { clock, log, vms } = this.#context;
    if (this.#context.stopping) return;
    this.#context.stopping = true;
    this.#listener.close();
    this.#context.spare.stop();
    this.#context.unsettled.stop();
    this.#service.tracing.stop();
    const workers = [...this.#sending.stop(), ...this.#receiving.stop()];
    const until = clock.nowMs() + stopMs;
    while (this.#active() > 0 && clock.nowMs() < until) await sleep(clock, 50);
    if (this.#active() > 0) {
      log.warn(`${this.#active()} migrations are still under way; their workers complete them`);
    }
    for (const worker of workers) worker.disconnect();
    await this.#backgroundEnds(2_000);
    // Followers are told how it ended before they are cut off.
    await Promise.all(this.#servers.map((server) => server.close()));
    await vms.close();
    if (this.#servers.length > 0) await rm(this.#context.config.socketPath, { force: true });
  }

  async #backgroundEnds(ms: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const stopDeadline = this.#context.clock.after(ms, late.resolve);
    await Promise.race([Promise.allSettled(this.#background), late.promise]);
    stopDeadline();
  }

  #active(): number {
    return this.#sending.activeCount + this.#receiving.activeCount;
  }

  async #start(): Promise<void> {
    const { config, runtimeDirectory, logDirectory, workersDirectory } = this.#context;
    const { vms, arrivals, unsettled, log } = this.#context;
    checkSocketPath(config.socketPath);
    const journals = join(runtimeDirectory, "migrations");
    for (const path of [runtimeDirectory, journals, logDirectory, workersDirectory]) {
      await makePrivateDirectory(path);
    }
    await makeDirectory(dirname(config.socketPath));
    await claim(join(runtimeDirectory, "daemon.json"));
    await removeStaleSocket(config.socketPath);
    await dropOldLogs(logDirectory);
    await this.#history.load();
    await arrivals.load();
    await vms.load();
    await unsettled.load();
    await this.#service.tracing.load();
    await this.#service.advising.load();
    await this.#listenApi();
    this.#service.migrationAddress = await this.#listener.listen(config.listen);
    this.#context.spare.prepare();
    log.info({ socket: config.socketPath, migrations: this.migrationAddress }, "ready");
    this.#inBackground(this.#settleLeftovers());
    this.#inBackground(this.#service.tracing.settleLeftovers());
  }

  /** What the daemon before this one left half done, once its workers have ended. */
  async #settleLeftovers(): Promise<void> {
    const context = this.#context;
    const arrivals = context.arrivals.list().filter(({ phase }) => phase === "arriving");
    const orphans = findOrphans(context.workersDirectory);
    await waitForOrphans(orphans, context.clock, () => context.stopping);
    if (context.stopping) return;
    await this.#service.advising.settleLeftovers();
    for (const arrival of arrivals) await this.#receiving.settleLeftover(arrival);
    // Listed only now: a worker that was left may have begun to hand over meanwhile.
    await context.unsettled.settleLeftovers((id) => this.#sending.has(id));
  }

  async #listenApi(): Promise<void> {
    const { socketPath, listenApi, tokenFile } = this.#context.config;
    const server = createServer(this.#service, { token: undefined });
    await server.listen({ path: socketPath });
    this.#servers.push(server);
    await chmod(socketPath, 0o600);
    if (listenApi === undefined || tokenFile === undefined) return;
    const tcp = createServer(this.#service, { token: await readToken(tokenFile) });
    this.#servers.push(tcp);
    try {
      await tcp.listen(listenApi);
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error(String(cause));
      throw new GodwitError("IO", explainListen(listenApi, error), { cause });
    }
  }

  #inBackground(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#context.log.error({ err: error }, "background work failed"))
      .finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

/** One daemon per runtime directory: two would both look after the same VMs. Fails with CONFLICT. */
async function claim(path: string): Promise<void> {
  const other = (await readJson(path)) as ProcessIdentity | undefined;
  if (other !== undefined && other.pid !== process.pid && isRunning(systemProcesses, other)) {
    throw new GodwitError(
      "CONFLICT",
      `a godwit daemon (process ${other.pid}) uses ${dirname(path)} already; stop it, or give this one another --runtime-directory`,
    );
  }
  await writeJson(path, systemProcesses.identify(process.pid));
}

/** A socket on which nobody listens is left from a crash. Fails with CONFLICT when somebody does. */
async function removeStaleSocket(path: string): Promise<void> {
  const answered = await new Promise<boolean>((resolve) => {
    const socket = createConnection({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
  if (answered) {
    throw new GodwitError(
      "CONFLICT",
      `a godwit daemon runs already at ${path}; stop it, or give this one another --runtime-directory`,
    );
  }
  await rm(path, { force: true });
}

/** The token; a new one is written when there is no file. Fails with INSECURE when others may read it. */
async function readToken(path: string): Promise<string> {
  const fresh = randomBytes(32).toString("base64url");
  await writeFile(path, `${fresh}\n`, { mode: 0o600, flag: "wx" }).catch(() => {});
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) {
    throw new GodwitError("INSECURE", `others may read the token file ${path}; chmod 600 it`);
  }
  const token = (await readFile(path, "utf8")).trim();
  if (token.length >= 16) return token;
  throw new GodwitError("INSECURE", `the token in ${path} is too short; 16 characters at least`);
}

/** Workers' logs of failures are kept for a while. */
async function dropOldLogs(directory: string): Promise<void> {
  const names = await readdir(directory);
  const dated = await Promise.all(
    names.map(async (name) => {
      const path = join(directory, name);
      return { path, ms: (await stat(path)).mtimeMs };
    }),
  );
  const old = dated.toSorted((a, b) => b.ms - a.ms).slice(workerLogsMax);
  await Promise.all(old.map(({ path }) => rm(path, { force: true })));
}
