/** The destination host: the daemon with its journal on disk, and the worker that carries out the machine's effects. */
import type { ErrorRecord } from "../../src/base/index.ts";
import {
  type DestinationDeadline,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationState,
  initialDestinationState,
} from "../../src/migrate/destination/machine.ts";
import type { Timer } from "./clock.ts";
import type { Connection, Endpoint, Message } from "./network.ts";
import { DestinationQemu } from "./qemu.ts";
import type { Answer } from "./source.ts";
import type { World } from "./world.ts";

export class DestinationWorker implements Endpoint {
  readonly #world: World;
  state: DestinationState;
  alive = true;
  /** Its daemon died: nobody answers it, and nobody reaches it. */
  orphan = false;
  readonly #open: () => Connection;
  readonly #deadlines = new Map<DestinationDeadline, Timer>();

  constructor(world: World, open: () => Connection) {
    this.#world = world;
    this.#open = open;
    this.state = initialDestinationState(world.options.destination);
    world.entered("destination", this.state.phase);
    this.#setDeadline("idle", 30_000);
  }

  dispatch(event: DestinationEvent): void {
    if (!this.alive) return;
    const before = this.state.phase;
    const step = this.#world.machines.stepDestination(this.state, event);
    this.state = step.state;
    this.#world.trace("destination", before, step.state.phase, event, step.effects);
    for (const effect of step.effects) this.#perform(effect);
    if (before !== step.state.phase) this.#world.entered("destination", step.state.phase);
  }

  receive(message: Message): void {
    const error = message["error"] as ErrorRecord;
    if (message.type === "offer") this.dispatch({ type: "offer" });
    if (message.type === "verify") this.dispatch({ type: "verify" });
    if (message.type === "handed-over") this.dispatch({ type: "handed-over" });
    if (message.type === "abort") this.dispatch({ type: "abort", error });
    if (message.type === "stream") {
      this.#world.destination.qemu?.take(message["part"] as "head" | "pages" | "tail");
      (message["taken"] as () => void)();
    }
    this.#cancel("idle");
  }

  lost(text: string): void {
    this.dispatch({ type: "peer-lost", error: { code: "PEER_LOST", message: text } });
  }

  kill(): void {
    if (!this.alive) return;
    this.#exit("kill");
    this.#world.note("destination worker", "killed");
    this.#world.destination.workerEnded();
  }

  #exit(how: "drain" | "kill"): void {
    this.alive = false;
    for (const timer of this.#deadlines.values()) timer.cancelled = true;
    this.#open().close(1, how);
    this.#world.destination.qemu?.closeStream();
  }

  #perform(effect: DestinationEffect): void {
    switch (effect.type) {
      case "prepare-vm":
        return this.#prepareVm();
      case "tell-ready":
        return this.#tell({ type: "ready" });
      case "tell-loaded":
        return this.#tell({ type: "loaded" });
      case "tell-running":
        return this.#tell({ type: "running" });
      case "tell-failed":
        return this.#tell({ type: "failed", error: effect.error });
      case "hash":
        return this.#hash();
      case "start-vm":
        return this.#startVm();
      case "discard-vm":
        return this.#later(1, 50, () => {
          this.#world.destination.discard();
          this.#later(0, 20, () => this.dispatch({ type: "discarded" }));
        });
      case "set-deadline":
        return this.#setDeadline(effect.name, effect.ms);
      case "clear-deadline":
        return this.#cancel(effect.name);
      case "finish":
        this.#world.outcome("destination", this.state.phase, this.state.error);
        this.#exit("drain");
        return this.#world.destination.workerEnded();
      default:
        return;
    }
  }

  #tell(message: Message): void {
    this.#open().send(1, message);
  }

  #prepareVm(): void {
    if (this.orphan) return;
    this.#world.command("destination", 20, 100, (accepted) => {
      const { destination } = this.#world;
      if (!this.alive || this.orphan || this.state.phase !== "preparing") return;
      if (!accepted) return this.#fail("QEMU_START", "QEMU did not start");
      destination.qemu = new DestinationQemu(this.#world, this);
      this.#later(100, 700, () => {
        if (destination.qemu?.state === "waiting") this.dispatch({ type: "vm-prepared" });
      });
    });
  }

  #hash(): void {
    this.#later(10, 300, () => {
      const { destination } = this.#world;
      if (destination.qemu?.state !== "loaded") return this.#fail("MEMORY_READ", "no such process");
      this.#tell({ type: "hashes", equal: !this.#world.take("verify-mismatch") });
    });
  }

  #startVm(): void {
    this.#later(0, 5, () => {
      const { destination, options } = this.#world;
      if (options.destinationJournal) {
        if (this.#world.take("journal-fails")) return this.#fail("IO", "cannot write the journal");
        destination.ours = true;
      }
      destination.qemu?.continue((runs) => {
        if (!this.alive) return;
        if (runs) this.dispatch({ type: "vm-started" });
        else this.#fail("QMP_ERROR", "QEMU refused `cont`");
      });
    });
  }

  #setDeadline(name: DestinationDeadline, ms: number): void {
    this.#world.claim(ms > 0 && Number.isFinite(ms), `deadline ${name} of ${ms} ms`);
    this.#cancel(name);
    const expire = () => this.dispatch({ type: "deadline", name });
    this.#deadlines.set(name, this.#world.clock.after(ms, expire));
  }

  #cancel(name: DestinationDeadline): void {
    const timer = this.#deadlines.get(name);
    if (timer !== undefined) timer.cancelled = true;
  }

  #later(minimumMs: number, maximumMs: number, run: () => void): void {
    this.#world.after(minimumMs, maximumMs, () => {
      if (this.alive) run();
    });
  }

  #fail(code: ErrorRecord["code"], message: string): void {
    this.dispatch({ type: "failed", error: { code, message } });
  }
}

