/** A QMP monitor without a QEMU: answers the few commands that the daemon uses. */
import { createServer, type Socket } from "node:net";

export class FakeQemu implements AsyncDisposable {
  status: string;
  migration = "none";
  /** It hangs: commands get no answer. */
  mute = false;
  /** Runs before each command is answered. */
  onCommand: (command: string) => void = () => {};
  readonly commands: string[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#serve(socket));

  private constructor(status: string) {
    this.status = status;
  }

  static async listen(path: string, status: string): Promise<FakeQemu> {
    const qemu = new FakeQemu(status);
    await new Promise<void>((resolve) => {
      qemu.#server.listen(path, resolve);
    });
    return qemu;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    const version = { qemu: { major: 10, minor: 0, micro: 13 }, package: "" };
    socket.write(`${JSON.stringify({ QMP: { version, capabilities: [] } })}\r\n`);
    let rest = "";
    socket.on("data", (bytes: Buffer) => {
      const lines = (rest + bytes.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number };
        this.onCommand(execute);
        if (this.mute) continue;
        socket.write(`${JSON.stringify({ return: this.#answer(execute), id })}\r\n`);
      }
    });
  }

  #answer(command: string): object {
    this.commands.push(command);
    if (command === "cont") this.status = "running";
    if (command === "query-status") {
      return { status: this.status, running: this.status === "running" };
    }
    return command === "query-migrate" ? { status: this.migration } : {};
  }
}
