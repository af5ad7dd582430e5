/** Carries out one fault after the other, with one guest that is kept as long as something runs it. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { unreachable } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";
import type { Deadlines, MigrateOptions } from "../../src/migrate/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { QmpClient } from "../../src/qemu/qmp/index.ts";
import type { Expected, Fault, Stop } from "./fault-cases.ts";
import { Harness, type MigrationRun, runState, stopped, type Worker } from "./harness.ts";
import { busyWords, gone, leftovers } from "./support.ts";

const deadlines: Partial<Deadlines> = { peerSilenceMs: 4_000 };

interface Cast {
  readonly run: MigrationRun;
  readonly stop: Stop;
  readonly fault: Fault;
  readonly source: LaunchedVm;
  readonly destinationWorker: Worker;
  readonly there: LaunchedVm | undefined;
}

export class FaultWorld implements AsyncDisposable {
  #harness: Harness | undefined;
  #vm: LaunchedVm | undefined;

  async run(stop: Stop, fault: Fault, expected: Expected): Promise<void> {
    const harness = (this.#harness ??= await Harness.create());
    const source = await this.#guest(harness);
    this.#vm = undefined;
    await tidy(harness);
    const options: Partial<MigrateOptions> = { verify: true, downtimeLimitMs: 1_000 };
    const givingUp = stop.stage === "giving up";
    const run = await harness.migrate(
      source,
      givingUp ? { ...options, bandwidthBytesPerSecond: 20e6 } : options,
      undefined,
      { [stop.side]: stop.point },
      { relay: true, deadlines },
    );
    if (givingUp) {
      await run.source.reached("rounds");
      run.source.cancel();
    }
    const destinationWorker = await run.destination;
    const stopping = stop.side === "source" ? run.source : destinationWorker;
    await stopped(stopping);
    const there = await Promise.race([run.prepared, sleep(systemClock, 0)]);
    const cast = { run, stop, fault, source, destinationWorker, there: there ?? undefined };
    await this.#break(harness, cast);
    stopping.child.kill("SIGCONT");
    await this.#check(harness, cast, expected);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#harness?.[Symbol.asyncDispose]();
  }

  async #guest(harness: Harness): Promise<LaunchedVm> {
    if (this.#vm !== undefined && (await runState(this.#vm)) === "running") return this.#vm;
    if (this.#vm !== undefined) await harness.end(this.#vm);
    return await harness.guest({ name: "g", memory: "128M", machine: "pc", words: busyWords });
  }

  async #break(harness: Harness, { run, fault, source, destinationWorker, there }: Cast) {
    switch (fault) {
      case "the source's worker is killed":
        return void run.source.child.kill("SIGKILL");
      case "the destination's worker is killed":
        return void destinationWorker.child.kill("SIGKILL");
      case "the source's QEMU is killed":
        return await harness.end(source);
      case "the destination's QEMU is killed":
        return await harness.end(there as LaunchedVm);
      case "the network is cut":
        return run.relay?.cut();
      case "the network falls silent":
        return run.relay?.stall();
      case "a bit flips on the way to the destination":
        return run.relay?.corrupt("to-destination");
      case "a bit flips on the way to the source":
        return run.relay?.corrupt("to-source");
      case "the user cancels at the source":
        return run.source.cancel();
      case "the user cancels at the destination":
        return destinationWorker.cancel();
      case "the source's daemon dies":
        return run.source.child.disconnect();
      case "the destination's daemon dies":
        return destinationWorker.child.disconnect();
      default:
        return unreachable(fault);
    }
  }

  async #check(harness: Harness, cast: Cast, expected: Expected): Promise<void> {
    const { run, destinationWorker, source } = cast;
    await checkOutcome("source", run.source, expected.source);
    await checkOutcome("destination", destinationWorker, expected.destination);
    await run.source.ended;
    await destinationWorker.ended;
    const there = (await Promise.race([run.prepared, sleep(systemClock, 0)])) ?? undefined;
    const where = await this.#settled(source, there, expected);
    const runner = where === "source" ? source : where === "destination" ? there : undefined;
    if (runner !== undefined) await harness.ticks(runner, 2);
    assert.equal(await place(source, there), where, "it stays so");
    if (there !== undefined && where !== "destination") await checkDiscarded(harness, cast, there);
    await checkFiles(harness, cast);
    this.#vm = await takeOver(harness, source, there, where);
  }

  /** Waits until the VM runs where it should: QEMU resumes it some milliseconds after its stream was closed. */
  async #settled(
    source: LaunchedVm,
    there: LaunchedVm | undefined,
    expected: Expected,
  ): Promise<Expected["runs"][number]> {
    const endMs = systemClock.nowMs() + 5_000;
    for (;;) {
      const where = await place(source, there);
      assert.notEqual(where, "both", "two VMs run");
      if (where !== "both" && expected.runs.includes(where)) return where;
      const states = `${await runState(source)} and ${there === undefined ? "none" : await runState(there)}`;
      assert.ok(systemClock.nowMs() < endMs, `the VM runs ${where}: ${states}`);
      await sleep(systemClock, 50);
    }
  }
}

