/** The four client libraries' conformance programs (guest/assist/conformance): how they are built, started and asked. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { eventually, type Range } from "./assist-peer.ts";

const folder = "guest/assist";

interface Library {
  readonly name: string;
  /** Program that must be there; else its tests are skipped. */
  readonly needs: string;
  readonly build: (output: string) => void;
  readonly command: (output: string) => readonly string[];
}

function compileC(output: string): void {
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-pthread"];
  run("gcc", [...flags, "-o", `${output}/client`, `${folder}/conformance/client.c`]);
}

function compileJava(output: string): void {
  const sources = ["FindBuffer", "GodwitAssist"].map(
    (name) => `${folder}/java/org/godwit/assist/${name}.java`,
  );
  const client = `${folder}/conformance/Client.java`;
  run("javac", ["--release", "11", "-Xlint:all", "-Werror", "-d", output, ...sources, client]);
}

function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
}

const nothing = (): void => {};

export const libraries: readonly Library[] = [
  {
    name: "C, event loop",
    needs: "gcc",
    build: compileC,
    command: (output) => [`${output}/client`],
  },
  {
    name: "C, thread",
    needs: "gcc",
    build: compileC,
    command: (output) => [`${output}/client`, "thread"],
  },
  {
    name: "Python, thread",
    needs: "python3",
    build: nothing,
    command: () => ["python3", "-B", `${folder}/conformance/client.py`],
  },
  {
    name: "Python, asyncio",
    needs: "python3",
    build: nothing,
    command: () => ["python3", "-B", `${folder}/conformance/client.py`, "asyncio"],
  },
  {
    name: "Node",
    needs: process.execPath,
    build: nothing,
    command: () => [process.execPath, `${folder}/conformance/client.js`],
  },
  {
    name: "Java",
    needs: "javac",
    build: compileJava,
    // Small and quick to start: the tests start it often.
    command: (output) => ["java", "-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", output, "Client"],
  },
];

/** The option `skip`: false, or which program is missing. */
export function missing(program: string): string | false {
  try {
    execFileSync("sh", ["-c", 'command -v "$0"', program]);
    return false;
  } catch {
    return `needs ${program}, which is not installed`;
  }
}

export class Client implements AsyncDisposable {
  /** What happened, as the program was told: `begin`, `prepare 500`, `resume`, `abort`. */
  readonly events: string[] = [];
  readonly troubles: string[] = [];
  readonly #answers: string[] = [];
  readonly #child: ChildProcess;
  #stderr = "";
  #exit: number | string | undefined;

  constructor(command: readonly string[], path: string) {
    const [program = "", ...args] = command;
    const env = { ...process.env, GODWIT_ASSIST: path };
    this.#child = spawn(program, args, { env, stdio: ["pipe", "pipe", "pipe"] });
    this.#child.on("exit", (code, signal) => (this.#exit = code ?? signal ?? "unknown"));
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.on("data", (text: Buffer) => (this.#stderr += text.toString()));
    const output = this.#child.stdout;
    assert(output !== null);
    createInterface({ input: output }).on("line", (line) => {
      if (/^(begin|prepare \d+|resume|abort)$/.test(line)) this.events.push(line);
      else if (line.startsWith("trouble ")) this.troubles.push(line.slice(8));
      else this.#answers.push(line);
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Gives a command and waits for its one line of answer. */
  async ask(command: string): Promise<string> {
    this.#child.stdin?.write(`${command}\n`);
    await eventually(
      () => this.#answers.length > 0 || this.#exit !== undefined,
      () => `no answer to "${command}" ${this.#stderr}`,
    );
    const answer = this.#answers.shift();
    assert(answer !== undefined, `ended with ${this.#exit} at "${command}": ${this.#stderr}`);
    return answer;
  }

  /** Lets the program allocate and declare a buffer; gives where it lies. */
  async area(index: number, bytes: number): Promise<Range> {
    const [word, i, address, length] = (await this.ask(`area ${index} ${bytes}`)).split(" ");
    assert.deepEqual([word, i, length], ["area", String(index), String(bytes)]);
    return { begin: Number(address), end: Number(address) + bytes };
  }

  async zeroes(index: number): Promise<number> {
    return Number((await this.ask(`zeroes ${index}`)).split(" ")[2]);
  }

  async until(...events: readonly string[]): Promise<void> {
    const wanted = events.join(", ");
    await eventually(
      () => this.events.join(", ") === wanted,
      () => `expected ${wanted}; found ${this.events.join(", ")} ${this.troubles.join("; ")}`,
    );
  }

  /** Ends by itself, with exit code 0 and nothing said on stderr. */
  async quit(): Promise<void> {
    this.#child.stdin?.write("quit\n");
    await eventually(
      () => this.#exit !== undefined,
      () => `does not end ${this.#stderr}`,
    );
    assert.deepEqual([this.#exit, this.#stderr], [0, ""]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#exit === undefined) this.#child.kill("SIGKILL");
    await eventually(
      () => this.#exit !== undefined,
      () => "cannot be killed",
    );
  }
}
