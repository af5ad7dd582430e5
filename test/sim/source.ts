/** The source host: the daemon with its journal on disk, and the worker that carries out the machine's effects. */
import type { ErrorRecord } from "../../src/base/index.ts";
import {
  initialSourceState,
  type SourceDeadline,
  type SourceEffect,
  type SourceEvent,
  type SourceState,
  sourceFinalPhases,
} from "../../src/migrate/source/machine.ts";
import type { Timer } from "./clock.ts";
import type { Connection, Endpoint, Message } from "./network.ts";
import type { SourceListener } from "./qemu.ts";
import type { World } from "./world.ts";

export class SourceWorker implements SourceListener, Endpoint {
  readonly #world: World;
  state: SourceState;
  alive = true;
  #connection: Connection | undefined;
  readonly #deadlines = new Map<SourceDeadline, Timer>();

  constructor(world: World) {
    this.#world = world;
    this.state = initialSourceState(world.options.source);
    world.entered("source", this.state.phase);
  }

  dispatch(event: SourceEvent): void {
    if (!this.alive) return;
    const before = this.state.phase;
    const step = this.#world.machines.stepSource(this.state, event);
    this.state = step.state;
    this.#world.trace("source", before, step.state.phase, event, step.effects);
    for (const effect of step.effects) this.#perform(effect);
    if (before !== step.state.phase) this.#world.entered("source", step.state.phase);
  }

  receive(message: Message): void {
    const error = message["error"] as ErrorRecord;
    if (message.type === "ready") this.dispatch({ type: "peer-ready" });
    if (message.type === "loaded") this.dispatch({ type: "peer-loaded" });
    if (message.type === "running") this.dispatch({ type: "peer-running" });
    if (message.type === "failed") this.dispatch({ type: "failed", error });
    if (message.type === "hashes") this.#compare(message["equal"] === true);
  }

  lost(text: string): void {
    this.#connection = undefined;
    this.dispatch({ type: "peer-lost", error: { code: "PEER_LOST", message: text } });
  }

  carry(part: "head" | "pages" | "tail", taken: () => void): void {
    this.#connection?.send(0, { type: "stream", part, taken });
  }

  kill(): void {
    if (!this.alive) return;
    this.#exit("kill");
    this.#world.note("source worker", "killed");
    this.#world.source.workerEnded(false);
  }

  #exit(how: "drain" | "kill"): void {
    this.alive = false;
    for (const timer of this.#deadlines.values()) timer.cancelled = true;
    this.#connection?.close(0, how);
    this.#world.sourceQemu.closeStream();
  }

  #perform(effect: SourceEffect): void {
    switch (effect.type) {
      case "offer":
        return this.#offer();
      case "start-stream":
        return this.#command(() => this.#world.sourceQemu.migrate(this));
      case "prepare":
        return this.#later(0, 500, () =>
          this.dispatch({ type: this.#world.prng.chance(0.2) ? "unprepared" : "prepared" }),
        );
      case "force-switchover":
        return this.#command(() => this.#world.sourceQemu.forceSwitchover());
      case "verify":
        return this.#connection?.send(0, { type: "verify" });
      case "hand-over":
        return this.#handOver();
      case "tell-handed-over":
        return this.#connection?.send(0, { type: "handed-over" });
      case "resolve-handed-over":
        return this.#world.source.resolve("handed-over", (answer) => {
          if (!this.alive) return "stop";
          if (answer === "running") this.dispatch({ type: "peer-running" });
          if (answer === "failed") this.#fail("PEER_FAILED", "the destination cannot run the VM");
          return this.alive ? "again" : "stop";
        });
      case "tell-abort":
        return this.#connection?.send(0, { type: "abort", error: effect.error });
      case "stop-stream":
        return this.#world.sourceQemu.closeStream();
      case "ensure-resumed":
        return this.#watchResumed();
      case "set-deadline":
        return this.#setDeadline(effect.name, effect.ms);
      case "clear-deadline":
        (this.#deadlines.get(effect.name) ?? { cancelled: false }).cancelled = true;
        return;
      case "finish":
        return this.#finish();
      default:
        return;
    }
  }

  #offer(): void {
    const { network, destination } = this.#world;
    network.connect(
      this,
      (open) => destination.accept(open),
      (connection) => {
        if (!this.alive) return connection?.close(0);
        if (connection === undefined) return this.lost("cannot connect");
        this.#connection = connection;
        connection.send(0, { type: "offer" });
      },
    );
  }

  #command(run: () => void): void {
    this.#world.command("source", 0, 5, (accepted) => {
      if (!this.alive) return;
      if (!accepted) return this.#fail("QMP_ERROR", "QEMU refused a command");
      run();
    });
  }

  #compare(equal: boolean): void {
    this.#later(0, 200, () => {
      if (equal) this.dispatch({ type: "verified" });
      else this.#fail("VERIFY_MISMATCH", "memory differs");
    });
  }

  /** The note is durable before SHUT is written: whoever starts again later finds it. */
  #handOver(): void {
    this.#later(0, 5, () => {
      if (this.#world.take("journal-fails")) return this.#fail("IO", "the journal is not writable");
      this.#world.source.note = true;
      this.#world.after(0, 5, () => {
        if (!this.alive || this.#world.sourceQemu.writeShut()) return;
        this.#fail("IO", "the return path is closed");
      });
    });
  }

  #watchResumed(): void {
    const { sourceQemu } = this.#world;
    this.#later(1, 20, () => {
      if (sourceFinalPhases.includes(this.state.phase)) return;
      if (!sourceQemu.alive) return this.dispatch({ type: "qemu-gone" });
      if (sourceQemu.vmRuns) return this.dispatch({ type: "source-resumed" });
      this.#watchResumed();
    });
  }

  #setDeadline(name: SourceDeadline, ms: number): void {
    this.#world.claim(ms > 0 && Number.isFinite(ms), `deadline ${name} of ${ms} ms`);
    (this.#deadlines.get(name) ?? { cancelled: false }).cancelled = true;
    const expire = () => this.dispatch({ type: "deadline", name });
    this.#deadlines.set(name, this.#world.clock.after(ms, expire));
  }

  #finish(): void {
    const { phase, error } = this.state;
    this.#world.outcome("source", phase, error);
    this.#exit("drain");
    this.#world.source.workerEnded(phase !== "unconfirmed");
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

