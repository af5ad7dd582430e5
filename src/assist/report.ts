/** What is said of the applications' part in a migration. Plain values: they travel to the daemon and into the API. */
import type { GoingOn, Prediction } from "./predict.ts";
import type { DisposableKind } from "./participant.ts";

export interface ParticipantReport {
  /** young: a Java VM's heap. area: memory that a program declared itself. */
  readonly kind: DisposableKind;
  readonly pid: number;
  readonly name: string;
  /** Present memory declared disposable, as last seen. */
  readonly disposableBytes?: number;
  /** Why it travels as ordinary memory. */
  readonly unsupported?: string;
}

/** How applications were brought to a stop. */
export interface HoldReport {
  /** From the request until the first application stood still. */
  readonly waitMs: number;
  /** Part of it: until registered programs had answered. */
  readonly readyMs: number;
  readonly gcMs: number;
  readonly freezeMs: number;
  readonly scrubMs: number;
  /** From the first application's standstill until all is scrubbed. */
  readonly standstillMs: number;
  readonly scrubbedPages: number;
  readonly promotedBytes: number;
  readonly survivorBytes: number;
  /** What was in eden all the same: it travels. */
  readonly edenBytes: number;
  readonly jvms: readonly {
    readonly name: string;
    readonly how: "natural" | "provoked" | "none";
    readonly gcMs: number;
    readonly attempts: number;
  }[];
  readonly applicationCount: number;
  readonly goesOn: GoingOn;
}

/**
 * used: applications were held and scrubbed. unused: nobody to ask, or it would not have paid. failed: it was begun, given
 * up, and the migration went on without.
 */
export type AssistState = "off" | "unused" | "active" | "used" | "failed";

/** Application downtime, in ms, by what it went to; in two parts when applications went on before the VM was stopped. */
export interface ApplicationDowntime {
  /** Of both parts. */
  readonly totalMs: number;
  /** Until all was zeroed, when they went on after that. */
  readonly firstPartMs?: number;
  readonly gcMs: number;
  readonly freezeMs: number;
  readonly scrubMs: number;
  /** From scrubbed until the VM is stopped; 0 when they went on meanwhile. */
  readonly stopMs: number;
  /** From stopped until the destination's QEMU has been given all pages. */
  readonly lastRoundMs: number;
  /** From then until it has loaded the devices' state, and what was on its way to it. */
  readonly deviceStateMs: number;
  /** From loaded until it runs. */
  readonly startMs: number;
  /** From running until the applications run. */
  readonly thawMs: number;
}

export interface AssistReport {
  readonly state: AssistState;
  /** Why, in a sentence. */
  readonly text: string;
  readonly participants: readonly ParticipantReport[];
  readonly prediction?: Prediction;
  readonly hold?: HoldReport;
  readonly applicationDowntime?: ApplicationDowntime;
  /** Given back by the guest's kernel before the first round. */
  readonly droppedCacheBytes?: number;
  /** Free memory of the guest that was zeroed before the first round. */
  readonly zeroedFreeBytes?: number;
}
