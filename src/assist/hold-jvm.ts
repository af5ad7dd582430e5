/**
 * Brings one Java VM to a stop right after a minor collection: everything in its young generation but the survivors is then
 * dead. The ways to get there, and what they cost, are told in docs/JAVMM.md.
 */
import { GodwitError } from "../base/index.ts";
import { type Clock, sleep } from "../io/index.ts";
import type { AgentClient, HoldResult } from "./agent/index.ts";
import type { HeapSnapshot } from "./hotspot/index.ts";
import type { JvmParticipant } from "./jvm.ts";
import { intersectRanges, type MemoryRange } from "./ranges.ts";

export type GcWay = "auto" | "wait" | "provoke" | "none";
/** How it came about: by itself, made to, or not at all because there was hardly anything to collect. */
export type GcHow = "natural" | "provoked" | "none";

export interface HoldJvmOptions {
  readonly clock: Clock;
  readonly gc: GcWay;
  /** On the clock: held by then, or given up. */
  readonly untilMs: number;
  /** The agent thaws by itself after this long. */
  readonly holdMs: number;
  readonly linkBytesPerMs: number;
  /** What lives is sent in rounds, in which the JVM runs, rather than while it stands still. */
  readonly sendsRunning: boolean;
  /** With `gc: auto`, a collection that would take longer is not provoked when what is in eden can be sent instead. */
  readonly pauseMsMax: number;
  /** A collection that moves more than this into the old generation is not the one to stop at. */
  readonly promotedBytesMax: number;
  readonly signal: AbortSignal;
  /** Somebody wants to know `HeldJvm.freeBefore`. */
  readonly watchFree: boolean;
  /** Called when it will stand still within a few hundred ms, and what is to be zeroed then is little. */
  readonly soon?: () => void;
}

export interface HeldJvm {
  readonly jvm: JvmParticipant;
  readonly heap: HeapSnapshot;
  readonly how: GcHow;
  /** The collection's pause, as the agent saw it; 0 without one. */
  readonly gcMs: number;
  readonly freezeMs: number;
  /** On the clock: when it was held. */
  readonly heldAtMs: number;
  readonly promotedBytes: number;
  readonly attempts: number;
  /**
   * What the heap had free before the collection (the collections, with several attempts), and how many there had been by
   * then; without one, what it has free now. An application allocates while it is looked at: off by some ms.
   */
  readonly freeBefore: FreeMemory;
}

/** Ranges of a heap in which nobody kept data when it had seen so many collections. */
export interface FreeMemory {
  readonly collections: number;
  readonly ranges: readonly MemoryRange[];
}

/** With less than this in eden, sending it takes less time than a collection: while it stands still, */
const sendRatherMs = 30;
/** or in rounds, in which it runs; a periodic collection takes up to a second to come, and more is to follow. */
export const sendRunningMs = { phantom: 60, periodic: 800 } as const;
/** What may be sent at the most while the application stands still, when no collection can be had. */
const sendMsMax = 200;
/**
 * A natural collection within this time is waited for rather than provoked. A periodic one takes half a second to come on average,
 * and begins a concurrent cycle: for a second or more applications have half of the processor, and its pauses may come just when
 * the VM moves (xalan: silent for 700 to 1,000 ms).
 */
export const naturalMsMax = { phantom: 150, periodic: 1_500 } as const;
/** An allocating application meets a full eden within milliseconds. */
const phantomMs = 500;
/** How much longer than predicted a natural collection may take. One that is asked for periodically may come by itself as well. */
const naturalSlack = { phantom: 3, periodic: 1.5 } as const;
const attemptsMax = 4;
const nextSlack = 1.5;
/** After a collection that promoted much, the next may be provoked only when this much new data is there to die. */
const betweenAttemptsMs = 100;
/**
 * How often what is free is looked at while a collection is awaited: at least, and in shares of the time that is left. In a small
 * guest each look takes its time from the application, which would be the later in filling its eden.
 */
const watchMsMin = 25;
const watchShare = 0.25;
const watchMsMax = 100;
/** The same for looks whether it has come; once it is under way the agent looks more often by itself. */
const pollUs = 2_000;
/** A standstill within this time is announced. */
const soonMs = 150;

