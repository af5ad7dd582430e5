/** A process of this machine as the guest's agent would show it: maps, reads, holds, and writes while held. For tests. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type JdkRelease, javaPath } from "../../../scripts/setup/jdk.ts";
import type { MemoryWrite, ProcessMemory } from "../../../src/assist/hotspot/index.ts";
import type { MemoryRange } from "../../../src/assist/ranges.ts";
import { GodwitError } from "../../../src/base/index.ts";

export class NativeProcess implements ProcessMemory, Disposable {
  readonly pid: number;
  readonly #file: number;
  requestCount = 0;
  readBytes = 0;

  constructor(pid: number) {
    this.pid = pid;
    this.#file = openSync(`/proc/${pid}/mem`, "r+");
  }

  maps(): Promise<string> {
    this.requestCount++;
    return Promise.resolve(readFileSync(`/proc/${this.pid}/maps`, "utf8"));
  }

  read(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.requestCount++;
    return Promise.resolve(ranges.map((range) => this.#read(range)));
  }

  #read({ address, bytes }: MemoryRange): Uint8Array {
    const piece = new Uint8Array(bytes);
    let count = 0;
    try {
      count = readSync(this.#file, piece, 0, bytes, address);
    } catch (error) {
      throw new GodwitError("MEMORY_READ", `${bytes} bytes at ${address}`, { cause: error });
    }
    if (count !== bytes) throw new GodwitError("MEMORY_READ", `${count} of ${bytes} at ${address}`);
    this.readBytes += bytes;
    return piece;
  }

  /** Stops every thread, and waits until it stands. */
  async hold(): Promise<void> {
    process.kill(this.pid, "SIGSTOP");
    while (!this.#isHeld()) await sleep(1);
  }

  thaw(): void {
    process.kill(this.pid, "SIGCONT");
  }

  write({ address, bytes }: MemoryWrite): void {
    assert.ok(this.#isHeld(), "only a held process may be written to");
    assert.equal(writeSync(this.#file, bytes, 0, bytes.length, address), bytes.length);
  }

  /** Repeats `pattern` over all of these ranges; answers their bytes. */
  overwrite(ranges: readonly MemoryRange[], pattern: Uint8Array): number {
    let total = 0;
    for (const { address, bytes } of ranges) {
      for (let done = 0; done < bytes; done += pattern.length) {
        const part = pattern.subarray(0, Math.min(pattern.length, bytes - done));
        this.write({ address: address + done, bytes: part });
      }
      total += bytes;
    }
    return total;
  }

  #isHeld(): boolean {
    return readdirSync(`/proc/${this.pid}/task`).every((task) => {
      const stat = readFileSync(`/proc/${this.pid}/task/${task}/stat`, "utf8");
      return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

/** A running JVM and what it has printed. */
export class Jvm implements AsyncDisposable {
  #process: NativeProcess | undefined;
  readonly #child: ChildProcess;
  #output = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on("data", (text: string) => (this.#output += text));
    child.stderr?.on("data", (text: string) => (this.#output += text));
    child.stdout?.setEncoding("utf8");
    child.stderr?.setEncoding("utf8");
  }

  /** Starts a class from `classes`, and waits until it has printed "ready". */
  static async start(
    release: JdkRelease,
    classes: string,
    options: readonly string[],
    words: readonly (string | number)[],
    prefix: readonly string[] = [],
  ): Promise<Jvm> {
    const java = [javaPath(release), "-cp", classes, ...options, ...words.map(String)];
    const [program = "", ...args] = [...prefix, ...java];
    // The wrapper (and the prefix) exec, so the child's pid becomes the JVM's.
    // A JVM that crashes leaves its report where it runs.
    const child = spawn(program, args, { cwd: classes, stdio: ["ignore", "pipe", "pipe"] });
    await once(child, "spawn");
    const jvm = new Jvm(child);
    await jvm.waitFor(/^ready$/m);
    return jvm;
  }

  /** Opened at first use: before "ready" the memory was that of the wrapper. */
  get process(): NativeProcess {
    return (this.#process ??= new NativeProcess(this.#child.pid as number));
  }

  get output(): string {
    return this.#output;
  }

  /** Waits for a text in the output, which is searched from its beginning or from `from` on. */
  async waitFor(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    for (let waitedMs = 0; waitedMs < 30_000; waitedMs += 5) {
      const match = pattern.exec(this.#output.slice(from));
      if (match !== null) return match;
      assert.equal(this.#child.exitCode ?? this.#child.signalCode, null, this.#tail());
      await sleep(5);
    }
    return assert.fail(`no ${pattern} in 30 s\n${this.#tail()}`);
  }

  /** The program's own checks go on, and none has failed. */
  async assertWell(): Promise<void> {
    await this.waitFor(/^ok \d+$/m, this.#output.length);
    assert.doesNotMatch(this.#output, /wrong:|fatal error|# A fatal|Internal Error/, this.#tail());
  }

  #tail(): string {
    return this.#output.split("\n").slice(-30).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process?.[Symbol.dispose]();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

export function hasJdk(release: JdkRelease): boolean {
  return existsSync(javaPath(release));
}

/** Compiles the Java sources of this folder with release 17 (its runtime package has the compiler as a module). */
export async function compileJava(): Promise<AsyncDisposable & { readonly folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), "godwit-java-"));
  const sources = ["Churn.java", "Still.java"].map((name) => join(import.meta.dirname, name));
  const compiler = "jdk.compiler/com.sun.tools.javac.Main";
  const target = ["-source", "8", "-target", "8", "-Xlint:-options"];
  const child = spawn(javaPath(17), ["-m", compiler, ...target, "-d", folder, ...sources], {
    stdio: "inherit",
  });
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0, "the Java sources of the test do not compile");
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
