/** What breaks in a guest while it migrates, when, and what must come of it: for assist-victims.test.ts. */
import type { MigrateOptions } from "../../src/migrate/index.ts";
import type { RequestName } from "./agent-relay.ts";

export interface Fault {
  readonly name: string;
  /** Strikes before the first of these requests reaches the agent, or that after so many. */
  readonly at: RequestName;
  readonly after?: number;
  /** By the guest's shell. $J is the Java VM, $P the (last) program, $A the agent. */
  readonly does?: string;
  /** The request is not kept waiting until it is done. */
  readonly beside?: true;
  /** What the source's worker is told, or suffers, at the same moment. */
  readonly host?: "cancel" | "kill";
  /** Registered programs (assist-victim.c): mode and argument. */
  readonly programs?: readonly string[];
  /** As its lines on the console name it: "java", or a program's mode. */
  readonly kills?: string;
  /** Stands still afterwards, and nobody but the shell may let it go on. */
  readonly stops?: string;
  /** By the shell, when the migration is over. */
  readonly undo?: string;
  /** The Java VM is held when it strikes. */
  readonly frozen?: true;
  readonly options?: Partial<MigrateOptions>;
  /** Of those that take part, when the VM arrives: in the report's JSON. */
  readonly reports?: readonly RegExp[];
  /** What the report says of assistance when the VM arrives; or why it stays. */
  readonly ends: "used" | "failed" | "either" | "required" | "cancelled" | "killed";
}

const killAgent = "kill -9 $A";
const trace =
  "/bin/assist-victim trace $J >/dev/null 2>&1 & " +
  "until busybox grep -q 'TracerPid:.[1-9]' /proc/$J/status; do busybox usleep 9999; done";
const heapOfJ =
  "0x$(busybox grep -m 1 'rw-p 00000000 00:00 0' /proc/$J/maps | busybox cut -d - -f 1)";

const whileHeld = { at: "scrub", frozen: true } as const;
/** All is zeroed, and held until the VM is stopped. */
const whenZeroed = { at: "extend", after: 1, frozen: true } as const;
/** The JVM is held, and the program not yet. */
const beforeProgram = { at: "extend", frozen: true } as const;
export const busy: readonly Fault[] = [
  {
    name: "somebody has stopped the JVM when it is to be held",
    at: "hold",
    does: "kill -STOP $J",
    stops: "java",
    undo: "kill -CONT $J",
    ends: "failed",
  },
  {
    name: "somebody traces the JVM",
    at: "hold",
    does: trace,
    undo: "kill $(busybox pidof assist-victim)",
    ends: "failed",
  },
  {
    name: "somebody lets the JVM go on while it is held",
    ...whileHeld,
    does: "kill -CONT $J",
    ends: "failed",
  },
  {
    name: "the agent is killed in the rounds",
    at: "frames",
    after: 2,
    does: killAgent,
    ends: "failed",
  },
  {
    name: "the agent is killed when the JVM is to be held",
    at: "hold",
    does: killAgent,
    ends: "failed",
  },
  {
    name: "the agent is killed while the JVM is held",
    ...whileHeld,
    does: killAgent,
    ends: "failed",
  },
  {
    name: "the agent is stopped while the JVM is held",
    ...whileHeld,
    does: "kill -STOP $A",
    ends: "failed",
  },
  {
    name: "the agent is killed while it zeroes, a program being ready",
    ...whileHeld,
    programs: ["sound"],
    does: killAgent,
    beside: true,
    options: { assistTimeoutMs: 3_000 },
    ends: "either",
  },
  {
    name: "a program never answers prepare, and another one is stopped before it hears of it",
    at: "announce",
    // The first is `begin`.
    after: 1,
    programs: ["mute", "sound"],
    does: "kill -STOP $P",
    stops: "sound",
    undo: "kill -CONT $P",
    ends: "used",
  },
  {
    name: "a program is killed in prepare",
    at: "awaitReady",
    programs: ["mute"],
    does: "kill -9 $P",
    kills: "mute",
    ends: "used",
  },
  {
    name: "a program is stopped once it is ready",
    ...beforeProgram,
    programs: ["sound"],
    does: "kill -STOP $P",
    stops: "sound",
    undo: "kill -CONT $P",
    ends: "used",
  },
  {
    name: "a program is killed while it is held",
    at: "scrub",
    after: 1,
    frozen: true,
    programs: ["sound"],
    does: "kill -9 $P",
    kills: "sound",
    ends: "used",
  },
  {
    name: "programs lie: what is not theirs, more than there is, ready unasked, noise, an area that is none any more",
    at: "extend",
    frozen: true,
    programs: [`stranger ${heapOfJ}`, "huge", "eager", "babbler", "changer"],
    ends: "used",
  },
  {
    name: "more of them than can take part, which also look like Java VMs",
    at: "extend",
    frozen: true,
    programs: Array.from({ length: 17 }, () => "impostor"),
    ends: "used",
    reports: [/"2 more Java VMs".*"16 are looked at"/, /"16 programs are held already"/],
  },
  {
    name: "cancelled while a program prepares",
    at: "awaitReady",
    programs: ["mute"],
    host: "cancel",
    ends: "cancelled",
  },
  { name: "cancelled while the JVM is held", ...whileHeld, host: "cancel", ends: "cancelled" },
  {
    name: "cancelled while JVM and program are held and zeroed",
    ...whenZeroed,
    programs: ["sound"],
    host: "cancel",
    ends: "cancelled",
  },
  {
    name: "the JVM is killed when its collection is to be awaited",
    at: "hold",
    does: "kill -9 $J",
    kills: "java",
    options: { gc: "wait" },
    ends: "failed",
  },
];

/** Nothing but a collection that comes by itself. */
const wait = { gc: "wait", assistTimeoutMs: 2_000 } as const;

export const slow: readonly Fault[] = [
  {
    name: "the next collection is far away, a program being ready",
    at: "awaitReady",
    programs: ["sound"],
    options: wait,
    ends: "failed",
  },
  {
    name: "the JVM is killed while it is zeroed",
    ...whileHeld,
    does: "kill -9 $J",
    beside: true,
    kills: "java",
    // So that help is begun, however little there is to gain.
    programs: ["sound"],
    options: { gc: "none" },
    ends: "either",
  },
];

export const idle: readonly Fault[] = [
  {
    name: "the JVM does not allocate, a program being ready",
    at: "awaitReady",
    programs: ["sound"],
    options: wait,
    ends: "failed",
  },
  {
    name: "the JVM does not allocate, and help is required",
    at: "hold",
    options: { ...wait, assist: "require" },
    ends: "required",
  },
  {
    name: "the source's worker is killed while the JVM is held",
    ...whileHeld,
    host: "kill",
    options: { gc: "none", assist: "require" },
    ends: "killed",
  },
  {
    name: "the JVM is killed while it is held, a program being ready",
    ...beforeProgram,
    programs: ["sound"],
    does: "kill -9 $J",
    kills: "java",
    options: { gc: "none" },
    ends: "failed",
  },
];

export const endings = {
  used: "helped all the same, memory equal",
  failed: "plain pre-copy, memory equal",
  either: "helped or not, memory equal",
  required: "the VM stays",
  cancelled: "the VM stays",
  killed: "the VM stays",
} as const;
