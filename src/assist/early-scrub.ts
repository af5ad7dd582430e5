/**
 * Zeroing dead memory takes most of the standstill of a program that allocates slowly, and nearly all of it can be done
 * before: its eden, once empty, stays nearly empty for a while. So such a program is made to collect, and what is free then
 * is zeroed in slices, with a short standstill for each and time to work in between. When it is held at last, only what it
 * has used since is left to zero. One with a large eden that it fills within a second or two has the same done just before it
 * is held, in larger slices: its eden is partly used again by then, but not wholly.
 *
 * Whether memory is still as it was left is judged by the heap's own word (what was free before the last collection). Were
 * that wrong, such pages would travel like any others: it costs time, never correctness.
 */
import { sleep } from "../io/index.ts";
import type { AgentClient } from "./agent/index.ts";
import {
  collect,
  type FreeMemory,
  type HeldJvm,
  holdNow,
  type HoldJvmOptions,
  isCollected,
  naturalMsMax,
  sendRunningMs,
} from "./hold-jvm.ts";
import type { HeapSnapshot } from "./hotspot/index.ts";
import type { JvmParticipant } from "./jvm.ts";
import {
  intersectRanges,
  lastOf,
  type MemoryRange,
  mergeRanges,
  subtractRanges,
  totalBytes,
} from "./ranges.ts";

/** With less, the standstills before would cost more than they save. */
const worthBytes = 24 << 20;
/** A standstill of about 20 ms in an emulated guest, of 5 ms on KVM. */
const sliceBytesMin = 16 << 20;
const sliceBytesMax = 64 << 20;
const slicesMax = 24;
/** The application works at least this long between two standstills. */
const gapMs = 50;
const sliceMs = 25;
/** From the last slice until all stand still. */
const leadMs = 150;
/** The share of its eden that a program may fill in the time that all this takes. */
const usedShareMax = 0.4;
/**
 * So much takes long enough to zero (KVM 0.05 s and more, emulated 0.2 s and more) for a program that allocates fast to stand still several
 * times instead of once.
 */
const largeBytes = 256 << 20;
/** That program's: slices are of `sliceBytesMax`. */
const hasty = { sliceMs: 100, gapMs: 25, leadMs: 300, usedShareMax: 0.6 } as const;
/** A fuller eden is collected first. */
const fullShare = 0.2;
/** From the time when eden would be emptied until the program is held, about. */
const untilEndMs = 1_000;
/** G1 may have paused without collecting anything. */
const emptyAttemptsMax = 2;
/** A little behind the last object something may be written: a phantom's header, a filler. */
const marginBytes = 64;
const pageBytes = 4096;

export interface EarlyScrubOptions extends HoldJvmOptions {
  /** Nothing waits for the end of this: a collection may take a second to come. */
  readonly patient: boolean;
}

/** What is needed of a Java VM to tell whether it pays. */
export interface EarlyScrubInput {
  readonly allocationBytesPerMs: number | undefined;
  readonly edenBytes: number;
  readonly disposableBytes: number;
  /** A collection can be had at once, and as often as wanted. */
  readonly collectsAtOnce: boolean;
}

/** patient: while the first round ends. hasty: only just before it is held. */
export type EarlyScrubWay = "patient" | "hasty";

/** Undefined: zeroing early does not pay. */
export function earlyScrubWay(input: EarlyScrubInput): EarlyScrubWay | undefined {
  const { edenBytes, disposableBytes, collectsAtOnce } = input;
  if (input.allocationBytesPerMs === undefined || disposableBytes < worthBytes) return undefined;
  const pays = (way: EarlyScrubWay, shareMax: number): boolean => {
    const bytes = usedBytes(input, way);
    return bytes <= edenBytes * shareMax && bytes < disposableBytes;
  };
  if (pays("patient", usedShareMax)) return "patient";
  const mayHaste = collectsAtOnce && disposableBytes >= largeBytes;
  return mayHaste && pays("hasty", hasty.usedShareMax) ? "hasty" : undefined;
}

/** How long zeroing early takes, about. */
export function earlyScrubMs({ disposableBytes }: EarlyScrubInput, way: EarlyScrubWay): number {
  const count = sliceCountOf(disposableBytes, way);
  return way === "patient"
    ? count * (sliceMs + gapMs) + leadMs
    : count * (hasty.sliceMs + hasty.gapMs) + hasty.leadMs;
}

/** What the program allocates meanwhile: while it stands still, nothing, which is most of the time when slices are large. */
function usedBytes(input: EarlyScrubInput, way: EarlyScrubWay): number {
  const { allocationBytesPerMs = 0, disposableBytes } = input;
  const stillMs = way === "hasty" ? sliceCountOf(disposableBytes, way) * hasty.sliceMs : 0;
  return allocationBytesPerMs * (earlyScrubMs(input, way) - stillMs);
}

/** How much of the disposable memory is still to be zeroed at the end; all of it when zeroing early does not pay. */
export function lateScrubBytes(input: EarlyScrubInput): number {
  const way = earlyScrubWay(input);
  const { disposableBytes } = input;
  if (way === undefined) return disposableBytes;
  const beyondBytes = Math.max(0, disposableBytes - slicesMax * sliceBytesMax);
  return Math.min(usedBytes(input, way) + beyondBytes, disposableBytes);
}

function sliceBytesOf(bytes: number, way: EarlyScrubWay): number {
  if (way === "hasty") return sliceBytesMax;
  return Math.min(sliceBytesMax, Math.max(sliceBytesMin, Math.ceil(bytes / slicesMax)));
}