export async function holdJvm(
  agent: AgentClient,
  jvm: JvmParticipant,
  options: HoldJvmOptions,
): Promise<HeldJvm> {
  const { clock, promotedBytesMax } = options;
  let freeBefore: FreeMemory | undefined;
  let collections: number | undefined;
  for (let attempt = 1; ; attempt++) {
    const startMs = clock.nowMs();
    const before = await jvm.snapshot();
    const { how, held, free } = await collect(agent, jvm, before, options);
    const heldAtMs = clock.nowMs();
    const heap = await jvm.snapshot();
    const freeNow = free ?? { collections: heap.collections, ranges: heap.dead };
    freeBefore = freeSince(freeBefore, freeNow, collections);
    collections = heap.collections;
    const promotedBytes = Math.max(0, heap.oldUsedBytes - before.oldUsedBytes);
    // The next one takes as long as this one did, or somewhat longer: this is better than none.
    const nextMs = betweenAttemptsMs + (clock.nowMs() - startMs) * nextSlack;
    const late = clock.nowMs() + nextMs > options.untilMs || attempt === attemptsMax;
    // Survivors of a collection travel while the application stands still; the longer they live, the sooner they are promoted.
    const livingBytes = promotedBytes + heap.survivorUsedBytes;
    const settled =
      heap.settled &&
      (how === "none" || (livingBytes <= promotedBytesMax && isCollected(before, heap, options)));
    const good = !heap.active && (settled || late);
    if (good) {
      return {
        jvm,
        heap,
        how,
        gcMs: held.gcUs / 1000,
        freezeMs: held.freezeUs / 1000,
        heldAtMs,
        promotedBytes,
        attempts: attempt,
        freeBefore,
      };
    }
    await agent.thaw(jvm.process);
    if (late) throw new GodwitError("TIMEOUT", "the Java VM was collecting whenever it was held");
    await sleep(clock, betweenAttemptsMs);
  }
}

/** Of G1's pauses some collect nothing: eden is as full as before. */
export function isCollected(
  before: HeapSnapshot,
  after: HeapSnapshot,
  { linkBytesPerMs }: Pick<HoldJvmOptions, "linkBytesPerMs">,
): boolean {
  const fewBytes = linkBytesPerMs * sendRatherMs;
  return after.edenUsedBytes < before.edenUsedBytes || after.edenUsedBytes <= fewBytes;
}

/**
 * A collection came by itself, or was under way and is over: another one would find little to collect, and let the application wait
 * as long again.
 */
function collectedMeanwhile(before: HeapSnapshot, now: HeapSnapshot): boolean {
  return !now.active && now.edenUsedBytes < before.edenUsedBytes;
}

/** What has been free all the time; nothing, if there was a collection that nobody saw. */
function freeSince(
  before: FreeMemory | undefined,
  now: FreeMemory,
  collections: number | undefined,
): FreeMemory {
  if (before === undefined) return now;
  const ranges = now.collections === collections ? intersectRanges(before.ranges, now.ranges) : [];
  return { collections: before.collections, ranges };
}

interface Hold {
  readonly how: GcHow;
  readonly held: HoldResult;
  readonly free?: FreeMemory | undefined;
}

/** Holds one right after a collection, if one can be had or is worth it. */
export async function collect(
  agent: AgentClient,
  jvm: JvmParticipant,
  heap: HeapSnapshot,
  options: HoldJvmOptions,
): Promise<Hold> {
  const { clock, gc, untilMs, linkBytesPerMs, sendsRunning, watchFree } = options;
  const kind = jvm.vm.collector === "g1" ? "periodic" : "phantom";
  const leftMs = untilMs - clock.nowMs();
  if (leftMs <= 0) throw new GodwitError("TIMEOUT", "no collection came in time");
  // Zeroed early, its eden was empty then, and a periodic collection may not come again for long.
  const runningMs =
    kind === "periodic" && watchFree ? Number.POSITIVE_INFINITY : sendRunningMs[kind];
  const cheapMs = sendsRunning ? runningMs : sendRatherMs;
  const edenMs = heap.edenUsedBytes / Math.max(1, linkBytesPerMs);
  const fullInMs = jvm.allocation.fullInMs(heap);
  const waitMsMax = naturalMsMax[kind];
  const isNear = fullInMs !== undefined && fullInMs <= waitMsMax;
  // To wait may take less time than to send it.
  const cheap = edenMs <= cheapMs && !(isNear && edenMs > sendRatherMs && fullInMs < edenMs);
  const isDear = sendsRunning && jvm.provokedMs > options.pauseMsMax;
  if (gc === "none" || (gc === "auto" && (cheap || isDear || jvm.isIdle))) {
    options.soon?.();
    return { how: "none", held: await holdNow(agent, jvm, options) };
  }
  if (gc === "wait") return await natural(agent, jvm, heap, leftMs, options);
  if (gc === "auto" && isNear) {
    const waitMs = Math.min(leftMs, fullInMs * naturalSlack[kind] + 200);
    if (fullInMs <= soonMs) options.soon?.();
    try {
      return await natural(agent, jvm, heap, waitMs, options);
    } catch (error) {
      if (!timedOut(error)) throw error;
    }
    // What was to come did not: it is sent where that costs less than to ask for it.
    if (edenMs <= cheapMs) return { how: "none", held: await holdNow(agent, jvm, options) };
  }
  try {
    const provoke = kind === "periodic" ? periodic : phantom;
    const held = await jvm.allocation.pausedFor(() => provoke(agent, jvm, heap, options));
    if (held !== undefined) return held;
    // There is no way to make this one collect.
    return await natural(agent, jvm, heap, untilMs - clock.nowMs(), options);
  } catch (error) {
    // Nobody allocates, so that what is in eden will hardly change either: it can be sent.
    const sendable = sendsRunning || jvm.isIdle || edenMs <= sendMsMax;
    if (!isTimeout(error) || !sendable) throw error;
    return { how: "none", held: await holdNow(agent, jvm, options) };
  }
}

