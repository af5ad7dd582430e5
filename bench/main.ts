/** npm run bench -- NAME [--quick] [--json]: measures one thing and prints it. Each bench is loaded only when it runs. */
import { parseArgs } from "node:util";
import type { Bench } from "./harness.ts";

interface Entry {
  readonly summary: string;
  readonly load: () => Promise<Bench>;
}

/** Add a bench here. The path is not checked by the compiler, so that one bench's work in progress does not stop others. */
const benches: Readonly<Record<string, Entry>> = {
  stream: {
    summary: "how fast one process reads, stores and forwards a migration stream",
    load: () => load("./stream/index.ts"),
  },
  migrate: {
    summary: "whole migrations of a guest between two QEMUs",
    load: () => load("./migrate/index.ts"),
  },
  codec: {
    summary: "every way of compressing, on recorded dirty pages",
    load: () => load("./codec/index.ts"),
  },
  compress: {
    summary: "whole migrations of real programs, by codec and link",
    load: () => load("./compress/index.ts"),
  },
  javmm: {
    summary: "whole migrations of Java applications, and what they notice",
    load: () => load("./javmm/index.ts"),
  },
  agent: {
    summary:
      "how fast the guest's agent zeroes memory, freezes and thaws, on this machine's own processor",
    load: () => load("./agent/index.ts"),
  },
};

function load(path: string): Promise<Bench> {
  return import(path) as Promise<Bench>;
}

function usage(): string {
  const names = Object.keys(benches);
  const width = Math.max(...names.map((name) => name.length));
  const lines = names.map((name) => `  ${name.padEnd(width)}  ${benches[name]?.summary}`);
  return [
    "usage: npm run bench -- NAME [--quick] [--json]",
    "",
    ...lines,
    "",
    "  --quick  small and short: shows that the bench works, not what the machine can do",
    "  --json   one JSON object a line instead of a table",
  ].join("\n");
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(usage());
    return 0;
  }
  const name = positionals[0];
  const entry = name !== undefined && Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (entry === undefined || positionals.length > 1) {
    const problem = name === undefined ? "which bench?" : `no such bench: ${positionals.join(" ")}`;
    console.error(`bench: ${problem}\n${usage()}`);
    return 2;
  }
  const bench = await entry.load();
  await bench.run({ quick: values.quick, json: values.json });
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
