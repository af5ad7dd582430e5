/** Where QEMU delivers its stream: one connection, then nobody listens any more. */
import { createServer, type Server, type Socket } from "node:net";
import { rm } from "node:fs/promises";
import { join } from "node:path";

export class StreamSocket {
  readonly path: string;
  #server: Server | undefined;

  constructor(runtimeDirectory: string, migrationId: string) {
    this.path = join(runtimeDirectory, `${migrationId}.sock`);
  }

  /** On return QEMU may connect. What goes wrong, before as after that, is told to `failed`. */
  async listen(connected: (socket: Socket) => void, failed: (error: Error) => void): Promise<void> {
    await rm(this.path, { force: true });
    const server = createServer({ pauseOnConnect: true });
    this.#server = server;
    server.on("connection", (socket) => {
      server.close();
      connected(socket);
    });
    server.on("error", failed);
    await new Promise<void>((resolve) => {
      server.listen(this.path, resolve);
    });
  }

  close(): void {
    this.#server?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await rm(this.path, { force: true });
  }
}
