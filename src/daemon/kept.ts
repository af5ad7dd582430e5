/**
 * VMs that arrived, were loaded, and stay stopped because the source fell silent: whether the source handed over or runs the
 * VM itself cannot be known here. The source's word, or an operator's, settles it.
 *
 * What QEMU says is asked for anew before each decision; of a QEMU that does not answer nothing is decided.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, isRunning, sleep, systemProcesses } from "../io/index.ts";
import type { Arrival, Arrivals } from "./arrivals.ts";
import type { Logger } from "./log.ts";
import { visit } from "./monitor.ts";
import type { Vms } from "./vms.ts";

/** Below the 20 s that a source waits for an answer. */
const settleMs = 10_000;

export class Kept {
  readonly #arrivals: Arrivals;
  readonly #vms: Vms;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #hasArrived: (migrationId: string) => boolean;

  constructor(options: {
    arrivals: Arrivals;
    vms: Vms;
    clock: Clock;
    log: Logger;
    /** Whether a migration to here was completed before. */
    hasArrived: (migrationId: string) => boolean;
  }) {
    this.#arrivals = options.arrivals;
    this.#vms = options.vms;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#hasArrived = options.hasArrived;
  }

  /** The source reports; answers what became of the VM here. The source tries again on "still arriving", and on a failure. */
  async resolve(migrationId: string, outcome: "handed-over" | "aborted"): Promise<string> {
    const until = this.#clock.nowMs() + settleMs;
    // The worker that lost the connection may still be finding that out.
    const isArriving = (): boolean => this.#arrivals.ofMigration(migrationId)?.phase === "arriving";
    while (isArriving() && this.#clock.nowMs() < until) await sleep(this.#clock, 100);
    const arrival = this.#arrivals.ofMigration(migrationId);
    if (arrival === undefined) {
      const arrived = this.#arrivals.hasArrived(migrationId) || this.#hasArrived(migrationId);
      return arrived ? "running" : "not here";
    }
    if (arrival.phase === "arriving") return "still arriving";
    if (outcome === "handed-over") {
      if (arrival.run) await this.run(arrival);
      else await this.#arrivals.settle(arrival);
      return "running";
    }
    const state = await this.stateOf(arrival);
    if (state === "unknown") throw noAnswer(arrival.name);
    if (state === "running") {
      // Somebody here has decided otherwise.
      await this.#arrivals.settle(arrival);
      return "running";
    }
    await this.discard(arrival);
    return "discarded";
  }

  /** Fails with CONFLICT (it cannot run) or TIMEOUT (QEMU does not answer; `force` tries nevertheless). */
  async run(arrival: Arrival, { force = false } = {}): Promise<void> {
    const { name } = arrival;
    const state = await this.stateOf(arrival);
    if (state === "unknown" && !force) throw noAnswer(name);
    if (state === "gone") throw new GodwitError("CONFLICT", `the QEMU of VM ${name} has ended`);
    if (state === "inmigrate") {
      throw new GodwitError(
        "CONFLICT",
        `VM ${name} has not arrived completely and cannot run; \`godwit discard ${name}\` removes what is here`,
      );
    }
    if (state !== "running") {
      await this.#withMonitor(arrival, (monitor) => monitor.execute("cont"));
    }
    await this.#arrivals.settle(arrival);
    await this.#vms.get(name)?.refresh();
  }

  /** Ends a QEMU that godwit started; one that was adopted is only forgotten. */
  async discard(arrival: Arrival): Promise<void> {
    if (arrival.vm.launched) await this.#vms.discard(arrival.name);
    await this.#arrivals.delete(arrival.name);
  }

  /**
   * When nobody is left who knows: a VM that runs has been handed over, one that never loaded has not. Answers what became of
   * it; undefined when it was settled meanwhile, by somebody else.
   */
  async settleByState({ name, migrationId }: Arrival): Promise<Settled | undefined> {
    const state = await this.#stateNow(name, migrationId);
    const arrival = this.#arrivals.get(name);
    if (state === undefined || !isUnsettled(arrival, migrationId)) return undefined;
    this.#log.info({ vm: name, state }, "settling a VM whose migration broke off");
    if (state === "running") {
      await this.#arrivals.settle(arrival);
      return "running";
    }
    if (state === "gone") {
      await this.#arrivals.delete(name);
      return "discarded";
    }
    if (state === "inmigrate") {
      await this.discard(arrival);
      return "discarded";
    }
    await this.#arrivals.put({ ...arrival, phase: "kept" });
    return "kept";
  }

  /** QEMU's own answer of now, "gone" or "unknown". */
  async stateOf(arrival: Arrival): Promise<string> {
    const vm = this.#vms.get(arrival.name);
    if (vm !== undefined) return await vm.query();
    const absent = isAlive(arrival) ? "unknown" : "gone";
    if (arrival.vm.launched) return absent;
    try {
      return await this.#withMonitor(arrival, async (monitor) => {
        return (await monitor.execute("query-status")).status;
      });
    } catch (error) {
      return error instanceof GodwitError && error.code === "QMP_CLOSED" ? absent : "unknown";
    }
  }

  async #stateNow(name: string, migrationId: string): Promise<string | undefined> {
    const arrival = this.#arrivals.get(name);
    return isUnsettled(arrival, migrationId) ? await this.stateOf(arrival) : undefined;
  }

  async #withMonitor<T>(arrival: Arrival, ask: Parameters<typeof visit<T>>[2]): Promise<T> {
    const vm = this.#vms.get(arrival.name);
    if (vm !== undefined) return await ask(await vm.monitor());
    return await visit(arrival.vm.qmpPath, this.#clock, ask);
  }
}

export type Settled = "running" | "discarded" | "kept";

function isUnsettled(arrival: Arrival | undefined, migrationId: string): arrival is Arrival {
  return arrival?.migrationId === migrationId && arrival.phase === "arriving";
}

/** Without its start time a pid may have been given again: then it counts as alive, which decides nothing. */
function isAlive({ vm: { pid, startTimeTicks } }: Arrival): boolean {
  if (pid === undefined) return false;
  if (startTimeTicks === undefined) return systemProcesses.identify(pid) !== undefined;
  return isRunning(systemProcesses, { pid, startTimeTicks });
}

export function noAnswer(name: string): GodwitError {
  return new GodwitError(
    "TIMEOUT",
    `the QEMU of VM ${name} does not answer, so its state is not known; try again. ` +
      `If you know that it may run: \`godwit continue --force ${name}\`. To end it: \`godwit stop --kill ${name}\``,
  );
}

/** For `status`. */
export function describeArrival(arrival: Arrival): { state: string; note: string } {
  const { name, sourceHost, phase } = arrival;
  if (phase === "arriving") return { state: "arriving", note: `arrives from ${sourceHost}` };
  return {
    state: "kept",
    note:
      `kept, stopped: the source ${sourceHost} fell silent after everything had arrived. ` +
      `If it does not run there: \`godwit continue ${name}\`. If it does: \`godwit discard ${name}\``,
  };
}
