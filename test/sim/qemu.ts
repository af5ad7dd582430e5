/**
 * The two QEMUs, as measured on QEMU 10.0.13 with the capability `return-path`: a source that has sent everything keeps its
 * VM stopped until SHUT (`completed`: it never runs it again by itself) or until its stream closes (`failed`: it runs it
 * again by itself). SHUT that is in the socket is read before the close. A destination keeps its VM stopped until `cont`,
 * and ends when its stream breaks before it is complete.
 */
import type { DestinationEvent } from "../../src/migrate/destination/machine.ts";
import type { SourceEvent } from "../../src/migrate/source/machine.ts";
import type { World } from "./world.ts";

/** The worker at the other end of stream and monitor. */
export interface SourceListener {
  readonly alive: boolean;
  dispatch(event: SourceEvent): void;
  /** Carries a part of the stream to the destination QEMU; `taken` when it has arrived there. */
  carry(part: "head" | "pages" | "tail", taken: () => void): void;
}

export class SourceQemu {
  readonly #world: World;
  #listener: SourceListener | undefined;
  state: "none" | "setup" | "active" | "device" | "completed" | "failed" = "none";
  alive = true;
  vmRuns = true;
  /** It ran the VM again after it had stopped it: what the destination has loaded is old. */
  resumed = false;
  #streamOpen = false;
  #shutWritten = false;
  #forced = false;
  #dirtyBytes = 0;
  #eventMs = 0;

  constructor(world: World) {
    this.#world = world;
  }

  migrate(listener: SourceListener): void {
    this.#listener = listener;
    this.#streamOpen = true;
    this.state = "setup";
    this.#world.after(1, 20, () => {
      if (!this.#sends) return;
      this.state = "active";
      this.#carry("head", () => this.#pass(1, this.#world.guest.memoryBytes));
      this.#emit({ type: "stream-began" });
    });
  }

  forceSwitchover(): void {
    this.#forced = true;
  }

  /** False when the stream is closed: then SHUT can never arrive. */
  writeShut(): boolean {
    if (!this.alive || !this.#streamOpen) return false;
    this.#world.claim(this.state === "device", `SHUT written in QEMU's state ${this.state}`);
    this.#shutWritten = true;
    this.#world.after(0, 1, () => this.#readShut());
    return true;
  }

  closeStream(): void {
    if (!this.#streamOpen) return;
    this.#streamOpen = false;
    this.#world.after(0, 3, () => {
      if (!this.alive || this.state === "completed") return;
      if (this.#shutWritten) return this.#readShut();
      this.state = "failed";
      if (!this.vmRuns) this.resumed = true;
      this.vmRuns = true;
      this.#world.note("source QEMU", "migration failed: runs its VM");
      this.#emit({
        type: "qemu-failed",
        error: { code: "MIGRATION_FAILED", message: "QEMU gave the migration up" },
      });
    });
  }

  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.vmRuns = false;
    this.#streamOpen = false;
    this.#endStream();
    this.#world.after(0, 5, () => this.#emit({ type: "qemu-gone" }));
  }

  /** It and the word of the monitor are seen on different ways, in any order. */
  #endStream(): void {
    const error = { code: "STREAM_INVALID", message: "the stream ended" } as const;
    this.#world.after(0, 5, () => this.#listener?.dispatch({ type: "failed", error }));
  }

  get #sends(): boolean {
    return this.alive && this.#streamOpen;
  }

  #readShut(): void {
    if (!this.alive || this.state !== "device") return;
    this.state = "completed";
    this.#world.note("source QEMU", "completed: lets go of its VM");
    this.#emit({ type: "qemu-completed" });
    this.#endStream();
  }

  #carry(part: "head" | "pages" | "tail", taken: () => void): void {
    this.#listener?.carry(part, () => {
      if (this.#sends) taken();
    });
  }

  #pass(index: number, dirtyBytes: number): void {
    const { guest, clock } = this.#world;
    const startMs = clock.nowMs;
    const round = { index, dirtyBytes, startMs };
    this.#emit({ type: "round", round, bytesPerMs: guest.bytesPerMs });
    this.#world.after(50, 51 + dirtyBytes / guest.bytesPerMs, () => {
      if (!this.#sends) return;
      this.#carry("pages", () => {
        this.#dirtyBytes = guest.dirtied(clock.nowMs - startMs);
        if (this.#dirtyBytes === 0 || this.#forced) this.#stop();
        else this.#pass(index + 1, this.#dirtyBytes);
      });
    });
  }

  #stop(): void {
    this.vmRuns = false;
    this.#world.note("source QEMU", "stops its VM");
    this.#emit({ type: "vm-stopped" });
    const restMs = this.#dirtyBytes / this.#world.guest.bytesPerMs;
    this.#world.after(5 + restMs, 50 + restMs, () => {
      if (!this.#sends) return;
      this.state = "device";
      this.#carry("tail", () => {});
    });
  }

  /** Monitor events keep their order. */
  #emit(event: SourceEvent): void {
    const { clock, prng } = this.#world;
    const listener = this.#listener;
    this.#eventMs = Math.max(this.#eventMs, clock.nowMs + prng.fraction());
    clock.after(this.#eventMs - clock.nowMs, () => listener?.dispatch(event));
  }
}

export interface DestinationListener {
  dispatch(event: DestinationEvent): void;
}

export class DestinationQemu {
  readonly #world: World;
  #listener: DestinationListener | undefined;
  state: "waiting" | "loading" | "loaded" | "running" | "gone" = "waiting";
  /** A fault ended it, not godwit. */
  killed = false;

  constructor(world: World, listener: DestinationListener) {
    this.#world = world;
    this.#listener = listener;
  }

  take(part: "head" | "pages" | "tail"): void {
    if (part !== "tail" || this.state !== "waiting") return;
    this.state = "loading";
    this.#world.after(5, 100, () => {
      if (this.state !== "loading") return;
      this.state = "loaded";
      this.#emit({ type: "qemu-loaded" });
    });
  }

  /** Its worker is gone, or closed the stream. */
  closeStream(): void {
    if (this.state !== "waiting" && this.state !== "loading") return;
    this.#world.after(0, 3, () => {
      if (this.state === "waiting" || this.state === "loading") this.end();
    });
  }

  continue(answer: (runs: boolean) => void): void {
    this.#world.command("destination", 1, 20, (accepted) => {
      if (!accepted || (this.state !== "loaded" && this.state !== "running")) return answer(false);
      if (this.state !== "running") this.#world.destinationStarts();
      this.state = "running";
      answer(true);
    });
  }

  end(): void {
    if (this.state === "gone") return;
    this.state = "gone";
    this.#world.note("destination QEMU", "ended");
    const error = { code: "QEMU_EXITED", message: "the destination QEMU ended" } as const;
    this.#emit({ type: "qemu-gone", error });
  }

  #emit(event: DestinationEvent): void {
    const listener = this.#listener;
    this.#world.clock.after(this.#world.prng.fraction(), () => listener?.dispatch(event));
  }
}
