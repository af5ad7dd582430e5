/** What TCP alone gets through the link: a fast one may be faster than this machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { GodwitError } from "../../src/base/index.ts";
import { atExit } from "../at-exit.ts";
import type { NetworkPair, Side } from "../netns.ts";
import type { FromEnd } from "./link-end.ts";

const script = fileURLToPath(new URL("link-end.ts", import.meta.url));

/** Payload from a to b, Mbit/s. Takes two seconds. */
export async function measureLink(link: NetworkPair): Promise<number> {
  using ends = new Ends(link);
  const address = link.address("a");
  const { port } = await said(ends.start("a", ["write", address]));
  const { bytes = 0, ms = Number.NaN } = await said(
    ends.start("b", ["read", address, String(port)]),
  );
  return (bytes * 8) / 1000 / ms;
}

async function said(child: ChildProcess): Promise<FromEnd> {
  const ended = once(child, "exit").then(() => {
    throw new GodwitError("IO", "the link could not be measured");
  });
  const [message] = (await Promise.race([once(child, "message"), ended])) as [FromEnd];
  // It is killed in the end, which is no failure.
  ended.catch(() => {});
  return message;
}

class Ends implements Disposable {
  readonly #link: NetworkPair;
  readonly #children: ChildProcess[] = [];
  readonly #forget: () => void;

  constructor(link: NetworkPair) {
    this.#link = link;
    this.#forget = atExit(() => this.#kill());
  }

  start(side: Side, args: readonly string[]): ChildProcess {
    const [command, words] = this.#link.inside(side, process.execPath, [script, ...args]);
    const child = spawn(command, words, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#children.push(child);
    return child;
  }

  [Symbol.dispose](): void {
    this.#kill();
    this.#forget();
  }

  #kill(): void {
    for (const child of this.#children) child.kill("SIGKILL");
  }
}
