/**
 * Bytes → lines → messages. Pure, and tolerant of what newer QEMUs add (unknown events, unknown fields), but not of what
 * is not QMP at all: a wrong path that leads to another program's socket should say so, not hang.
 *
 * What makes a line valid: UTF-8 JSON, an object with exactly one meaning:
 *
 *     {"QMP": {"version": {"qemu": {major, minor, micro}, "package"?}, "capabilities"?}}
 *     {"return": any, "id"?}     {"error": {"class", "desc"}, "id"?}
 *     {"event": name, "data"?, "timestamp"?: {"seconds", "microseconds"}}
 *
 * Lines end in \n (QEMU sends \r\n). Blank lines are skipped.
 */
import { GodwitError } from "../../base/index.ts";
import type { QmpEvent, QmpMessage } from "./messages.ts";

/** `query-qmp-schema` answers about 200 KiB; a dump by `human-monitor-command` can be some MiB. */
export const lineBytesMaxDefault = 16 * 1024 * 1024;

const newline = 0x0a;

type Json = Readonly<Record<string, unknown>>;

export class QmpDecoder {
  readonly #lineBytesMax: number;
  /** The beginning of a line whose end has not come yet, in arrival order. */
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  /** Where the line in `#parts` begins, in bytes from the start of the connection: for error messages. */
  #lineOffset = 0;

  constructor(options: { lineBytesMax?: number } = {}) {
    this.#lineBytesMax = options.lineBytesMax ?? lineBytesMaxDefault;
  }

  /**
   * Takes bytes as they came and returns the messages that they complete. The bytes are copied where they are kept.
   * Throws QMP_INVALID, after which the decoder must not be used again.
   */
  push(bytes: Uint8Array): QmpMessage[] {
    const messages: QmpMessage[] = [];
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(newline, start);
      const stop = end < 0 ? bytes.length : end;
      this.#checkLength(stop - start);
      if (end < 0) break;
      const message = this.#line(bytes.subarray(start, end));
      if (message !== undefined) messages.push(message);
      start = end + 1;
    }
    if (start < bytes.length) this.#keep(new Uint8Array(bytes.subarray(start)));
    return messages;
  }

  #checkLength(moreBytes: number): void {
    if (this.#partBytes + moreBytes <= this.#lineBytesMax) return;
    throw invalid(`a line is longer than ${this.#lineBytesMax} bytes`, this.#lineOffset);
  }

  #keep(part: Uint8Array): void {
    this.#parts.push(part);
    this.#partBytes += part.length;
  }

  #line(rest: Uint8Array): QmpMessage | undefined {
    const offset = this.#lineOffset;
    const text = Buffer.concat([...this.#parts, rest]).toString("utf8");
    this.#lineOffset += this.#partBytes + rest.length + 1;
    this.#parts = [];
    this.#partBytes = 0;
    return text.trim() === "" ? undefined : decodeLine(text, offset);
  }
}

/** One line without its end. `offset` is where it began, in bytes, for the error message. Throws QMP_INVALID. */
export function decodeLine(text: string, offset: number): QmpMessage {
  const value = parse(text, offset);
  if (!isObject(value)) throw invalid(`expected a JSON object, found ${excerpt(text)}`, offset);
  const message = toMessage(value);
  if (typeof message === "string") throw invalid(`${message}: ${excerpt(text)}`, offset);
  return message;
}

function parse(text: string, offset: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(`expected JSON, found ${excerpt(text)}`, offset, cause);
  }
}

/** The message, or what is wrong with it. */
function toMessage(value: Json): QmpMessage | string {
  if (Object.hasOwn(value, "event")) return toEvent(value);
  if (Object.hasOwn(value, "return")) {
    return { type: "return", id: toId(value), value: value["return"] };
  }
  if (Object.hasOwn(value, "error")) return toError(value);
  if (Object.hasOwn(value, "QMP")) return toGreeting(value["QMP"]);
  return "an object without QMP, return, error or event";
}

function toGreeting(qmp: unknown): QmpMessage | string {
  const version = isObject(qmp) ? qmp["version"] : undefined;
  const qemu = isObject(version) ? version["qemu"] : undefined;
  if (!isObject(qmp) || !isObject(version) || !isObject(qemu)) return "a greeting without version";
  const { major, minor, micro } = qemu;
  if (!isCount(major) || !isCount(minor) || !isCount(micro)) return "a greeting with a bad version";
  const capabilities = Array.isArray(qmp["capabilities"]) ? qmp["capabilities"] : [];
  return {
    type: "greeting",
    version: { qemu: { major, minor, micro }, package: toText(version["package"], "") },
    capabilities,
  };
}

function toError(value: Json): QmpMessage | string {
  const error = value["error"];
  if (!isObject(error)) return "an error that is not an object";
  return {
    type: "error",
    id: toId(value),
    class: toText(error["class"], "GenericError"),
    desc: toText(error["desc"], ""),
  };
}

function toEvent(value: Json): QmpMessage | string {
  const name = value["event"];
  if (typeof name !== "string") return "an event without a name";
  const data = isObject(value["data"]) ? value["data"] : {};
  const event: QmpEvent = { name, data, timestampUs: toTimestampUs(value["timestamp"]) };
  return { type: "event", event };
}

/** QEMU sends seconds = -1 when it could not read the clock. Microseconds since 1970 stay below 2^53 until 2255. */
function toTimestampUs(timestamp: unknown): number {
  if (!isObject(timestamp)) return -1;
  const { seconds, microseconds } = timestamp;
  if (!isCount(seconds) || !isCount(microseconds)) return -1;
  return seconds * 1_000_000 + microseconds;
}

function toId(value: Json): number | undefined {
  return typeof value["id"] === "number" ? value["id"] : undefined;
}

function toText(value: unknown, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function excerpt(text: string): string {
  return text.length <= 80 ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, 80))}…`;
}

function invalid(what: string, offset: number, cause?: unknown): GodwitError {
  return new GodwitError(
    "QMP_INVALID",
    `${what}, at byte ${offset} of the connection; is this socket really a QMP monitor (-qmp or -mon mode=control)?`,
    { cause, details: { offset } },
  );
}