/** Holds one whenever it does not collect. */
export function holdNow(
  agent: AgentClient,
  { process, vm }: JvmParticipant,
  {
    clock,
    untilMs,
    holdMs,
    signal,
  }: Pick<HoldJvmOptions, "clock" | "untilMs" | "holdMs" | "signal">,
): Promise<HoldResult> {
  const timeoutMs = Math.max(1, untilMs - clock.nowMs());
  return agent.hold(process, { activeAddress: vm.activeAddress, timeoutMs, holdMs }, signal);
}

async function natural(
  agent: AgentClient,
  jvm: JvmParticipant,
  heap: HeapSnapshot,
  timeoutMs: number,
  { clock, holdMs, signal, watchFree }: HoldJvmOptions,
  often?: "often",
): Promise<Hold> {
  const { activeAddress, counterAddress } = jvm.vm;
  const { collections } = heap;
  const polls = often === undefined ? { pollUs } : {};
  const wait = { activeAddress, counterAddress, counterValue: collections, holdMs, ...polls };
  const ms = Math.max(1, timeoutMs);
  const ended = new AbortController();
  const watched = watchFree
    ? watch(jvm, heap, clock, ended.signal)
    : Promise.resolve<FreeMemory | undefined>(undefined);
  try {
    const held = await agent.hold(jvm.process, { ...wait, timeoutMs: ms }, signal);
    ended.abort();
    return { how: "natural", held, free: await watched };
  } finally {
    ended.abort();
    await watched;
  }
}

/**
 * As `natural`, for a collection that was asked for: one that has begun in time may take until `untilMs`, in a guest that is very
 * busy, or a JVM that checks its heap.
 */
async function asked(
  agent: AgentClient,
  jvm: JvmParticipant,
  heap: HeapSnapshot,
  timeoutMs: number,
  options: HoldJvmOptions,
  often?: "often",
): Promise<Hold> {
  try {
    return await natural(agent, jvm, heap, timeoutMs, options, often);
  } catch (error) {
    if (!timedOut(error)) throw error;
    const { active, collections } = await jvm.snapshot();
    if (!active && collections === heap.collections) throw error;
    const leftMs = options.untilMs - options.clock.nowMs();
    try {
      return await natural(agent, jvm, heap, leftMs, { ...options, watchFree: false });
    } catch (late) {
      if (!timedOut(late)) throw late;
      throw new GodwitError("TIMEOUT", "the Java VM's collection takes longer than there is time");
    }
  }
}

/** What is free as long as no collection has come. */
async function watch(
  jvm: JvmParticipant,
  heap: HeapSnapshot,
  clock: Clock,
  signal: AbortSignal,
): Promise<FreeMemory> {
  const { collections } = heap;
  let ranges = heap.dead;
  let leftMs = jvm.allocation.fullInMs(heap) ?? 0;
  while (!signal.aborted) {
    const ms = Math.min(watchMsMax, Math.max(watchMsMin, leftMs * watchShare));
    await sleep(clock, ms, signal);
    if (signal.aborted) break;
    try {
      const now = await jvm.snapshot();
      if (now.collections !== collections || now.active) break;
      ranges = now.dead;
      leftMs = jvm.allocation.fullInMs(now) ?? 0;
    } catch {
      // Whoever waits for the collection hears of it.
      break;
    }
  }
  return { collections, ranges };
}

