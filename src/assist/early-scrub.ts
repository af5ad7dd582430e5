/**
 * Zeroing dead memory takes most of the standstill of a program that allocates slowly, and nearly all of it can be done
 * before: its eden, once empty, stays nearly empty for a while. So such a program is made to collect, and what is free then
 * is zeroed in slices, with a short standstill for each and time to work in between. When it is held at last, only what it
 * has used since is left to zero.
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
 * So much takes so long to zero (0.1 s and more, emulated 0.3 to 1.2 s) that a program that fills its eden within a second or two is made to
 * stand still several times as well: in larger slices, so that it has filled no more than a part of it by the end.
 */
const largeBytes = 256 << 20;
const hasty = { gapMs: 25, leadMs: 300, usedShareMax: 0.6 } as const;
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
  if (usedBytes(input, "patient") <= edenBytes * usedShareMax) return "patient";
  if (!collectsAtOnce || disposableBytes < largeBytes) return undefined;
  return usedBytes(input, "hasty") <= edenBytes * hasty.usedShareMax ? "hasty" : undefined;
}

/** How long zeroing early takes, about. */
export function earlyScrubMs({ disposableBytes }: EarlyScrubInput): number {
  const slices = Math.ceil(disposableBytes / sliceBytesOf(disposableBytes));
  return slices * (sliceMs + gapMs) + leadMs;
}

/** What the program allocates meanwhile. It allocates nothing while it stands still, most of the time when that is for large slices. */
function usedBytes(input: EarlyScrubInput, way: EarlyScrubWay): number {
  const { allocationBytesPerMs = 0, disposableBytes } = input;
  const slices = Math.ceil(disposableBytes / sliceBytesMax);
  const ms = way === "patient" ? earlyScrubMs(input) : slices * hasty.gapMs + hasty.leadMs;
  return allocationBytesPerMs * ms;
}

/** How much of the disposable memory is still to be zeroed at the end; all of it when zeroing early does not pay. */
export function lateScrubBytes(input: EarlyScrubInput): number {
  const way = earlyScrubWay(input);
  const { disposableBytes } = input;
  return way === undefined ? disposableBytes : Math.min(usedBytes(input, way), disposableBytes);
}

function sliceBytesOf(bytes: number): number {
  return Math.min(sliceBytesMax, Math.max(sliceBytesMin, Math.ceil(bytes / slicesMax)));
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
  if (way === undefined || lateScrubBytes(input) >= input.disposableBytes) return undefined;
  // By the time when it is held it would have used all of it again.
  if (way === "hasty" && options.patient) return undefined;
  await emptyEden(agent, jvm, options);
  const sliceBytes = way === "hasty" ? sliceBytesMax : sliceBytesOf(input.disposableBytes);
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
  for (let attempt = 1; attempt <= emptyAttemptsMax; attempt++) {
    await collect(agent, jvm, before, { ...options, gc: how, watchFree: false });
    let after: HeapSnapshot;
    try {
      after = await jvm.snapshot();
    } finally {
      await agent.thaw(jvm.process);
    }
    if (isCollected(before, after, options)) break;
    before = after;
  }
  await sleep(options.clock, gapMs);
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
