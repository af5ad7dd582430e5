/**
 * What goes out, in its order, of which some is still with other threads. Nothing waits where nothing before it does.
 *
 * A batch that cannot be finished is told to `failed`, and nothing follows it: the stream would have a gap.
 */
interface Entry {
  /** Undefined: not ready. */
  send: (() => void) | undefined;
  /** Called instead when it will not be sent. */
  readonly drop: () => void;
}

const nothing = (): void => {};

export class Outbox {
  readonly #entries: Entry[] = [];
  readonly #failed: (error: unknown) => void;
  /** Called after each turn in which something that had waited went out. */
  readonly #moved: () => void;
  #isClosed = false;

  constructor(failed: (error: unknown) => void, moved: () => void) {
    this.#failed = failed;
    this.#moved = moved;
  }

  /** Entries that wait. */
  get length(): number {
    return this.#entries.length;
  }

  add(send: () => void, drop: () => void = nothing): void {
    if (this.#isClosed) drop();
    else if (this.#entries.length === 0) send();
    else this.#entries.push({ send, drop });
  }

  addLater<T>(coming: Promise<T>, send: (value: T) => void): void {
    if (this.#isClosed) {
      coming.catch(nothing);
      return;
    }
    const entry: Entry = { send: undefined, drop: nothing };
    this.#entries.push(entry);
    coming.then(
      (value) => {
        entry.send = () => send(value);
        this.#drain();
      },
      (error: unknown) => this.#break(error),
    );
  }

  /** Resolves when all that was added has gone out, or never will. */
  async emptied(): Promise<void> {
    await new Promise<void>((resolve) => this.add(resolve, resolve));
  }

  /** Nothing goes out any more. */
  close(): void {
    this.#isClosed = true;
    for (const { drop } of this.#entries.splice(0)) drop();
  }

  #drain(): void {
    if (this.#entries[0]?.send === undefined) return;
    try {
      for (let next = this.#entries[0]; next?.send !== undefined; next = this.#entries[0]) {
        this.#entries.shift();
        next.send();
      }
      this.#moved();
    } catch (error) {
      this.#break(error);
    }
  }

  #break(error: unknown): void {
    if (this.#isClosed) return;
    this.close();
    this.#failed(error);
  }
}