/** Serial, Parallel: eden is filled up with a dead array, so that the next allocation starts a collection. */
async function phantom(
  agent: AgentClient,
  jvm: JvmParticipant,
  before: HeapSnapshot,
  options: HoldJvmOptions,
): Promise<Hold | undefined> {
  const { process } = jvm;
  options.soon?.();
  const still = await holdNow(agent, jvm, options);
  let undo: { address: number; bytes: Uint8Array } | undefined;
  let heap: HeapSnapshot;
  let isEmptied = false;
  try {
    heap = await jvm.snapshot();
    isEmptied = collectedMeanwhile(before, heap);
    if (isEmptied) return { how: "natural", held: still };
    const writes = heap.active ? undefined : await jvm.vm.phantom(heap);
    const top = writes?.at(-1);
    if (writes === undefined || top === undefined) return undefined;
    const [old] = await agent.read(process, [{ address: top.address, bytes: top.bytes.length }]);
    undo = { address: top.address, bytes: old as Uint8Array };
    // The last write moves `top`: until then nothing is changed that anybody looks at.
    for (const write of writes) await agent.write(process, write.address, write.bytes);
  } finally {
    if (!isEmptied) await agent.thaw(process);
  }
  // As it was held: exact but for the array's header, at the beginning of what was free.
  const free = { collections: heap.collections, ranges: heap.dead };
  try {
    const quick = { ...options, watchFree: false };
    const { held } = await asked(agent, jvm, heap, phantomMs, quick, "often");
    return { how: "provoked", held, free };
  } catch (error) {
    if (!timedOut(error)) throw error;
    await takeBack(agent, jvm, heap, undo, options);
    throw new GodwitError(
      "TIMEOUT",
      "the Java VM does not allocate: no collection can be provoked",
    );
  }
}

/** Nobody allocated: eden gets its free part back. */
async function takeBack(
  agent: AgentClient,
  jvm: JvmParticipant,
  { collections }: HeapSnapshot,
  undo: { readonly address: number; readonly bytes: Uint8Array },
  options: HoldJvmOptions,
): Promise<void> {
  await holdNow(agent, jvm, { ...options, untilMs: options.clock.nowMs() + phantomMs });
  try {
    const now = await jvm.snapshot();
    if (now.active || now.collections !== collections || now.edenFreeBytes > 0) return;
    await agent.write(jvm.process, undo.address, undo.bytes);
  } finally {
    await agent.thaw(jvm.process);
  }
}

/** G1: its service thread is asked to collect soon, by the flag that is there for this. */
async function periodic(
  agent: AgentClient,
  jvm: JvmParticipant,
  before: HeapSnapshot,
  options: HoldJvmOptions,
): Promise<Hold | undefined> {
  const { process } = jvm;
  const flag = await jvm.vm.periodicCollection();
  if (flag === undefined) return undefined;
  const heap = await jvm.snapshot();
  if (flag.usualDelayMs <= soonMs) options.soon?.();
  const still = await holdNow(agent, jvm, options);
  let isEmptied = false;
  try {
    isEmptied = collectedMeanwhile(before, await jvm.snapshot());
    if (isEmptied) return { how: "natural", held: still };
    // Put back by the agent itself should this side fall silent.
    const { address, bytes } = flag.set;
    await agent.write(process, address, bytes, { restoreWhenAlone: true });
  } finally {
    if (!isEmptied) await agent.thaw(process);
  }
  const { address, bytes } = flag.restore;
  let held: Hold;
  try {
    const leftMs = options.untilMs - options.clock.nowMs();
    const waitMs = Math.min(leftMs, flag.usualDelayMs * 3 + 500);
    held = await asked(agent, jvm, heap, waitMs, options);
  } catch (error) {
    // One that still collects, or is gone, is left to the agent; why it was given up is what counts.
    await writeHeld(agent, jvm, address, bytes, options).catch(() => {});
    throw error;
  }
  await agent.write(process, address, bytes);
  return { ...held, how: "provoked" };
}

/** Writes into one that runs. */
async function writeHeld(
  agent: AgentClient,
  jvm: JvmParticipant,
  address: number,
  bytes: Uint8Array,
  options: HoldJvmOptions,
): Promise<void> {
  await holdNow(agent, jvm, { ...options, untilMs: options.clock.nowMs() + phantomMs });
  try {
    await agent.write(jvm.process, address, bytes);
  } finally {
    await agent.thaw(jvm.process);
  }
}

function isTimeout(error: unknown): boolean {
  return timedOut(error) || (error instanceof GodwitError && error.code === "TIMEOUT");
}

function timedOut(error: unknown): boolean {
  return error instanceof GodwitError && error.details["agentCode"] === "TIMED_OUT";
}
