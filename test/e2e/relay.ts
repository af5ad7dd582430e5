/** The network between two workers, in the hands of a test: it can be cut, fall silent, or damage what it carries. */
import { connect, createServer, type Server, type Socket } from "node:net";

export type Direction = "to-destination" | "to-source";

export class Relay implements Disposable {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #targetPort: number;
  #corrupt: Direction | undefined;
  port = 0;
  bytes = 0;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    // Half-open, as a network is: what one side has still to say passes after the other has ended.
    this.#server = createServer({ allowHalfOpen: true }, (near) => this.#join(near));
  }

  static async create(targetPort: number): Promise<Relay> {
    const relay = new Relay(targetPort);
    await new Promise<void>((resolve) => {
      relay.#server.listen(0, "127.0.0.1", resolve);
    });
    const address = relay.#server.address();
    if (address !== null && typeof address === "object") relay.port = address.port;
    return relay;
  }

  get connectionCount(): number {
    return this.#pairs.size;
  }

  /** Ends the connections of now; new ones are carried. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy();
  }

  /** Carries nothing more of the connections of now, and keeps them open; new ones are carried. */
  stall(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
      near.removeAllListeners("data");
      far.removeAllListeners("data");
    }
  }

  /** Flips one bit of the next bytes that come by. */
  corrupt(direction: Direction): void {
    this.#corrupt = direction;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.cut();
  }

  #join(near: Socket): void {
    const far = connect({ port: this.#targetPort, host: "127.0.0.1", allowHalfOpen: true });
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    this.#carry(near, far, "to-destination");
    this.#carry(far, near, "to-source");
    for (const [socket, other] of [pair, [far, near]] as const) {
      socket.on("error", () => {});
      socket.on("end", () => other.end());
      socket.on("close", () => {
        other.destroy();
        this.#pairs.delete(pair);
      });
    }
  }

  #carry(from: Socket, to: Socket, direction: Direction): void {
    from.on("data", (bytes: Buffer) => {
      this.bytes += bytes.length;
      if (this.#corrupt === direction) {
        this.#corrupt = undefined;
        const at = bytes.length >> 1;
        bytes[at] = (bytes[at] as number) ^ 0x10;
      }
      if (to.write(bytes)) return;
      from.pause();
      to.once("drain", () => from.resume());
    });
  }
}
