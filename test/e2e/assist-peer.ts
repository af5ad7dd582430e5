/**
 * The other end of an application's connection, for tests of the client libraries: speaks the text protocol of
 * docs/protocols/assist.md, is strict about what it is told, and can be made to misbehave. It zeroes memory for real.
 */
import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Range {
  readonly begin: number;
  readonly end: number;
}

const pageBytes = 4096;
const lines =
  /^(name [ -~]{1,127}|area 0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16}|drop|drop 0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16}|ready)$/;

/** One application, as the agent sees it. */
export class PeerApplication {
  readonly received: string[] = [];
  /** Lines that an application must not say, or not now. */
  readonly violations: string[] = [];
  ranges: Range[] = [];
  /** What to answer instead of `ok`; null: nothing yet (answer later with `say`). */
  reply: (line: string) => string | null = () => "ok";
  closed = false;
  #inPrepare = false;
  #text = "";
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text) => this.#receive(String(text)));
    socket.on("error", () => {});
    socket.on("close", () => (this.closed = true));
  }

  say(line: string): void {
    if (line.startsWith("prepare ")) this.#inPrepare = true;
    if (line === "resume" || line === "abort") this.#inPrepare = false;
    this.#socket.write(`${line}\n`);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Stops reading: what a hung agent looks like. */
  hang(): void {
    this.#socket.pause();
  }

  /** Waits until this line has come `count` times. */
  async until(line: string | RegExp, count = 1): Promise<void> {
    const matches = (text: string): boolean =>
      typeof line === "string" ? text === line : line.test(text);
    await eventually(
      () => this.received.filter(matches).length >= count,
      () => `no ${count} × "${String(line)}" among ${JSON.stringify(this.received)}`,
    );
  }

  #receive(text: string): void {
    const parts = (this.#text + text).split("\n");
    this.#text = parts.pop() ?? "";
    for (const line of parts) this.#line(line);
  }

  #line(line: string): void {
    this.received.push(line);
    if (!lines.test(line) || line.length > 255) this.violations.push(`malformed: ${line}`);
    const [word, address = "0", length = "0"] = line.split(" ");
    if (this.#inPrepare && word === "area") this.violations.push(`in mid-prepare: ${line}`);
    const reply = this.reply(line);
    if (reply !== null) this.#socket.write(`${reply}\n`);
    if (reply !== "ok") return;
    const range = { begin: Number(address), end: Number(address) + Number(length) };
    if (word === "area") this.ranges.push(range);
    if (line === "drop") this.ranges = [];
    else if (word === "drop") this.ranges = this.ranges.flatMap((area) => subtract(area, range));
  }
}

export class Peer implements AsyncDisposable {
  readonly path: string;
  readonly applications: PeerApplication[] = [];
  /** What new applications are answered, as in PeerApplication. */
  reply: PeerApplication["reply"] = () => "ok";
  #server: Server | undefined;

  private constructor(path: string) {
    this.path = path;
  }

  /** A path at which nobody listens yet. */
  static async create(): Promise<Peer> {
    return new Peer(join(await mkdtemp(join(tmpdir(), "godwit-assist-")), "assist.sock"));
  }

  static async listening(): Promise<Peer> {
    const peer = await Peer.create();
    await peer.start();
    return peer;
  }

  async start(): Promise<void> {
    const server = createServer((socket) => {
      const application = new PeerApplication(socket);
      application.reply = this.reply;
      this.applications.push(application);
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  /** The connections break and nobody listens, as when the agent is killed. */
  async die(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const application of this.applications) application.destroy();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** The application of connection number `index`, once it is there. */
  async application(index = 0): Promise<PeerApplication> {
    await eventually(
      () => this.applications.length > index,
      () => `only ${this.applications.length} connections`,
    );
    return this.applications[index] as PeerApplication;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.die();
    await rm(join(this.path, ".."), { recursive: true, force: true });
  }
}

function subtract(area: Range, cut: Range): Range[] {
  return [
    { begin: area.begin, end: Math.min(area.end, cut.begin) },
    { begin: Math.max(area.begin, cut.end), end: area.end },
  ].filter(({ begin, end }) => begin < end);
}

/** Whole pages inside. */
export function pagesOf({ begin, end }: Range): Range {
  const first = Math.ceil(begin / pageBytes) * pageBytes;
  return { begin: first, end: Math.max(first, Math.floor(end / pageBytes) * pageBytes) };
}

/** Zeroes the whole pages of these ranges while the process is stopped, as the agent does. Gives the bytes zeroed. */
export async function zeroFrozen(pid: number, ranges: readonly Range[]): Promise<number> {
  process.kill(pid, "SIGSTOP");
  await eventually(
    async () => / T /.test(await readFile(`/proc/${pid}/stat`, "latin1")),
    () => `process ${pid} does not stop`,
  );
  const memory = await open(`/proc/${pid}/mem`, "r+");
  let bytes = 0;
  try {
    for (const { begin, end } of ranges.map(pagesOf)) {
      await memory.write(new Uint8Array(end - begin), 0, end - begin, begin);
      bytes += end - begin;
    }
  } finally {
    await memory.close();
    process.kill(pid, "SIGCONT");
  }
  return bytes;
}

export async function readMemory(pid: number, { begin, end }: Range): Promise<Uint8Array> {
  const memory = await open(`/proc/${pid}/mem`, "r");
  try {
    const bytes = new Uint8Array(end - begin);
    const { bytesRead } = await memory.read(bytes, 0, bytes.length, begin);
    assert.equal(bytesRead, bytes.length);
    return bytes;
  } finally {
    await memory.close();
  }
}

export async function eventually(
  holds: () => boolean | Promise<boolean>,
  complaint: () => string,
  deadlineMs = 10_000,
): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await holds())) {
    assert.ok(performance.now() < endMs, complaint());
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
