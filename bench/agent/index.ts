/**
 * The guest's agent, run on this machine without a VM: how fast it zeroes memory beside what `memset` does to the same memory in its
 * own process, and what a standstill costs besides: from the request to freeze until the answer that all runs again. The processor
 * is this machine's own, not an emulated one.
 */
import { Agent, pageBytes, Prey, skipAgent } from "../../test/e2e/agent-harness.ts";
import type { AgentClient } from "../../src/assist/agent/index.ts";
import { type BenchOptions, median, progress, report, type Row } from "../harness.ts";

/** Of the process: about what a JVM has. */
const threadCount = 60;
/** Threads of the agent; they share the memory. */
const scrubThreadCounts = [1, 2];
const limits = { timeoutMs: 5_000, holdMs: 30_000 };

export async function run(options: BenchOptions): Promise<void> {
  if (skipAgent !== false) throw new Error(skipAgent);
  const megabytes = options.quick ? 64 : 512;
  const turns = options.quick ? 3 : 15;
  await using agent = await Agent.start();
  const client = await agent.connect();
  await using prey = await Prey.start((megabytes << 20) / pageBytes);
  await prey.tell(`threads ${threadCount}`);
  const bytes = megabytes << 20;
  const fill = (): Promise<string> => prey.tell(`fill 0 ${bytes} 165`);
  // The first one makes the pages.
  await fill();
  const memset: number[] = [];
  const scrubs = new Map<number, number[]>(scrubThreadCounts.map((count) => [count, []]));
  const standstills: number[] = [];
  for (let turn = 0; turn < turns; turn++) {
    progress(`turn ${turn + 1} of ${turns}`);
    for (const [count, rates] of scrubs) {
      memset.push(bytes / (await timeOf(fill)) / 1e6);
      rates.push(bytes / (await scrubMs(client, prey, bytes, count)) / 1e6);
    }
    standstills.push(await timeOf(() => freezeAndThaw(client, prey)));
  }
  report(rowsOf(memset, scrubs, standstills), options);
}

function rowsOf(
  memset: readonly number[],
  scrubs: ReadonlyMap<number, readonly number[]>,
  standstills: readonly number[],
): Row[] {
  const base = median(memset);
  const row = (what: string, unit: string, values: readonly number[]): Row => ({
    bench: "agent",
    what,
    unit,
    median: Number(median(values).toFixed(2)),
    least: Number(Math.min(...values).toFixed(2)),
    most: Number(Math.max(...values).toFixed(2)),
    ofMemset: unit === "GB/s" ? Number((median(values) / base).toFixed(2)) : "-",
    runs: values.length,
  });
  return [
    row("memset in the process", "GB/s", memset),
    ...[...scrubs].map(([count, rates]) => row(`scrub, threads: ${count}`, "GB/s", rates)),
    row(`freeze and thaw ${threadCount} threads`, "ms", standstills),
  ];
}

async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

/** Of the scrub alone; fails when not all of it was zeroed. */
async function scrubMs(
  client: AgentClient,
  prey: Prey,
  bytes: number,
  threads: number,
): Promise<number> {
  await client.hold(prey, limits);
  const ranges = [{ address: prey.region, bytes }];
  let zeroedPages = 0;
  const ms = await timeOf(async () => {
    ({ zeroedPages } = await client.scrub(prey, ranges, threads));
  });
  await client.thaw(prey);
  if (
    zeroedPages * pageBytes === bytes &&
    prey.memory(prey.region, pageBytes).every((byte) => byte === 0)
  )
    return ms;
  throw new Error(`${zeroedPages} of ${bytes / pageBytes} pages were zeroed`);
}

async function freezeAndThaw(client: AgentClient, prey: Prey): Promise<void> {
  await client.hold(prey, limits);
  await client.thaw(prey);
}
