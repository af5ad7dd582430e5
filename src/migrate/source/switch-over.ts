/** How the VM comes to be stopped: QEMU told of what may be left by then, applications held, and what is in flight drained. */
import { type Clock, sleep } from "../../io/index.ts";
import type { MigrateOptions } from "../job.ts";
import type { Assistance } from "./assistance.ts";
import type { AssistedRounds } from "./assisted-rounds.ts";
import type { SourcePhase } from "./machine.ts";
import type { SourcePump } from "./pump.ts";
import type { SourceQemu } from "./qemu.ts";

/** Before the switch-over at most this much stays in flight, or 320 ms have passed: what may be queued at the most. */
const drainedBytes = 64 << 10;
/** QEMU is not told anew of less. */
const armedUnit = 256 << 10;
const drainPollMs = 4;
const drainPolls = 80;

export interface SwitchOverOptions {
  readonly clock: Clock;
  readonly options: MigrateOptions;
  readonly assistance: Assistance;
  readonly assisted: AssistedRounds;
  readonly pump: SourcePump;
  readonly qemu: () => SourceQemu | undefined;
  readonly phase: () => SourcePhase;
  /** What the link carried of memory lately. */
  readonly recordsPerMs: () => number;
}

export class SwitchOver {
  readonly #options: SwitchOverOptions;
  #vmStopped = false;

  constructor(options: SwitchOverOptions) {
    this.#options = options;
  }

  /** QEMU has stopped the VM: from now on the limit on bandwidth does not count. */
  vmStopped(): void {
    this.#vmStopped = true;
    this.#options.pump.liftBandwidth();
  }

  /** From now on QEMU stops the VM by itself once at most so much is left. */
  async arm(restBytes: number): Promise<void> {
    const { assistance, phase, qemu } = this.#options;
    // With applications' help QEMU's count says nothing about what will be left.
    const counts = !assistance.isActive && !assistance.isLooking;
    const bytes = counts ? Math.floor(restBytes / armedUnit) * armedUnit : 0;
    if (phase() === "rounds") await qemu()?.arm(bytes);
  }

  /** Now. What is under way would have to drain while the VM is stopped: it drains first. */
  async force(): Promise<void> {
    const { assistance, assisted, clock, options, phase, pump, qemu, recordsPerMs } = this.#options;
    pump.unhold("round");
    if (assistance.isHeld) {
      return await assisted.end(recordsPerMs(), options.downtimeLimitMs, () => this.#vmStopped);
    }
    pump.liftBandwidth();
    pump.hold("owner");
    for (let i = 0; i < drainPolls && pump.sender.inFlightBytes > drainedBytes; i++) {
      await sleep(clock, drainPollMs);
    }
    pump.unhold("owner");
    // Given up meanwhile, QEMU's own settings are being put back.
    if (phase() !== "switchover") return;
    // Not said yet when the time to prepare passed without an answer.
    pump.allowSwitchover();
    await qemu()?.forceSwitchover();
  }
}
