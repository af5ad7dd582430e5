/** Each record of the epochs beside the previous version of its page, for programs that are to know it as our methods do. */
import type { OpenTrace } from "../../src/advise/index.ts";
import type { PageBatch } from "../../src/codec/index.ts";
import { pageOfWord, pageRecordBytes, zeroRecordBytes } from "../../src/qemu/stream/index.ts";

export interface RecordPair {
  readonly epoch: number;
  readonly now: Buffer;
  /** The record that was sent last; a page of zeros when there was none. */
  readonly before: Buffer;
}

/** Of epochs 1 to `epochsMax`. */
export async function* recordPairs(
  open: OpenTrace,
  epochsMax: number,
): AsyncGenerator<readonly RecordPair[]> {
  const known = await writtenPages(open, epochsMax);
  for await (const { epoch, batch } of open()) {
    if (epoch > epochsMax) return;
    const pairs: RecordPair[] = [];
    for (const [key, now] of records(batch)) {
      const before = known.get(key) ?? Buffer.concat([now.subarray(0, 8), Buffer.alloc(4096)]);
      if (known.has(key)) known.set(key, now);
      pairs.push({ epoch, now, before });
    }
    if (epoch > 0) yield pairs;
  }
}

/** What else is in the first copy is nobody's previous version. */
async function writtenPages(
  open: OpenTrace,
  epochsMax: number,
): Promise<Map<string, Buffer | undefined>> {
  const known = new Map<string, Buffer | undefined>();
  for await (const { epoch, batch } of open()) {
    if (epoch > epochsMax) break;
    if (epoch === 0) continue;
    for (const [key] of records(batch)) known.set(key, undefined);
  }
  return known;
}

/** By block and page. */
function* records(batch: PageBatch): Generator<readonly [key: string, record: Buffer]> {
  const bytes = Buffer.concat(batch.pieces);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const isPage = ((bytes[at + 7] ?? 0) & 0x08) !== 0;
    const end = at + (isPage ? pageRecordBytes : zeroRecordBytes);
    yield [`${batch.block}:${pageOfWord(view, at)}`, bytes.subarray(at, end)];
    at = end;
  }
}
