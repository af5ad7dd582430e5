/**
 * Feeds the QMP decoder what a broken, hostile or foreign monitor might send. Holds for every input:
 * - the decoder answers messages or throws QMP_INVALID, nothing else;
 * - how the bytes were split into reads makes no difference to the messages.
 */
import assert from "node:assert/strict";
import { GodwitError, type Prng } from "../../src/base/index.ts";
import { QmpDecoder, type QmpMessage } from "../../src/qemu/qmp/index.ts";

const lineBytesMax = 4096;

/** A few lines as QEMU sends them, to start mutating from. */
export const qmpCorpus: readonly string[] = [
  '{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n',
  '{"return": {"status": "running", "running": true}, "id": 1}\r\n',
  '{"id": 2, "error": {"class": "GenericError", "desc": "no"}}\r\n',
  '{"timestamp": {"seconds": 1796080000, "microseconds": 1}, "event": "MIGRATION", "data": {"status": "active"}}\r\n',
];

/** One case: some lines of the corpus, mutated, decoded twice. Throws when a property does not hold. */
export function fuzzQmp(prng: Prng, corpus: readonly string[] = qmpCorpus): void {
  const lines = Array.from({ length: prng.integer(1, 5) }, () => prng.pick(corpus));
  const bytes = mutate(prng, Buffer.from(lines.join("")));
  const whole = decode([bytes]);
  const split = decode(cut(prng, bytes));
  assert.deepEqual(split, whole, `seed ${prng.seed}`);
}

/** The messages up to the first failure, and whether there was one. */
function decode(chunks: readonly Uint8Array[]): { messages: QmpMessage[]; failed: boolean } {
  const decoder = new QmpDecoder({ lineBytesMax });
  const messages: QmpMessage[] = [];
  try {
    // Line by line, because a push that throws loses the messages before the bad line.
    for (const chunk of chunks) {
      for (const byteRun of lineRuns(chunk)) messages.push(...decoder.push(byteRun));
    }
  } catch (error) {
    if (error instanceof GodwitError && error.code === "QMP_INVALID") {
      return { messages, failed: true };
    }
    throw error;
  }
  return { messages, failed: false };
}

function lineRuns(chunk: Uint8Array): Uint8Array[] {
  const runs: Uint8Array[] = [];
  let start = 0;
  while (start < chunk.length) {
    const newline = chunk.indexOf(0x0a, start);
    const end = newline < 0 ? chunk.length : newline + 1;
    runs.push(chunk.subarray(start, end));
    start = end;
  }
  return runs;
}

function mutate(prng: Prng, bytes: Buffer): Buffer {
  let result = bytes;
  for (let i = prng.integer(0, 8); i > 0; i--) {
    const at = prng.integer(0, result.length);
    const before = result.subarray(0, at);
    switch (prng.integer(0, 3)) {
      case 0:
        result = Buffer.concat([before, result.subarray(at + prng.integer(1, 8))]);
        break;
      case 1:
        result = Buffer.concat([before, Buffer.of(prng.integer(0, 255)), result.subarray(at)]);
        break;
      case 2:
        result = Buffer.concat([before, Buffer.of(prng.integer(0, 255)), result.subarray(at + 1)]);
        break;
      default:
        result = Buffer.concat([before, Buffer.alloc(prng.integer(0, 6000), 0x5b), before]);
    }
  }
  return result;
}

function cut(prng: Prng, bytes: Uint8Array): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + prng.integer(1, 200);
    chunks.push(bytes.subarray(at, end));
    at = end;
  }
  return chunks;
}
