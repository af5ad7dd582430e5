/** The port where migrations arrive. Connections are not read here: a worker gets them untouched. */
import { createServer, type Server, type Socket } from "node:net";
import { formatHostPort, type HostPort } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";

const backlog = 16;

export class Listener {
  readonly #server: Server;
  readonly #accept: (socket: Socket) => void;

  constructor(accept: (socket: Socket) => void) {
    this.#accept = accept;
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
  }

  /** Answers the address really used. Fails with IO. */
  async listen({ host, port }: HostPort): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => {
        reject(new GodwitError("IO", explainListen({ host, port }, cause), { cause }));
      };
      this.#server.once("error", failed);
      this.#server.listen({ host, port, backlog }, () => {
        this.#server.off("error", failed);
        resolve();
      });
    });
    // Running out of descriptors, for one: the next connection may do.
    this.#server.on("error", () => {});
    const address = this.#server.address();
    const bound = typeof address === "object" && address !== null ? address.port : port;
    return formatHostPort({ host, port: bound });
  }

  /** At once. Node would report the end only when the workers have closed every connection they were given. */
  close(): void {
    if (this.#server.listening) this.#server.close();
  }
}

export function explainListen(address: HostPort, cause: Error): string {
  const where = formatHostPort(address);
  const code = "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE") {
    return `${where} is in use already; does another godwit daemon run? choose another port`;
  }
  if (code === "EADDRNOTAVAIL") return `${where} is no address of this machine`;
  return `cannot listen on ${where}: ${cause.message}`;
}
