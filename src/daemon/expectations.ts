/** QEMUs that somebody started with `-incoming defer` and told us of: each waits for one migration of its name. */
import type { Expectation } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import { runStateAt } from "./monitor.ts";

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
    const state = await runStateAt(input.qmpPath, this.#clock);
    if (state !== "inmigrate") {
      throw new GodwitError(
        "CONFLICT",
        `the QEMU at ${input.qmpPath} does not wait for a migration (its state is ${state}); start it with -incoming defer and without a guest of its own`,
      );
    }
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
