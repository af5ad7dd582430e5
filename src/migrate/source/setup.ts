/**
 * Getting ready at the source: QEMU's monitor, its process and memory, its settings, and the applications' help. The session begins
 * with it; the destination gets ready at the same time.
 */
import { GodwitError, toErrorRecord } from "../../base/index.ts";
import type { Clock } from "../../io/index.ts";
import { findListener, GuestMemory } from "../../qemu/memory/index.ts";
import { QmpClient } from "../../qemu/qmp/index.ts";
import type { SendJob } from "../job.ts";
import type { Assistance } from "./assistance.ts";
import { SourceQemu } from "./qemu.ts";

interface SetupOptions {
  readonly clock: Clock;
  readonly job: SendJob;
  readonly assistance: Assistance;
  /** False once the migration is given up: nothing further is begun then. */
  readonly getsReady: () => boolean;
  /** From now on QEMU waits for our word to stop the VM. */
  readonly gated: () => void;
  /** Applications have said what they can do. */
  readonly decided: () => void;
}

export class SourceSetup {
  readonly #options: SetupOptions;
  #qemu: SourceQemu | undefined;
  #pid: number | undefined;
  #memory: GuestMemory | undefined;
  #hintsFreePages = false;
  /** Settles when all is ready. */
  prepared: Promise<void> = Promise.resolve();
  /** Settles when applications have said what they can do, or will not any more; begins before `prepared` settles. */
  assisting: Promise<void> = Promise.resolve();

  constructor(options: SetupOptions) {
    this.#options = options;
  }

  get qemu(): SourceQemu | undefined {
    return this.#qemu;
  }

  /** Of QEMU; undefined when it was not to be found. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** The guest may say which memory it does not use; false until that is known. */
  get hintsFreePages(): boolean {
    return this.#hintsFreePages;
  }

  /** Of the guest; undefined where nobody needs to read it. */
  get memory(): GuestMemory | undefined {
    return this.#memory;
  }

  /**
   * Connects to the monitor. Nobody is asked for anything before it is known that this VM can be migrated now: fails with a
   * GodwitError when it cannot.
   */
  async look(): Promise<QmpClient> {
    const { clock, job } = this.#options;
    const qmp = await QmpClient.connect(job.qmpPath, { clock });
    this.#qemu = new SourceQemu(qmp, clock);
    this.#pid = job.pid ?? (await findListener(job.qmpPath).catch(() => undefined));
    await this.#qemu.check();
    if (this.#needsMemory) this.#pidOrFail();
    return qmp;
  }

  /** Once. QEMU's settings are changed from here on: `restore` them when it comes to nothing. */
  prepare(): Promise<void> {
    this.prepared = this.#prepare(this.#qemu as SourceQemu);
    return this.prepared;
  }

  async #prepare(qemu: SourceQemu): Promise<void> {
    await qemu.configure();
    if (!this.#options.getsReady()) return;
    if (this.#needsMemory) await this.#openMemory(qemu.qmp);
    await this.#lookForHelp(qemu);
  }

  get #needsMemory(): boolean {
    const { verify, dropShare } = this.#options.job.options;
    return verify || dropShare > 0;
  }

  /** Pages can be left out only where they can be read later, and only while QEMU waits for our word to stop the VM. */
  async #lookForHelp(qemu: SourceQemu): Promise<void> {
    const { assistance, job, gated, decided } = this.#options;
    const { qmp } = qemu;
    // A guest that stands still cannot answer.
    if (qemu.wasRunning && (await assistance.look(qmp, this.#pid))) {
      try {
        const memory = this.#memory ?? (await this.#openMemory(qmp));
        if (!(await qemu.gate())) {
          throw new GodwitError("QEMU_UNSUPPORTED", "assistance needs QEMU 8.1 or newer");
        }
        gated();
        // Meanwhile the first round begins.
        const memoryBytes = memory.blocks.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
        this.assisting = assistance.begin(qmp, memoryBytes).then(decided);
        return;
      } catch (error) {
        await assistance.giveUp("failed", toErrorRecord(error).message);
      }
    }
    if (job.options.assist === "require") assistance.assertActive();
  }

  async #openMemory(qmp: QmpClient): Promise<GuestMemory> {
    this.#memory = await GuestMemory.open(qmp, this.#pidOrFail());
    return this.#memory;
  }

  #pidOrFail(): number {
    if (this.#pid !== undefined) return this.#pid;
    throw new GodwitError(
      "MEMORY_READ",
      "QEMU's process was not found by its monitor: give its pid",
    );
  }

  /** Only for the report: once QEMU migrates, nobody waits for it. */
  askForHints(): void {
    void this.#qemu?.hintsFreePages().then(
      (hints) => {
        this.#hintsFreePages = hints;
      },
      () => {},
    );
  }

  /** Puts QEMU's settings back, as far as it still answers. */
  async restore(): Promise<void> {
    // They may just be on their way there.
    await this.prepared.catch(() => {});
    await this.#qemu?.restore().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#memory?.[Symbol.asyncDispose]();
    await this.#qemu?.qmp[Symbol.asyncDispose]();
  }
}
