/**
 * Stands between a migration and the guest's agent and breaks what passes, by name. Knows of the protocol only how frames
 * begin (docs/protocols/agent.md), and shares no code with either end.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { crc32 } from "node:zlib";

export const request = {
  hello: 1,
  processes: 2,
  maps: 3,
  read: 4,
  frames: 5,
  write: 6,
  hold: 7,
  thaw: 8,
  extend: 9,
  scrub: 10,
  dropCaches: 11,
  applications: 12,
  announce: 13,
  awaitReady: 14,
  cancel: 15,
} as const;
export type RequestName = keyof typeof request;

/** What is done to a request, from its `after`-th occurrence on. */
export type Tampering =
  /** Nothing is answered from then on, the connection stays. */
  | "hang"
  /** Both ends are closed. */
  | "close"
  /** The answer's body is overwritten with pseudo-random bytes, checksums mended: an agent that lies. */
  | "lie"
  /** The answer's bytes are damaged on the way. */
  | "damage"
  /** The agent is not asked at all; the answer is an error with this code. */
  | { readonly error: number }
  /** The agent is not asked at all; the answer is this body. */
  | { readonly claim: Uint8Array }
  /** Once only: the agent is asked as soon as this has been done. */
  | { readonly first: () => Promise<void> };

export interface AgentFault {
  readonly at: RequestName;
  readonly after: number;
  readonly what: Tampering;
}

const magic = 0x31415747;
const headerBytes = 24;

export class AgentRelay implements Disposable {
  readonly path: string;
  /** Requests seen, in order. */
  readonly seen: RequestName[] = [];
  readonly #server: Server;
  readonly #agentPath: string;
  readonly #fault: AgentFault;
  readonly #sockets = new Set<Socket>();
  readonly #lies = new Set<number>();
  #struck = false;
  #onStruck = Promise.withResolvers<void>();

  private constructor(path: string, agentPath: string, fault: AgentFault) {
    this.path = path;
    this.#agentPath = agentPath;
    this.#fault = fault;
    this.#server = createServer((socket) => this.#relay(socket));
  }

  static async listen(path: string, agentPath: string, fault: AgentFault): Promise<AgentRelay> {
    const relay = new AgentRelay(path, agentPath, fault);
    await new Promise<void>((resolve) => {
      relay.#server.listen(path, resolve);
    });
    return relay;
  }

  get hasStruck(): boolean {
    return this.#struck;
  }

  /** Resolves when the fault has struck. */
  get struck(): Promise<void> {
    return this.#onStruck.promise;
  }

  #relay(host: Socket): void {
    const agent = connect(this.#agentPath);
    for (const socket of [host, agent]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        host.destroy();
        agent.destroy();
      });
    }
    frames(host, (frame) => this.#fromHost(frame, host, agent));
    frames(agent, (frame) => this.#fromAgent(frame, host));
  }

  #fromHost(frame: Buffer, host: Socket, agent: Socket): void {
    const type = isFrame(frame) ? frame[4] : undefined;
    const name = names.get(type ?? 0);
    if (name === undefined) return void agent.write(frame);
    this.seen.push(name);
    const { at, after, what } = this.#fault;
    const count = this.seen.filter((one) => one === at).length;
    const strikes = name === at && count > after;
    if (strikes) this.#strike();
    if (this.#struck && what === "hang") return;
    if (!strikes) return void agent.write(frame);
    const id = frame.readUInt32LE(8);
    if (what === "close") {
      host.destroy();
      agent.destroy();
    } else if (what === "lie" || what === "damage") {
      this.#lies.add(id);
      agent.write(frame);
    } else if (typeof what === "object" && "error" in what) {
      const body = Buffer.alloc(8);
      body.writeUInt16LE(what.error, 0);
      body.write("fake", 4, "latin1");
      host.write(makeFrame(0x7f, id, body));
    } else if (typeof what === "object" && "first" in what) {
      const go = (): void => void agent.write(frame);
      if (count > after + 1) go();
      else what.first().then(go, go);
    } else if (typeof what === "object") {
      host.write(makeFrame(request[at] | 0x80, id, Buffer.from(what.claim)));
    }
  }

  #fromAgent(frame: Buffer, host: Socket): void {
    if (this.#struck && this.#fault.what === "hang") return;
    if (!isFrame(frame)) return void host.write(frame);
    const id = frame.readUInt32LE(8);
    if (!this.#lies.has(id)) return void host.write(frame);
    const body = Buffer.from(frame.subarray(headerBytes));
    let state = 12345 + id;
    for (let i = 0; i < body.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      body[i] = state >>> 24;
    }
    const type = frame[4] as number;
    if (this.#fault.what === "lie") host.write(makeFrame(type, id, body, frame[5]));
    else host.write(Buffer.concat([frame.subarray(0, headerBytes), body]));
  }

  #strike(): void {
    this.#struck = true;
    this.#onStruck.resolve();
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

const names = new Map(
  Object.entries(request).map(([name, type]) => [type as number, name as RequestName]),
);

function isFrame(bytes: Buffer): boolean {
  return bytes.length >= headerBytes && bytes.readUInt32LE(0) === magic;
}

function makeFrame(type: number, id: number, body: Buffer, flags = 0): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32LE(magic, 0);
  header[4] = type;
  header[5] = flags;
  header.writeUInt32LE(id, 8);
  header.writeUInt32LE(body.length, 12);
  header.writeUInt32LE(crc32(body), 16);
  header.writeUInt32LE(crc32(header.subarray(0, 20)), 20);
  return Buffer.concat([header, body]);
}

/** Cuts what arrives into frames; what is not one is passed on as it is. */
function frames(socket: Socket, use: (frame: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= headerBytes) {
      if (pending.readUInt32LE(0) !== magic) {
        const next = pending.indexOf("GWA1", 1, "latin1");
        const end = next < 0 ? Math.max(1, pending.length - 3) : next;
        use(pending.subarray(0, end));
        pending = pending.subarray(end);
        continue;
      }
      const length = headerBytes + pending.readUInt32LE(12);
      if (pending.length < length) return;
      use(pending.subarray(0, length));
      pending = pending.subarray(length);
    }
  });
}
