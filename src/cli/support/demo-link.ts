/**
 * A slow link between two daemons of one machine: a relay that carries no more than a set rate each way, whatever is asked
 * of it and when. (`--bandwidth` would not do for a comparison: it is not kept while the VM stands still.)
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What a pause of the relay itself may be made up for with. */
const burstMs = 10;

export class DemoLink implements Disposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  /** Listens at a port of its own and leads to `targetPort`. */
  static async open(targetPort: number, bytesPerSecond: number): Promise<DemoLink> {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const address = server.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    const link = new DemoLink(server, port);
    server.on("connection", (near) => link.#join(near, connect(targetPort), bytesPerSecond));
    return link;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, far: Socket, bytesPerSecond: number): void {
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => this.#sockets.delete(socket));
    }
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      void carry(from, to, bytesPerSecond).finally(() => to.destroy());
    }
  }
}

async function carry(from: Socket, to: Socket, bytesPerSecond: number): Promise<void> {
  let dueMs = 0;
  try {
    for await (const chunk of from as AsyncIterable<Uint8Array>) {
      const nowMs = performance.now();
      dueMs = Math.max(dueMs, nowMs - burstMs) + (chunk.length / bytesPerSecond) * 1000;
      if (dueMs - nowMs >= 1) await sleep(dueMs - nowMs);
      if (!to.write(chunk))
        await new Promise((resolve) => to.once("drain", resolve).once("close", resolve));
    }
  } catch {
    // One end is gone: so is the other.
  }
}
