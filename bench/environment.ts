/** Variables GODWIT_BENCH_* narrow a bench down while one works on it. */
import { GodwitError } from "../src/base/index.ts";

export interface Narrowing {
  readonly number: (name: string, otherwise: number) => number;
  /** Comma-separated; undefined: all. One that is not among the `known`, where they are given, is an error. */
  readonly names: (name: string, known?: readonly string[]) => readonly string[] | undefined;
  readonly text: (name: string) => string | undefined;
}

export function narrowing(environment: NodeJS.ProcessEnv = process.env): Narrowing {
  const text = (name: string): string | undefined => environment[`GODWIT_BENCH_${name}`];
  return {
    text,
    names: (name, known) => {
      const found = text(name)?.split(",");
      const unknown = found?.filter((one) => !(known?.includes(one) ?? true)) ?? [];
      if (known === undefined || unknown.length === 0) return found;
      const problem = `GODWIT_BENCH_${name}: ${unknown.join(", ")} is not known; known are ${known.join(", ")}`;
      throw new GodwitError("CONFIG_INVALID", problem);
    },
    number: (name, otherwise) => {
      const found = text(name);
      const value = found === undefined ? otherwise : Number(found);
      if (Number.isFinite(value) && value > 0) return value;
      const problem = `GODWIT_BENCH_${name} is not a number above 0: ${found}`;
      throw new GodwitError("CONFIG_INVALID", problem);
    },
  };
}
