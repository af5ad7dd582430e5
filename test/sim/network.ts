/**
 * Connections between the two hosts: a delay, order kept, and the faults of real ones. What was written just before an end
 * may or may not arrive; an end is noticed late, or by silence only.
 */
import type { World } from "./world.ts";

export interface Endpoint {
  receive(message: Message): void;
  /** The connection is of no use any more. Said once, and not after an own `close`. */
  lost(text: string): void;
}

export interface Message {
  readonly type: string;
  readonly [field: string]: unknown;
}

interface Direction {
  readonly queue: (Message | "end")[];
  lastMs: number;
}

/** Silence for so long means that the peer is lost (frames of type `alive` make silence rare). */
const silenceMs = { minimum: 15_000, maximum: 17_000 };
const connectMs = 5000;

export class Connection {
  readonly #world: World;
  readonly #endpoints: (Endpoint | undefined)[] = [];
  readonly #directions: Direction[] = [
    { queue: [], lastMs: 0 },
    { queue: [], lastMs: 0 },
  ];
  #broken = false;

  constructor(world: World, client: Endpoint, server: Endpoint) {
    this.#world = world;
    this.#endpoints = [client, server];
  }

  send(from: 0 | 1, message: Message | "end"): void {
    if (this.#broken || this.#endpoints[from] === undefined) return;
    const direction = this.#directions[from] as Direction;
    direction.queue.push(message);
    const { clock, network } = this.#world;
    direction.lastMs = Math.max(clock.nowMs + network.latency(), direction.lastMs);
    clock.after(direction.lastMs - clock.nowMs, () => this.#deliver(from));
  }

  /** A process that ends by itself drains what it wrote; of one that is killed the end may be lost. */
  close(side: 0 | 1, how: "drain" | "kill" = "drain"): void {
    if (how === "kill" && this.#world.prng.chance(0.3)) this.#loseTail(side);
    this.send(side, "end");
    this.#endpoints[side] = undefined;
  }

  /** Both ends notice, some time, on their own. */
  cut(): void {
    if (this.#broken) return;
    for (const side of [0, 1] as const) {
      this.#loseTail(side);
      const { prng, clock } = this.#world;
      const noticeMs = prng.chance(0.5)
        ? 100 * prng.fraction()
        : prng.integer(silenceMs.minimum, silenceMs.maximum);
      clock.after(noticeMs, () => this.#lose(side, "the connection was reset"));
    }
    this.#broken = true;
  }

  silence(): void {
    for (const side of [0, 1] as const) this.#lose(side, "the peer is silent");
  }

  #loseTail(from: 0 | 1): void {
    const { queue } = this.#directions[from] as Direction;
    queue.length = this.#world.prng.integer(0, queue.length);
  }

  #deliver(from: 0 | 1): void {
    const { network, clock } = this.#world;
    if (network.stalledUntilMs > clock.nowMs) {
      if (Number.isFinite(network.stalledUntilMs)) {
        clock.after(network.stalledUntilMs - clock.nowMs, () => this.#deliver(from));
      }
      return;
    }
    const message = (this.#directions[from] as Direction).queue.shift();
    const to = from === 0 ? 1 : 0;
    if (message === undefined) return;
    if (message === "end") return this.#lose(to, "the peer closed the connection");
    // A damaged frame leaves no way to find the next one: the connection is given up.
    if (network.corruptNext) {
      network.corruptNext = false;
      this.send(to, "end");
      return this.#lose(to, "a frame arrived damaged");
    }
    this.#endpoints[to]?.receive(message);
  }

  #lose(side: 0 | 1, text: string): void {
    const endpoint = this.#endpoints[side];
    this.#endpoints[side] = undefined;
    endpoint?.lost(text);
  }
}

export class Network {
  readonly #world: World;
  readonly #connections: Connection[] = [];
  readonly #latencyMs: number;
  #downUntilMs = 0;
  stalledUntilMs = 0;
  corruptNext = false;

  constructor(world: World) {
    this.#world = world;
    this.#latencyMs = 10 ** (-1.3 + 3 * world.prng.fraction());
  }

  latency(): number {
    return this.#latencyMs * (1 + this.#world.prng.fraction());
  }

  /** `listen` answers the server's end, or undefined when nobody listens there. */
  connect(
    client: Endpoint,
    listen: (open: () => Connection) => Endpoint | undefined,
    answer: (connection: Connection | undefined) => void,
  ): void {
    const { clock } = this.#world;
    const away = Math.max(this.#downUntilMs, this.stalledUntilMs) > clock.nowMs;
    if (away) return void clock.after(connectMs, () => answer(undefined));
    clock.after(2 * this.latency(), () => {
      let connection: Connection | undefined;
      const server = listen(() => connection as Connection);
      if (server === undefined) return answer(undefined);
      connection = new Connection(this.#world, client, server);
      this.#connections.push(connection);
      answer(connection);
    });
  }

  cut(durationMs: number): void {
    this.#downUntilMs = Math.max(this.#downUntilMs, this.#world.clock.nowMs + durationMs);
    for (const connection of this.#connections) connection.cut();
  }

  stall(durationMs: number): void {
    const { clock, prng } = this.#world;
    this.stalledUntilMs = Math.max(this.stalledUntilMs, clock.nowMs + durationMs);
    clock.after(prng.integer(silenceMs.minimum, silenceMs.maximum), () => {
      if (this.stalledUntilMs <= clock.nowMs) return;
      for (const connection of this.#connections) connection.silence();
    });
  }

  /** From now on nothing is in the way. */
  get restedMs(): number {
    return Math.max(this.#downUntilMs, this.stalledUntilMs);
  }
}
