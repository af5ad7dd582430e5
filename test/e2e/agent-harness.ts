/** The real agent, run on this machine without a VM, and a process for it to freeze. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  readSync,
  rmSync,
} from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildAgent } from "../../guest/agent/build.ts";
import { AgentClient, type AgentProcessIdentity } from "../../src/assist/agent/index.ts";
import { AgentDecoder } from "../../src/assist/agent/decode.ts";
import { encodeFrame } from "../../src/assist/agent/encode.ts";
import type { AgentFrame } from "../../src/assist/agent/format.ts";
import { GodwitError } from "../../src/base/index.ts";
import { sleep, systemClock } from "../../src/io/index.ts";

export const pageBytes = 4096;
/** Longer than any test takes. */
export const forEver = { timeoutMs: 2000, holdMs: 20_000 };

/** Why these tests cannot run here, or false. */
export const skipAgent: string | false =
  process.getuid?.() === 0 ? false : "the agent needs root: it stops other processes";

/** GODWIT_AGENT names another build of the agent, one with sanitizers for example. */
const agentPath = (): string | Promise<string> => process.env["GODWIT_AGENT"] ?? buildAgent();

export const wait = (ms: number): Promise<void> => sleep(systemClock, ms);

/** Polls until it holds; fails after `deadlineMs` with what was found last. */
export async function until(what: string, holds: () => boolean, deadlineMs = 3000): Promise<void> {
  const endMs = systemClock.nowMs() + deadlineMs;
  while (!holds()) {
    assert.ok(systemClock.nowMs() < endMs, `${what} did not come true within ${deadlineMs} ms`);
    await wait(2);
  }
}

/** An agent with folders of its own. */
export class Agent implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "godwit-agent-"));
  readonly portPath = join(this.folder, "port.sock");
  readonly runDirectory = join(this.folder, "run");
  readonly applicationsPath = join(this.runDirectory, "assist.sock");
  /** What it has said on standard error. */
  log = "";
  #child: ChildProcess | undefined;
  #program = "";
  readonly #clients: AgentClient[] = [];

  /** `program`: another one than that of this checkout. */
  static async start(program?: string): Promise<Agent> {
    const agent = new Agent();
    agent.#program = program ?? (await agentPath());
    await agent.restart();
    return agent;
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  /** Starts a program in place of one that has ended. */
  async restart(): Promise<void> {
    rmSync(this.portPath, { force: true });
    const args = ["--listen", this.portPath, "--run-directory", this.runDirectory];
    this.#child = spawn(this.#program, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.on("data", (text) => {
      this.log += String(text);
    });
    await until(`the agent listens (${this.log})`, () => existsSync(this.portPath));
  }

  /** Ends the program with a signal; answers its exit code. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child as ChildProcess;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
    return child.exitCode;
  }

  async connect(): Promise<AgentClient> {
    const client = await AgentClient.connect(this.portPath, { clock: systemClock });
    this.#clients.push(client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) await client.close();
    await this.end("SIGTERM");
    rmSync(this.folder, { recursive: true });
  }
}

/** The port without the client: to send what it never would. */
export class RawPort implements Disposable {
  readonly frames: AgentFrame[] = [];
  readonly #decoder = new AgentDecoder();
  readonly #socket: Socket;
  #idLast = 0;

  constructor(path: string) {
    this.#socket = createConnection({ path });
    this.#socket.on("error", () => {});
    this.#socket.on("data", (bytes) => this.frames.push(...this.#decoder.push(bytes)));
  }