async function place(
  source: LaunchedVm,
  there: LaunchedVm | undefined,
): Promise<"source" | "destination" | "nowhere" | "both"> {
  const here = (await runState(source)) === "running";
  const away = there !== undefined && (await runState(there)) === "running";
  if (here && away) return "both";
  return here ? "source" : away ? "destination" : "nowhere";
}

async function checkOutcome(
  side: string,
  worker: Worker,
  expected: Expected["source"],
): Promise<void> {
  if (expected === undefined) return;
  const outcome = await worker.outcome;
  const found = `${side}: ${outcome.result} ${outcome.error?.code}: ${outcome.text}`;
  const matches = expected.some(
    ([result, code]) => outcome.result === result && outcome.error?.code === code,
  );
  assert.ok(matches, `${found}; not one of ${JSON.stringify(expected)}`);
  assert.ok(outcome.text.length > 10, found);
  if (outcome.result === "unconfirmed" || outcome.result === "uncertain") {
    assert.match(outcome.text, /godwit continue g/, "says what a person can do");
  }
}

/** A destination that said "failed" has ended its QEMU; one that was killed leaves that to its daemon. */
async function checkDiscarded(harness: Harness, cast: Cast, there: LaunchedVm): Promise<void> {
  const outcome = await cast.destinationWorker.outcome.catch(() => undefined);
  if (outcome?.result === "failed") await gone(there);
  if (outcome?.result === "uncertain") assert.equal(await runState(there), "paused");
  await harness.end(there);
}

async function checkFiles(harness: Harness, { run, fault, stop }: Cast): Promise<void> {
  const found = await leftovers(harness);
  const note = `${run.migrationId}.json`;
  const sockets = [`${run.migrationId}.sock`, `in-${run.migrationId}.sock`];
  const { result } = (await run.source.outcome.catch(() => undefined)) ?? {};
  const killedLate = fault === "the source's worker is killed" && stop.stage === "given";
  assert.equal(found.includes(note), result === "unconfirmed" || killedLate, "the source's note");
  // Who is killed cannot tidy up: the daemon does.
  const mayStay = fault.endsWith("worker is killed") ? sockets : [];
  const others = found.filter((name) => name !== note && !mayStay.includes(name));
  assert.deepEqual(others, [], "files left behind");
}

/** As the daemon would. */
async function tidy(harness: Harness): Promise<void> {
  for (const directory of [await harness.sourceDirectory(), await harness.destinationDirectory()]) {
    await rm(directory, { recursive: true });
  }
}

/** The QEMU to go on with; the other one is ended. A VM that runs nowhere goes on where its memory still is. */
async function takeOver(
  harness: Harness,
  source: LaunchedVm,
  there: LaunchedVm | undefined,
  where: Expected["runs"][number],
): Promise<LaunchedVm | undefined> {
  if (where === "destination") {
    await harness.end(source);
    return there;
  }
  if (there !== undefined) await harness.end(there);
  if (where === "source") return source;
  if ((await runState(source)) !== "postmigrate") return undefined;
  await using qmp = await QmpClient.connect(source.qmpPath);
  await qmp.execute("cont");
  return source;
}
