/**
 * VMs that arrived, were loaded, and stay stopped because the source fell silent: whether the source handed over or runs the
 * VM itself cannot be known here. The source's word, or an operator's, settles it.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, sleep } from "../io/index.ts";
import type { Arrival, Arrivals } from "./arrivals.ts";
import type { Logger } from "./log.ts";
import { visit } from "./monitor.ts";
import type { Vms } from "./vms.ts";

const settleMs = 15_000;

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

  /** The source reports; answers what became of the VM here. The source waits for 20 s. */
  async resolve(migrationId: string, outcome: "handed-over" | "aborted"): Promise<string> {
    const until = this.#clock.nowMs() + settleMs;
    // The worker that lost the connection may still be finding that out.
    const isArriving = (): boolean => this.#arrivals.ofMigration(migrationId)?.phase === "arriving";
    while (isArriving() && this.#clock.nowMs() < until) await sleep(this.#clock, 100);
    const arrival = this.#arrivals.ofMigration(migrationId);
    if (arrival === undefined) return this.#hasArrived(migrationId) ? "running" : "not here";
    if (arrival.phase === "arriving") throw new GodwitError("CONFLICT", "it is still arriving");
    if (outcome === "aborted") {
      await this.discard(arrival);
      return "discarded";
    }
    if (arrival.run) await this.run(arrival);
    else await this.#arrivals.delete(arrival.name);
    return "running";
  }

  async run(arrival: Arrival): Promise<void> {
    await this.#withMonitor(arrival, (monitor) => monitor.execute("cont"));
    await this.#arrivals.delete(arrival.name);
    await this.#vms.get(arrival.name)?.refresh();
  }

  /** Ends a QEMU that godwit started; one that was adopted is only forgotten. */
  async discard(arrival: Arrival): Promise<void> {
    if (arrival.vm.launched) await this.#vms.discard(arrival.name);
    await this.#arrivals.delete(arrival.name);
  }

  /** When nobody is left who knows: a VM that runs has been handed over, one that never loaded has not. */
  async settleByState(arrival: Arrival): Promise<void> {
    const { name } = arrival;
    const state = await this.#stateOf(arrival);
    this.#log.info({ vm: name, state }, "settling a VM whose migration broke off");
    if (state === "running" || state === "gone") {
      await this.#arrivals.delete(name);
    } else if (state === "inmigrate") {
      await this.discard(arrival);
    } else {
      await this.#arrivals.put({ ...arrival, phase: "kept" });
    }
  }

  async #stateOf(arrival: Arrival): Promise<string> {
    const vm = this.#vms.get(arrival.name);
    if (vm !== undefined) return await vm.refresh();
    if (arrival.vm.launched) return "gone";
    try {
      return await this.#withMonitor(arrival, async (monitor) => {
        return (await monitor.execute("query-status")).status;
      });
    } catch (error) {
      return error instanceof GodwitError && error.code === "TIMEOUT" ? "unknown" : "gone";
    }
  }

  async #withMonitor<T>(arrival: Arrival, ask: Parameters<typeof visit<T>>[2]): Promise<T> {
    const vm = this.#vms.get(arrival.name);
    if (vm !== undefined) return await ask(await vm.monitor());
    return await visit(arrival.vm.qmpPath, this.#clock, ask);
  }
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
