import type { World } from "../world.ts";

/** Says what is wrong, or undefined. */
export interface Checker {
  readonly name: string;
  readonly afterEvent?: (world: World) => string | undefined;
  /** Nothing is left to happen. */
  readonly atEnd?: (world: World) => string | undefined;
}
