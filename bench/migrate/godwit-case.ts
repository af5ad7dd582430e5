/**
 * Migration by godwit: two worker processes, each in its own end of the link, started at the moments at which a daemon
 * starts them (the source's at the user's command, the destination's when the connection arrives).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Server, Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import {
  defaultMigrateOptions,
  type FromWorker,
  type MigrateOptions,
  type ToWorker,
  workerArguments,
  workerEnvironment,
} from "../../src/migrate/index.ts";
import { Worker } from "../../test/e2e/harness.ts";
import { atExit } from "../at-exit.ts";
import type { NetworkPair, Side } from "../netns.ts";
import { type Case, type Measured, passCount, type Stage } from "./case.ts";

const script = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const workerPath = script("../../src/migrate/worker.ts");
/** A worker does not say when it has loaded its program. */
const warmUpMs = 2000;
const transport = { tlsDirectory: undefined, insecure: true };

/** With `options` besides godwit's defaults. */
export function godwitCase(name: string, options: Partial<MigrateOptions> = {}): Case {
  return { name, destination: "waiting", run: (stage) => migrate(stage, options) };
}

async function migrate(stage: Stage, options: Partial<MigrateOptions>): Promise<Measured> {
  const { source, destination, link, settings, directory } = stage;
  await using processes = new Processes(link);
  const startReceiver = (): Worker =>
    processes.worker("b", (message, send) => {
      if (message.type !== "prepare-vm") return;
      const { pid, startTimeTicks, migrationQmpPath: qmpPath } = destination.vm;
      send({ type: "vm-prepared", vm: { qmpPath, pid, startTimeTicks, launched: true } });
    });
  const startSender = (): Worker => processes.worker("a", () => {});
  const spares = settings.warmWorkers ? { a: startSender(), b: startReceiver() } : undefined;
  if (spares !== undefined) await sleep(systemClock, warmUpMs);
  const receiver = Promise.withResolvers<Worker>();
  const port = await processes.listen((socket) => {
    const worker = spares?.b ?? startReceiver();
    const job = { kind: "receive", peerAddress: "bench", transport, runtimeDirectory: directory };
    worker.child.send({ type: "start", job }, socket, { keepOpen: false });
    receiver.resolve(worker);
  });
  const wireBytes = await link.wireBytes();
  const startMs = systemClock.wallMs();
  const sender = spares?.a ?? startSender();
  const stopBound = systemClock.after(settings.boundMs, () => {
    if (source.found("STOP") === undefined) sender.cancel();
  });
  sender.child.send({
    type: "start",
    job: {
      kind: "send",
      migrationId: "bench",
      vmName: source.vm.definition.name,
      qmpPath: source.vm.migrationQmpPath,
      pid: source.vm.pid,
      host: link.address("b"),
      port,
      transport,
      runtimeDirectory: directory,
      options: {
        ...defaultMigrateOptions,
        downtimeLimitMs: settings.downtimeLimitMs,
        verify: true,
        ...options,
      },
    },
  });
  const outcome = await sender.outcome;
  stopBound();
  if (outcome.result !== "done" && outcome.result !== "cancelled") {
    throw new GodwitError("MIGRATION_FAILED", outcome.text);
  }
  const finished = outcome.result === "done";
  const { report } = outcome;
  if (finished) await (await receiver.promise).outcome;
  const counts = {
    rounds: await passCount(stage),
    wireBytes: (await link.wireBytes()) - wireBytes,
    verified: report.verified,
    compression: report.compression,
  };
  const own = {
    ownTotalMs: Math.round(report.totalMs - (report.verifyMs ?? 0)),
    ownDowntimeMs: Math.round(report.downtimeMs ?? Number.NaN),
    ownWireBytes: report.wireBytes,
    said: sender.said.join("; "),
    assist: report.assist,
    roundDetails: report.roundDetails,
  };
  const heldMs = report.verifyMs ?? 0;
  if (!finished) {
    const nothing = { setupMs: undefined, totalMs: undefined, downtimeMs: undefined };
    const never = { startMs, stopMs: undefined, resumeMs: undefined, heldMs };
    const moments = { ...never, endMs: systemClock.wallMs() };
    return { finished, ...nothing, ...counts, moments, own };
  }
  const resumeMs = (await destination.occurrence("RESUME")).wallMs;
  const stopMs = (await source.occurrence("STOP")).wallMs;
  const times = {
    setupMs: (await source.occurrence("MIGRATION", "active")).wallMs - startMs,
    totalMs: resumeMs - heldMs - startMs,
    downtimeMs: resumeMs - heldMs - stopMs,
  };
  const moments = { startMs, stopMs, resumeMs, heldMs, endMs: resumeMs };
  return { finished, ...times, ...counts, moments, own };
}

/** The processes of one migration; whatever is left of them ends with this. */
class Processes implements AsyncDisposable {
  readonly #link: NetworkPair;
  readonly #children: ChildProcess[] = [];
  readonly #forget: () => void;
  #server: Server | undefined;

  constructor(link: NetworkPair) {
    this.#link = link;
    this.#forget = atExit(() => this.#kill());
  }

  /** Answers the port, at end b. */
  async listen(accept: (socket: Socket) => void): Promise<number> {
    const child = this.#spawn("b", [script("listener.ts"), this.#link.address("b")]);
    const [message, server] = (await once(child, "message")) as [{ port: number }, Server];
    // The worker must be the first to read the connection.
    (server as Server & { pauseOnConnect: boolean }).pauseOnConnect = true;
    server.on("connection", accept);
    this.#server = server;
    return message.port;
  }

  worker(
    side: Side,
    onMessage: (message: FromWorker, send: (message: ToWorker) => void) => void,
  ): Worker {
    const child = this.#spawn(side, [...workerArguments, workerPath]);
    return new Worker(child, (message) => onMessage(message, (answer) => child.send(answer)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    this.#kill();
    this.#forget();
  }

  #spawn(side: Side, args: readonly string[]): ChildProcess {
    const [command, words] = this.#link.inside(side, process.execPath, args);
    const child = spawn(command, words, {
      env: workerEnvironment(),
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#children.push(child);
    return child;
  }

  #kill(): void {
    for (const child of this.#children) {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    }
  }
}
