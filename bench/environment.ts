/** Variables GODWIT_BENCH_* narrow a bench down while one works on it. */
import { GodwitError } from "../src/base/index.ts";

export interface Narrowing {
  readonly number: (name: string, otherwise: number) => number;
  /** Comma-separated; undefined: all. */
  readonly names: (name: string) => readonly string[] | undefined;
  readonly text: (name: string) => string | undefined;
}

export function narrowing(environment: NodeJS.ProcessEnv = process.env): Narrowing {
  const text = (name: string): string | undefined => environment[`GODWIT_BENCH_${name}`];
  return {
    text,
    names: (name) => text(name)?.split(","),
    number: (name, otherwise) => {
      const found = text(name);
      const value = found === undefined ? otherwise : Number(found);
      if (Number.isFinite(value) && value > 0) return value;
      const problem = `GODWIT_BENCH_${name} is not a number above 0: ${found}`;
      throw new GodwitError("CONFIG_INVALID", problem);
    },
  };
}
