/** The golden frames of the agent's protocol, as frames.txt holds them; its head is in oracle.py. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface GoldenFrame {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly body: Buffer;
  readonly bytes: Buffer;
}

export interface GoldenStream {
  readonly name: string;
  readonly bytes: Buffer;
  /** "type:id" of every frame in it. */
  readonly found: readonly string[];
}

export const framesPath = join(import.meta.dirname, "frames.txt");
const words = readFileSync(framesPath, "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => line.split(" "));
const bytesOf = (text: string | undefined): Buffer =>
  Buffer.from(text === "-" ? "" : (text ?? ""), "hex");

export const goldenFrames: readonly GoldenFrame[] = words
  .filter(([kind]) => kind === "frame")
  .map(([, name = "", type, flags, id, body, bytes]) => ({
    name,
    type: Number(type),
    flags: Number(flags),
    id: Number(id),
    body: bytesOf(body),
    bytes: bytesOf(bytes),
  }));

export const goldenStreams: readonly GoldenStream[] = words
  .filter(([kind]) => kind === "stream")
  .map(([, name = "", bytes, found]) => ({
    name,
    bytes: bytesOf(bytes),
    found: found === "-" ? [] : (found ?? "").split(","),
  }));

/** The body of the frame of that name. */
export function goldenBody(name: string): Buffer {
  const frame = goldenFrames.find((golden) => golden.name === name);
  if (frame === undefined) throw new Error(`no golden frame "${name}"`);
  return frame.body;
}