type Outcome = "handed-over" | "aborted";
export type Answer = "running" | "failed" | "discarded" | "busy" | undefined;

const retryMs = 1000;
const attemptMs = 20_000;
/** The model's patience only; a real daemon goes on. */
const attemptsMax = 1500;

export class SourceDaemon {
  readonly #world: World;
  alive = true;
  worker: SourceWorker | undefined;
  /** The journal: "about to hand over", until the outcome is known for good. */
  note = false;
  #resolving = false;

  constructor(world: World) {
    this.#world = world;
  }

  start(): void {
    this.worker = new SourceWorker(this.#world);
    this.#world.clock.after(2 * this.#world.prng.fraction(), () =>
      this.worker?.dispatch({ type: "start" }),
    );
  }

  workerEnded(settled: boolean): void {
    if (this.alive && settled) this.note = false;
    else this.#settle();
  }

  kill(both: boolean, downMs: number): void {
    if (!this.alive) return;
    this.alive = false;
    this.#world.note("source daemon", "killed");
    if (both) this.worker?.kill();
    else this.#world.after(0, 5, () => this.worker?.dispatch({ type: "cancel" }));
    if (!Number.isFinite(downMs)) return;
    this.#world.clock.after(downMs, () => {
      this.alive = true;
      this.#world.note("source daemon", "starts again");
      this.#settle();
    });
  }

  /** Reaches the destination's daemon again and again, until the listener has heard enough. */
  resolve(outcome: Outcome, listener: (answer: Answer) => "again" | "stop", attempt = 0): void {
    this.#ask(outcome, (answer) => {
      if (listener(answer) === "stop" || attempt === attemptsMax) return;
      this.#world.clock.after(retryMs, () => this.resolve(outcome, listener, attempt + 1));
    });
  }

  /** The journal and QEMU together tell how a migration ended of which no worker is left to say it. */
  #settle(): void {
    if (!this.alive || this.#resolving) return;
    if (this.worker?.alive === true) {
      this.#world.clock.after(retryMs, () => this.#settle());
      return;
    }
    const outcome = this.#judge();
    if (outcome === "wait") return void this.#world.clock.after(100, () => this.#settle());
    if (outcome === "unknown") return;
    this.#resolving = true;
    this.#world.note("source daemon", `resolves: ${outcome}`);
    this.resolve(outcome, (answer) => {
      if (!this.alive) this.#resolving = false;
      if (!this.alive) return "stop";
      if (answer === undefined || answer === "busy") return "again";
      this.#world.note("source daemon", `resolved: ${answer}`);
      this.#resolving = false;
      this.note = false;
      return "stop";
    });
  }

  #judge(): Outcome | "wait" | "unknown" {
    const { sourceQemu } = this.#world;
    if (sourceQemu.state === "completed" && !sourceQemu.vmRuns) return "handed-over";
    // Before it died it may have run its VM again, so that the destination's copy is old, or not, so that it is the VM.
    if (!sourceQemu.alive) return "unknown";
    return sourceQemu.vmRuns ? "aborted" : "wait";
  }

  #ask(outcome: Outcome, answer: (answer: Answer) => void): void {
    let told = false;
    const tell = (value: Answer) => {
      if (!told) answer(value);
      told = true;
    };
    const client: Endpoint = {
      receive: (message) => tell(message["state"] as Answer),
      lost: () => tell(undefined),
    };
    const { network, destination, clock } = this.#world;
    clock.after(attemptMs, () => tell(undefined));
    network.connect(
      client,
      (open) => destination.acceptResolve(open),
      (connection) => {
        if (connection === undefined) return tell(undefined);
        connection.send(0, { type: "resolve", outcome });
      },
    );
  }
}