  send(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Sends a request as it is and answers the frame with its id. */
  async ask(type: number, body: Uint8Array): Promise<AgentFrame> {
    const id = ++this.#idLast;
    this.send(encodeFrame(type, 0, id, body));
    const answered = (): AgentFrame | undefined => this.frames.find((frame) => frame.id === id);
    await until(`an answer to a request of type ${type}`, () => answered() !== undefined);
    return answered() as AgentFrame;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

let preyProgram: string | undefined;

/** Compiled once; goes with the process. */
function buildPrey(): string {
  if (preyProgram !== undefined) return preyProgram;
  const folder = mkdtempSync(join(tmpdir(), "godwit-prey-"));
  process.once("exit", () => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  preyProgram = join(folder, "prey");
  const source = join(import.meta.dirname, "agent-prey.c");
  execFileSync("gcc", [
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    "-o",
    preyProgram,
    source,
  ]);
  return preyProgram;
}

/** A process to be frozen; see agent-prey.c for what it can be told. */
export class Prey implements AsyncDisposable, AgentProcessIdentity {
  readonly pid: number;
  readonly startTimeTicks: number;
  region = 0;
  activeAddress = 0;
  counterAddress = 0;
  #beatAddress = 0;
  sharedAddress = 0;
  readOnlyAddress = 0;
  fileAddress = 0;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(regionPages: number, uid: number) {
    const program = buildPrey();
    const bytes = String(regionPages * pageBytes);
    this.#child = spawn(program, [bytes], { stdio: ["pipe", "pipe", "inherit"], uid });
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[
      Symbol.asyncIterator
    ]();
    this.pid = this.#child.pid as number;
    this.startTimeTicks = Number(statOf(this.pid)[19]);
  }

  static async start(regionPages = 64, uid = 0): Promise<Prey> {
    const prey = new Prey(regionPages, uid);
    const addresses = (await prey.#line()).split(" ").map(Number);
    const [region = 0, active = 0, counter = 0, beat = 0, shared = 0, fixed = 0, file = 0] =
      addresses;
    prey.region = region;
    prey.activeAddress = active;
    prey.counterAddress = counter;
    prey.#beatAddress = beat;
    prey.sharedAddress = shared;
    prey.readOnlyAddress = fixed;
    prey.fileAddress = file;
    return prey;
  }

  async tell(line: string): Promise<string> {
    this.#child.stdin?.write(`${line}\n`);
    return await this.#line();
  }

  async #line(): Promise<string> {
    const next = await this.#lines.next();
    assert.ok(next.done !== true, "the prey has ended");
    return next.value;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** As /proc says, task by task: "S", "T", … */
  get state(): string {
    return statOf(this.pid)[0] as string;
  }

  /** Some thread of it is stopped. */
  get isStopped(): boolean {
    const tasks = readdirSync(`/proc/${this.pid}/task`);
    return tasks.some((id) => statOf(`${this.pid}/task/${id}`)[0] === "T");
  }

  /** Grows while it runs. */
  get beat(): number {
    return this.memory(this.#beatAddress, 8).readUInt32LE();
  }

  async assertFrozen(): Promise<void> {
    assert.equal(this.state, "T");
    const before = this.beat;
    await wait(10);
    assert.equal(this.beat, before, "it runs");
  }

  async untilRuns(deadlineMs = 3000): Promise<void> {
    const before = this.beat;
    await until("the prey runs", () => this.beat > before, deadlineMs);
  }

  /** Read past the agent. */
  memory(address: number, bytes: number): Buffer {
    return readAt(`/proc/${this.pid}/mem`, address, bytes);
  }

  /** One entry a page, read past the agent. */
  pagemap(address: number, pages: number): bigint[] {
    const bytes = readAt(`/proc/${this.pid}/pagemap`, (address / pageBytes) * 8, pages * 8);
    return Array.from({ length: pages }, (_, index) => bytes.readBigUInt64LE(index * 8));
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isAlive) return;
    const exit = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exit;
  }
}

/** An agent, somebody connected to it, and a process. */
export async function world(regionPages?: number) {
  const prey = await Prey.start(regionPages);
  const agent = await Agent.start();
  const client = await agent.connect();
  return {
    prey,
    agent,
    client,
    async [Symbol.asyncDispose]() {
      await agent[Symbol.asyncDispose]();
      await prey[Symbol.asyncDispose]();
    },
  };
}

/** Fields of /proc/PID/stat, or of a task's, from the state on: [0] is field 3. */
export function statOf(pid: number | string): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function readAt(path: string, position: number, bytes: number): Buffer {
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(bytes);
    assert.equal(readSync(file, buffer, 0, bytes, position), bytes, path);
    return buffer;
  } finally {
    closeSync(file);
  }
}

/** The agent refused, and for that reason. */
export function refusal(agentCode: string, text = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof GodwitError, String(error));
    assert.equal(error.details["agentCode"], agentCode, error.message);
    assert.match(error.message, text);
    return true;
  };
}
