/** A shell in a guest that was started with `godwit.run=shell`, spoken to over its serial console. It moves with its guest. */
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { systemClock, withDeadline } from "../../src/io/index.ts";
import type { LaunchedVm } from "../../src/qemu/launch/index.ts";
import { eventually } from "./assist-peer.ts";

/** Numbers are never used twice: what was asked of a shell before it moved may be answered after it has. */
let count = 0;

export class GuestShell implements Disposable {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (answer: string) => void>();
  #text = "";

  private constructor(vm: LaunchedVm) {
    this.#socket = connect(vm.consolePath);
    this.#socket.setEncoding("latin1");
    this.#socket.on("error", () => {});
    this.#socket.on("data", (text) => this.#receive(String(text)));
  }

  /** Once for each guest, while it boots: from then on the shell neither echoes nor prompts. */
  static async first(vm: LaunchedVm): Promise<GuestShell> {
    const log = async (): Promise<string> => await readFile(vm.consoleLogPath, "latin1");
    await eventually(
      async () => /^\/ # /m.test(await log()),
      () => "the guest has no shell",
      60_000,
    );
    const shell = new GuestShell(vm);
    // One with a prompt ends when a program that it has started is stopped.
    shell.#socket.write("busybox stty -echo; exec busybox sh /dev/console 2>/dev/null\n");
    await shell.ask("echo");
    return shell;
  }

  /** Where the guest runs now. */
  static at(vm: LaunchedVm): GuestShell {
    return new GuestShell(vm);
  }

  /** What the command says, as one line. It can use variables, and not set any. */
  async ask(command: string): Promise<string> {
    return await this.#run(command, (id) => `echo "@${id}" $(${command}) "@"`);
  }

  /** $NAME is what the command says from now on. */
  async set(name: string, command: string): Promise<void> {
    await this.#run(command, (id) => `${name}=$(${command}); echo "@${id} @"`);
  }

  /** Starts a program whose output goes to the console; $NAME is its process id from now on. */
  async start(name: string, command: string): Promise<void> {
    await this.#run(command, (id) => `${command} >/dev/console 2>&1 & ${name}=$!; echo "@${id} @"`);
  }

  async #run(command: string, line: (id: number) => string): Promise<string> {
    const id = ++count;
    const answer = new Promise<string>((resolve) => {
      this.#waiting.set(id, resolve);
    });
    this.#socket.write(`${line(id)}\n`);
    return await withDeadline(systemClock, 10_000, `in the guest: ${command}`, answer);
  }

  #receive(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) {
      const found = /@(\d+) (.*)@\r?$/.exec(line);
      if (found !== null) this.#waiting.get(Number(found[1]))?.((found[2] as string).trim());
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