function sliceCountOf(bytes: number, way: EarlyScrubWay): number {
  return Math.min(slicesMax, Math.ceil(bytes / sliceBytesOf(bytes, way)));
}

export function earlyScrubInput({ allocation, heap, vm }: JvmParticipant): EarlyScrubInput {
  return {
    allocationBytesPerMs: allocation.bytesPerMs,
    edenBytes: heap.edenUsedBytes + heap.edenFreeBytes,
    disposableBytes: totalBytes(heap.disposable),
    collectsAtOnce: vm.collector !== "g1",
  };
}

/**
 * What is free and zeroed now; undefined when it does not pay. `known`: what was before. Never leaves the program held;
 * fails with AGENT_* or TIMEOUT.
 */
export async function scrubEarly(
  agent: AgentClient,
  jvm: JvmParticipant,
  options: EarlyScrubOptions,
  known?: FreeMemory,
): Promise<FreeMemory | undefined> {
  const input = earlyScrubInput(jvm);
  const way = earlyScrubWay(input);
  if (way === undefined) return undefined;
  // By the time when it is held it would have used all of it again.
  if (way === "hasty" && options.patient) return undefined;
  await emptyEden(agent, jvm, options);
  const sliceBytes = sliceBytesOf(input.disposableBytes, way);
  const betweenMs = way === "hasty" ? hasty.gapMs : gapMs;
  let clean = known;
  for (let slice = 0; slice < slicesMax && options.clock.nowMs() < options.untilMs; slice++) {
    const next = await scrubSlice(agent, jvm, clean, sliceBytes, options);
    if (next === clean) break;
    clean = next;
    await sleep(options.clock, betweenMs);
  }
  return clean;
}

async function emptyEden(
  agent: AgentClient,
  jvm: JvmParticipant,
  options: EarlyScrubOptions,
): Promise<void> {
  const { gc, patient } = options;
  const heap = await jvm.snapshot();
  const edenBytes = heap.edenUsedBytes + heap.edenFreeBytes;
  const isQuick = patient || jvm.vm.collector !== "g1";
  const canCollect = (gc === "auto" || gc === "provoke") && isQuick;
  if (gc === "auto" && jvm.provokedMs > options.pauseMsMax) return;
  if (!canCollect || jvm.isIdle || heap.edenUsedBytes < edenBytes * fullShare) return;
  const isPeriodic = jvm.vm.collector === "g1";
  if (isPeriodic && gc === "auto" && isSentRather(jvm, options.linkBytesPerMs)) return;
  const how = isPeriodic ? gc : "provoke";
  let before = heap;
  let stoodStillMs = 0;
  for (let attempt = 1; attempt <= emptyAttemptsMax; attempt++) {
    const { held } = await collect(agent, jvm, before, { ...options, gc: how, watchFree: false });
    stoodStillMs = held.gcUs / 1000;
    let after: HeapSnapshot;
    try {
      after = await jvm.snapshot();
    } finally {
      await agent.thaw(jvm.process);
    }
    if (isCollected(before, after, options)) break;
    before = after;
  }
  // What it was in the middle of is to be over before it is held again: its user would wait for all of it together.
  await sleep(options.clock, Math.max(gapMs, Math.min(stoodStillMs, options.pauseMsMax)));
}

/** A collection is neither near nor worth being asked for: what eden will hold by the end can be sent, in rounds. */
function isSentRather({ allocation, heap }: JvmParticipant, linkBytesPerMs: number): boolean {
  const fullInMs = allocation.fullInMs(heap) ?? Number.POSITIVE_INFINITY;
  const atEndBytes = heap.edenUsedBytes + (allocation.bytesPerMs ?? 0) * untilEndMs;
  return fullInMs > naturalMsMax.periodic && atEndBytes <= linkBytesPerMs * sendRunningMs.periodic;
}

/** Zeroes what is free and farthest from where the program allocates. Answers `clean` itself when nothing is left to do. */
async function scrubSlice(
  agent: AgentClient,
  jvm: JvmParticipant,
  clean: FreeMemory | undefined,
  sliceBytes: number,
  options: HoldJvmOptions,
): Promise<FreeMemory | undefined> {
  await holdNow(agent, jvm, options);
  try {
    const heap = await jvm.snapshot();
    if (heap.active || !heap.settled) return clean;
    const { collections } = heap;
    // A collection in between: what was free then may have been used before it.
    const known = clean?.collections === collections ? clean.ranges : [];
    const slice = lastOf(subtractRanges(wholePages(heap.dead), known), sliceBytes);
    if (slice.length === 0) return clean;
    await agent.scrub(jvm.process, slice);
    return { collections, ranges: mergeRanges([...known, ...slice]) };
  } finally {
    await agent.thaw(jvm.process);
  }
}

/** What of a held program's dead memory is still to be zeroed. */
export function dirtyDead(
  { heap, freeBefore }: HeldJvm,
  clean: FreeMemory | undefined,
): readonly MemoryRange[] {
  if (clean === undefined || clean.collections !== freeBefore.collections) return heap.dead;
  return subtractRanges(heap.dead, intersectRanges(clean.ranges, wholePages(freeBefore.ranges)));
}

/** Pages that lie wholly within the ranges. */
function wholePages(ranges: readonly MemoryRange[]): MemoryRange[] {
  const pages: MemoryRange[] = [];
  for (const { address, bytes } of ranges) {
    const from = Math.ceil((address + marginBytes) / pageBytes) * pageBytes;
    const to = Math.floor((address + bytes) / pageBytes) * pageBytes;
    if (to > from) pages.push({ address: from, bytes: to - from });
  }
  return pages;
}
