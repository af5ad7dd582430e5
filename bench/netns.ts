/**
 * Two network namespaces joined by one link of a set speed, so that programs in them have a network of their own: real TCP,
 * real queues, nothing shared with the machine's other traffic, and counters that count nothing else.
 *
 *   namespace a (10.213.N.1) ── tbf ── veth ══ veth ── tbf ── namespace b (10.213.N.2)
 *
 * Each direction is shaped by a token bucket at its sender. Needs root. The names hold our pid; namespaces whose process is
 * gone are removed by whoever comes next.
 */
import { execFileSync } from "node:child_process";
import { GodwitError } from "../src/base/index.ts";
import { systemProcesses } from "../src/io/index.ts";
import { atExit } from "./at-exit.ts";

export type Side = "a" | "b";

const sides: readonly Side[] = ["a", "b"];
const prefix = "godwit-bench-";
const device = "veth0";
/** At least two of the largest packets that TCP hands down (64 KiB). */
const burstBytes = 128 << 10;
/** Longest wait in the bucket's queue; what comes on top is dropped, as a switch would. */
const queueMs = 10;

interface QdiscCounters {
  readonly kind: string;
  readonly bytes: number;
}

export class NetworkPair implements Disposable {
  readonly megabits: number;
  readonly #forget: () => void;

  private constructor(megabits: number) {
    this.megabits = megabits;
    this.#forget = atExit(() => remove());
  }

  /** Fails with advice when this user, or this machine, cannot make namespaces. */
  static create(megabits: number): NetworkPair {
    if (process.getuid?.() !== 0) {
      throw new GodwitError(
        "CONFIG_INVALID",
        "the bench needs a link of its own, made of network namespaces: run it as root",
      );
    }
    removeAbandoned();
    const pair = new NetworkPair(megabits);
    try {
      pair.#make();
      return pair;
    } catch (cause) {
      pair[Symbol.dispose]();
      throw new GodwitError(
        "IO",
        `no network namespaces here (${cause instanceof Error ? cause.message.trim() : String(cause)}): install ` +
          "iproute2 (ip, tc) and util-linux (nsenter); in a container, allow CAP_SYS_ADMIN and CAP_NET_ADMIN",
        { cause },
      );
    }
  }

  address(side: Side): string {
    return `10.213.${process.pid % 250}.${side === "a" ? 1 : 2}`;
  }

  /** The command line that runs `command` inside; it becomes that very process, so its pid is the child's. */
  inside(side: Side, command: string, args: readonly string[]): [string, string[]] {
    return ["nsenter", [`--net=/run/netns/${name(side)}`, "--", command, ...args]];
  }

  /**
   * Bytes that have crossed the link so far, both ways, as the buckets count them: each packet of at most MTU size with its
   * Ethernet, IP and TCP headers. The device's own counter would count the headers of up to 44 packets once.
   */
  async wireBytes(): Promise<number> {
    let sum = 0;
    for (const side of sides) {
      const args = ["-n", name(side), "-s", "-j", "qdisc", "show", "dev", device];
      const { code, stdout, stderr } = await systemProcesses.run("tc", args);
      if (code !== 0) throw new GodwitError("IO", `tc: ${stderr.trim()}`);
      const bucket = (JSON.parse(stdout) as QdiscCounters[]).find(({ kind }) => kind === "tbf");
      if (bucket === undefined) throw new GodwitError("IO", "the link has no bucket");
      sum += bucket.bytes;
    }
    return sum;
  }

  [Symbol.dispose](): void {
    this.#forget();
    remove();
  }

  #make(): void {
    for (const side of sides) run("ip", "netns", "add", name(side));
    const [a, b] = [name("a"), name("b")];
    run("ip", "link", "add", device, "netns", a, "type", "veth", "peer", device, "netns", b);
    for (const side of sides) {
      const ip = ["-n", name(side)];
      run("ip", ...ip, "address", "add", `${this.address(side)}/30`, "dev", device);
      run("ip", ...ip, "link", "set", "lo", "up");
      run("ip", ...ip, "link", "set", device, "up");
      const bucket = ["tbf", "rate", `${this.megabits}mbit`, "burst", `${burstBytes}b`];
      const queue = ["latency", `${queueMs}ms`];
      run("tc", ...ip, "qdisc", "add", "dev", device, "root", ...bucket, ...queue);
    }
  }
}

function name(side: Side): string {
  return `${prefix}${process.pid}-${side}`;
}

function run(command: string, ...args: readonly string[]): void {
  execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** Both ends of the link go with the first namespace. Processes inside keep theirs until they end. */
function remove(): void {
  for (const side of sides) {
    try {
      run("ip", "netns", "delete", name(side));
    } catch {
      // Never made, or gone already.
    }
  }
}

function removeAbandoned(): void {
  const list = execFileSync("ip", ["netns", "list"], { encoding: "utf8" });
  for (const [found, pid] of list.matchAll(new RegExp(`^${prefix}(\\d+)-[ab]`, "gm"))) {
    if (systemProcesses.identify(Number(pid)) === undefined) run("ip", "netns", "delete", found);
  }
}
