/** What the parts of the daemon share. */
import type { Clock } from "../io/index.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Config } from "./config.ts";
import type { Expectations } from "./expectations.ts";
import type { Kept } from "./kept.ts";
import type { Logger } from "./log.ts";
import type { Migrations } from "./migrations.ts";
import type { SpareWorker } from "./spare-worker.ts";
import type { Unsettled } from "./unsettled.ts";
import type { Vms } from "./vms.ts";

export interface Context {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runtimeDirectory: string;
  /** Of the workers' output. */
  readonly logDirectory: string;
  readonly workersDirectory: string;
  readonly spare: SpareWorker;
  readonly vms: Vms;
  readonly arrivals: Arrivals;
  readonly kept: Kept;
  readonly expectations: Expectations;
  readonly migrations: Migrations;
  readonly unsettled: Unsettled;
  /** VMs whose pages are being recorded: QEMU's second monitor is taken, and so is its one migration. */
  readonly recorded: Set<string>;
  /** Set once the daemon ends: nothing new begins. */
  stopping: boolean;
  /** For work that nobody waits for: its failure is logged, and the daemon's end waits for it. */
  background(work: Promise<void>): void;
}
