/** A daemon in this process, in a folder of its own, with the scripted worker. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  GodwitClient,
  type Migration,
  type MigrationEvent,
  parseHostPort,
} from "../../src/api/index.ts";
import { type ConfigInput, resolveConfig } from "../../src/daemon/config.ts";
import { Daemon } from "../../src/daemon/daemon.ts";
import type { Recovery } from "../../src/daemon/recovery.ts";
import { createLog } from "../../src/daemon/log.ts";
import { systemClock } from "../../src/io/index.ts";

export const scriptedWorker = join(import.meta.dirname, "scripted-worker.ts");

export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "godwit-test-"));
  const remove = () => rm(path, { recursive: true, force: true });
  return { path, [Symbol.asyncDispose]: remove };
}

export interface TestDaemon extends AsyncDisposable {
  readonly daemon: Daemon;
  readonly client: GodwitClient;
  /** For `migrate`: where it listens. */
  readonly target: { host: string; port: number };
  readonly folder: string;
}

/** `folder` outlives the daemon, so that another one can find what it left. */
export async function startDaemon(
  folder: string,
  more: ConfigInput = {},
  settling: Partial<Recovery> = {},
): Promise<TestDaemon> {
  const config = resolveConfig({
    listen: "127.0.0.1:0",
    runtimeDirectory: join(folder, "run"),
    stateDirectory: join(folder, "state"),
    workerPath: scriptedWorker,
    ...more,
  });
  const log = createLog(process.env["GODWIT_DEBUG"] ? "debug" : "silent");
  // The scripted worker at the other end does not speak the protocol in which a destination is told.
  const scripted: Partial<Recovery> =
    config.workerPath === scriptedWorker ? { tell: async () => "not here" } : {};
  const recovery = { ...scripted, ...settling };
  const daemon = await Daemon.start({ config, clock: systemClock, log, recovery });
  return {
    daemon,
    client: new GodwitClient({ socketPath: config.socketPath }),
    target: parseHostPort(daemon.migrationAddress),
    folder,
    [Symbol.asyncDispose]: () => daemon.stop(),
  };
}

export async function endOf(client: GodwitClient, id: string): Promise<Migration> {
  return (await eventsOf(client, id)).ended;
}

export async function eventsOf(
  client: GodwitClient,
  id: string,
): Promise<{ ended: Migration; events: MigrationEvent[] }> {
  const events: MigrationEvent[] = [];
  for await (const event of client.followMigration(id)) {
    events.push(event);
    if (event.type === "finished") return { ended: event.migration, events };
  }
  throw new Error(`the events of ${id} ended without an end`);
}
