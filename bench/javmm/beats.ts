/** The application's heartbeat, as seen from outside: see beat-reader.ts. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Beat, ToReader } from "./beat-reader.ts";

export class Beats implements Disposable {
  readonly #child: ChildProcess;
  readonly #beats: Beat[] = [];

  /** Ends with this process: its channel closes. */
  constructor() {
    this.#child = fork(fileURLToPath(new URL("beat-reader.ts", import.meta.url)));
  }

  /** A console's log, which need not be there yet. */
  follow(path: string): void {
    this.#send({ follow: path });
  }

  /** All so far, of all consoles, in order. */
  async collect(): Promise<readonly Beat[]> {
    const answer = once(this.#child, "message");
    this.#send({ collect: true });
    const [beats] = (await answer) as [Beat[]];
    for (const beat of beats) this.#beats.push(beat);
    return this.#beats;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }

  #send(message: ToReader): void {
    this.#child.send(message);
  }
}
