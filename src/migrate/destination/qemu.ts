/** The destination QEMU as a migration needs it: waiting, loading, started. */
import { connect, type Socket } from "node:net";
import { GodwitError } from "../../base/index.ts";
import { type Clock, sleep } from "../../io/index.ts";
import {
  type MigrationCapability,
  type QmpClient,
  setMigrationCapabilities,
} from "../../qemu/qmp/index.ts";

/**
 * `late-block-activate`: disks are taken over at `cont`, not when the state is loaded. Until then the source may still go
 * on with them.
 */
const wanted: readonly MigrationCapability[] = ["events", "late-block-activate"];
const unwanted: readonly MigrationCapability[] = [
  "xbzrle",
  "postcopy-ram",
  "x-colo",
  "multifd",
  "dirty-bitmaps",
  "x-ignore-shared",
  "mapped-ram",
  "validate-uuid",
];
const loadPollMs = 5;

export class DestinationQemu {
  readonly qmp: QmpClient;
  readonly #clock: Clock;

  constructor(qmp: QmpClient, clock: Clock) {
    this.qmp = qmp;
    this.#clock = clock;
  }

  /** Makes QEMU listen at `path` and connects. Fails with CONFLICT when it does not wait for a stream. */
  async open(path: string): Promise<Socket> {
    const [{ status }, known] = await Promise.all([
      this.qmp.execute("query-status"),
      this.qmp.execute("query-migrate-capabilities"),
    ]);
    if (status !== "inmigrate") {
      throw new GodwitError(
        "CONFLICT",
        `the destination QEMU is in state ${status}: start it with -S -incoming defer`,
      );
    }
    const capabilities = known
      .filter(
        (is) =>
          (wanted.includes(is.capability) && !is.state) ||
          (unwanted.includes(is.capability) && is.state),
      )
      .map(({ capability, state }) => ({ capability, state: !state }));
    await Promise.all([
      // In this state it means: do not run by yourself once all is loaded. As -S does, which may have been forgotten.
      this.qmp.execute("stop"),
      setMigrationCapabilities(this.qmp, capabilities),
    ]);
    await this.qmp.executeAny("migrate-incoming", { uri: `unix:${path}` });
    return await connectTo(path);
  }

  /** After QEMU said "loaded" on its return path: waits until its own books say so too. */
  async awaitLoaded(): Promise<void> {
    for (;;) {
      const { status } = await this.qmp.execute("query-migrate");
      if (status === "completed") break;
      if (status === "failed")
        throw new GodwitError("MIGRATION_FAILED", "QEMU could not load the state");
      await sleep(this.#clock, loadPollMs);
    }
    const { running, status } = await this.qmp.execute("query-status");
    // A VM that runs now may run at the source as well: only -S keeps the two apart.
    if (running) {
      await this.qmp.execute("stop");
      throw new GodwitError(
        "CONFLICT",
        "the destination VM started by itself; it is stopped again",
      );
    }
    if (status === "inmigrate")
      throw new GodwitError("MIGRATION_FAILED", "QEMU still waits for state");
  }

  /** Runs the VM; answers when QEMU says it does, in ms since 1970. */
  async start(): Promise<number> {
    const resumed = this.qmp.once("RESUME", () => true, 20_000);
    resumed.catch(() => {});
    await this.qmp.execute("cont", {}, { deadlineMs: 20_000 });
    const { timestampUs } = await resumed;
    return timestampUs / 1000;
  }

  /** Lets switches learn the VM's new place; QEMU did so while the VM was stopped, its own NIC may have been deaf then. */
  async announce(): Promise<void> {
    const times = { initial: 50, max: 550, rounds: 5, step: 50 };
    await this.qmp.executeAny("announce-self", times);
  }
}

function connectTo(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error) => {
      reject(new GodwitError("IO", `QEMU does not listen at ${path}: ${error.message}`));
    });
  });
}
