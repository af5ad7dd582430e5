/** QEMUs that somebody started with `-incoming defer` and told us of: each waits for one migration of its name. */
import type { Expectation } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import { visit } from "./monitor.ts";

export interface ExpectationInput {
  readonly name: string;
  readonly qmpPath: string;
  readonly pid?: number | undefined;
}

const countMax = 1_000;

export class Expectations {
  readonly #clock: Clock;
  readonly #byName = new Map<string, Expectation>();
  onChange: (name: string, expected: boolean) => void = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  list(): Expectation[] {
    return Array.from(this.#byName.values());
  }

  get(name: string): Expectation | undefined {
    return this.#byName.get(name);
  }

  /** Fails with CONFLICT (name or QEMU not fit) or what its monitor says. */
  async add(input: ExpectationInput): Promise<Expectation> {
    this.#checkFree(input.name);
    await visit(input.qmpPath, this.#clock, async (monitor) => {
      const { status } = await monitor.execute("query-status");
      if (status !== "inmigrate") throw notWaiting(input.qmpPath, status);
      // Without -S it would run the guest as soon as all has arrived, before the source has let go. To a QEMU that waits,
      // `stop` says not to (qmp_stop: autostart = 0).
      await monitor.execute("stop");
    });
    this.#checkFree(input.name);
    const expectation = { ...input, sinceWallMs: this.#clock.wallMs() };
    this.#byName.set(input.name, expectation);
    this.onChange(input.name, true);
    return expectation;
  }

  /** Hands it out, once. */
  take(name: string): Expectation | undefined {
    const found = this.#byName.get(name);
    if (this.#byName.delete(name)) this.onChange(name, false);
    return found;
  }

  #checkFree(name: string): void {
    if (this.#byName.has(name)) {
      throw new GodwitError("CONFLICT", `a QEMU waits under the name ${name} already`);
    }
    if (this.#byName.size >= countMax) {
      throw new GodwitError("CONFLICT", `${countMax} QEMUs wait already`);
    }
  }
}

function notWaiting(qmpPath: string, state: string): GodwitError {
  return new GodwitError(
    "CONFLICT",
    `the QEMU at ${qmpPath} does not wait for a migration (its state is ${state}); start it with -S -incoming defer`,
  );
}
