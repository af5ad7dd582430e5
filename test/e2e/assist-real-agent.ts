/** The guest's agent as a process of this machine, and a host's session with it. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AgentApplication,
  AgentClient,
  type ScrubResult,
} from "../../src/assist/agent/index.ts";
import { systemClock } from "../../src/io/index.ts";
import { eventually } from "./assist-peer.ts";

export class RealAgent implements AsyncDisposable {
  readonly #binary: string;
  readonly #folder: string;
  #child: ChildProcess | undefined;
  client!: AgentClient;

  private constructor(binary: string, folder: string) {
    this.#binary = binary;
    this.#folder = folder;
  }

  static async start(binary: string): Promise<RealAgent> {
    const agent = new RealAgent(binary, await mkdtemp(join(tmpdir(), "godwit-agent-")));
    await agent.restart();
    return agent;
  }

  /** For applications. */
  get path(): string {
    return join(this.#folder, "assist.sock");
  }

  async restart(): Promise<void> {
    const port = join(this.#folder, "port.sock");
    await rm(port, { force: true });
    const args = ["--listen", port, "--run-directory", this.#folder];
    this.#child = spawn(this.#binary, args, { stdio: "ignore" });
    await eventually(
      () => existsSync(port) && existsSync(this.path),
      () => "the agent does not start",
    );
    this.client = await AgentClient.connect(port, { clock: systemClock });
  }

  /** The one application that is registered. */
  async application(): Promise<AgentApplication> {
    const [found] = await this.client.applications();
    if (found === undefined) throw new Error("no application is registered");
    return found;
  }

  async until(holds: (application: AgentApplication | undefined) => boolean): Promise<void> {
    await eventually(
      async () => holds((await this.client.applications())[0]),
      () => "the agent's list of applications is not as expected",
    );
  }

  /** Freezes the application, zeroes its areas, and lets it run again. */
  async scrub(): Promise<ScrubResult> {
    const application = await this.application();
    await this.client.hold(application, { timeoutMs: 1000, holdMs: 5000 });
    const result = await this.client.scrub(application, application.areas);
    await this.client.thaw(application);
    return result;
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    await this.client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