export class DestinationDaemon {
  readonly #world: World;
  alive = true;
  worker: DestinationWorker | undefined;
  qemu: DestinationQemu | undefined;
  /** The journal, where there is one: "this VM is now ours". */
  ours = false;
  /** A `cont` was sent whose answer is still out. */
  #continuing = false;

  constructor(world: World) {
    this.#world = world;
  }

  accept(open: () => Connection): Endpoint | undefined {
    if (!this.alive) return undefined;
    this.worker = new DestinationWorker(this.#world, open);
    return this.worker;
  }

  acceptResolve(open: () => Connection): Endpoint | undefined {
    if (!this.alive) return undefined;
    return {
      receive: (message) => {
        const answer = (state: Answer) => open().send(1, { type: "resolved", state });
        if (message["outcome"] === "aborted") return this.#aborted(answer);
        this.#handedOver(answer, 100);
      },
      lost: () => {},
    };
  }

  workerEnded(): void {
    this.#world.after(1, 50, () => this.#tidy());
  }

  kill(both: boolean, downMs: number): void {
    if (!this.alive) return;
    this.alive = false;
    this.#world.note("destination daemon", "killed");
    const { worker } = this;
    if (both) worker?.kill();
    if (worker !== undefined) worker.orphan = true;
    const error = { code: "CANCELLED", message: "the daemon ended" } as const;
    this.#world.after(0, 5, () => worker?.dispatch({ type: "failed", error }));
    if (!Number.isFinite(downMs)) return;
    this.#world.clock.after(downMs, () => {
      this.alive = true;
      this.#world.note("destination daemon", "starts again");
      this.#tidy();
    });
  }

  discard(): void {
    this.qemu?.end();
  }

  /** What a worker that ended, or the daemon's own death, left behind. A loaded VM that is not ours is kept, stopped. */
  #tidy(): void {
    if (!this.alive || this.worker?.alive === true) return;
    const state = this.qemu?.state;
    if (state === "waiting" || state === "loading") return this.discard();
    if (state === "loaded" && this.ours) this.#continue(() => {});
  }

  #continue(answer: (state: Answer) => void): void {
    if (this.#continuing) return answer("busy");
    this.#continuing = true;
    this.qemu?.continue((runs) => {
      this.#continuing = false;
      if (this.alive) answer(runs ? "running" : "failed");
    });
  }

  /** The source's last word. A worker that has not noticed yet gets it; else the daemon starts the VM itself. */
  #handedOver(answer: (state: Answer) => void, polls: number): void {
    if (!this.alive) return;
    const state = this.qemu?.state;
    if (state === "running") return answer("running");
    if (state === "gone" || state === undefined) return answer("failed");
    if (this.worker?.alive === true) {
      if (polls === 0) return answer("busy");
      if (!this.worker.orphan && this.worker.state.phase === "loaded") {
        this.worker.dispatch({ type: "handed-over" });
      }
      this.#world.clock.after(50, () => this.#handedOver(answer, polls - 1));
      return;
    }
    this.#world.after(0, 5, () => {
      if (!this.alive) return;
      this.ours = this.#world.options.destinationJournal;
      this.#continue(answer);
    });
  }

  #aborted(answer: (state: Answer) => void): void {
    if (this.worker?.alive === true && this.worker.orphan) return answer("busy");
    const error = { code: "PEER_FAILED", message: "the source gave up" } as const;
    if (this.worker?.alive === true) this.worker.dispatch({ type: "abort", error });
    else if (!this.ours) this.discard();
    answer("discarded");
  }
}
