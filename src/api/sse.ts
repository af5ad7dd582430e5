/** Server-sent events (WHATWG HTML, "Server-sent events"), the part that godwit uses: `data:` lines of JSON, comments. */

export function encodeEvent(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** A comment; keeps idle connections alive and shows that they are. */
export const heartbeat = ": still here\n\n";

const eventBytesMax = 16 * 1024 * 1024;

/** Bytes of a response in any pieces → the values of its events. */
export class EventDecoder {
  readonly #text = new TextDecoder();
  #rest = "";

  push(bytes: Uint8Array): unknown[] {
    this.#rest += this.#text.decode(bytes, { stream: true });
    const blocks = this.#rest.split("\n\n");
    this.#rest = blocks.pop() ?? "";
    if (this.#rest.length > eventBytesMax) throw new Error("an event of the daemon is too long");
    return blocks.flatMap((block) => {
      const data = block
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart());
      return data.length === 0 ? [] : [JSON.parse(data.join("\n")) as unknown];
    });
  }
}
