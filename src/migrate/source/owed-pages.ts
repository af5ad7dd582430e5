/** What was left out of QEMU's stream and travels after all, read from the guest's memory; and pages that are announced as zero. */
import {
  pageRecordBytes,
  writePageWord,
  writeZeroRecord,
  zeroRecordBytes,
} from "../../qemu/stream/index.ts";
import type { SkipMap } from "../skip-map.ts";
import { batchHeader, type BatchSender } from "./batch-sender.ts";

/** Reads guest memory for pages that were left out: fills `targets`, one page each, from `page` on. */
export type PageSource = (block: string, page: number, targets: readonly Uint8Array[]) => void;

const batchPages = 60;
const batchesUnderWay = 16;
const blankBatchPages = 8192;

export interface OwedPagesOptions {
  readonly sender: BatchSender;
  readonly skip: SkipMap;
  readonly readPages: PageSource;
  /** The stream has ended, or was stopped. */
  readonly isStopped: () => boolean;
}

export class OwedPages {
  readonly #options: OwedPagesOptions;
  /** Left out before, and read from the guest's memory since. */
  fetchedCount = 0;
  /** Announced as zero before QEMU came to them. */
  blankCount = 0;

  constructor(options: OwedPagesOptions) {
    this.#options = options;
  }

  /** Announces disposable pages as zero of which nothing was sent yet, so that they need not be sent when they are. */
  async sendBlank(isOver: () => boolean): Promise<void> {
    const { sender, skip } = this.#options;
    for (const { block, pages } of skip.takeBlank(blankBatchPages)) {
      if (isOver()) return;
      const body = Buffer.allocUnsafeSlow(pages.length * zeroRecordBytes);
      const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
      for (const [i, page] of pages.entries()) writeZeroRecord(view, i * zeroRecordBytes, page);
      const header = batchHeader(block.index);
      header.zeroCount = pages.length;
      header.bodyBytes = body.length;
      this.blankCount += pages.length;
      sender.sendBatch(header, [body], () => {});
      await sender.room(isOver);
    }
  }

  /** `all`: also what is still disposable. Bodies are filled straight from guest memory, a batch at a time. */
  async send(all: boolean): Promise<void> {
    const { sender, skip, isStopped } = this.#options;
    const underWay: Promise<void>[] = [];
    // Used again: fresh ones for each batch would pile up until the next collection of garbage.
    const free: Buffer[] = [];
    for (const batch of skip.takeOwed(batchPages, all)) {
      if (isStopped()) return;
      const header = batchHeader(batch.block.index);
      header.pageCount = batch.pages.length;
      header.bodyBytes = batch.pages.length * pageRecordBytes;
      const buffer = free.pop() ?? Buffer.allocUnsafeSlow(batchPages * pageRecordBytes);
      const body = this.#body(buffer, batch.block.name, batch.pages);
      const sent = new Promise<void>((resolve) => sender.sendBatch(header, [body], resolve));
      const used = sent.then(() => void free.push(buffer));
      // Whoever waits hears of it; nobody may wait yet.
      used.catch(() => {});
      underWay.push(used);
      this.fetchedCount += batch.pages.length;
      await sender.room(isStopped);
      if (underWay.length >= batchesUnderWay) await underWay.shift();
    }
    await Promise.all(underWay);
  }

  /** `pages` ascend; neighbours are read at once. */
  #body(buffer: Buffer, block: string, pages: readonly number[]): Buffer {
    const body = buffer.subarray(0, pages.length * pageRecordBytes);
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    let run: Uint8Array[] = [];
    for (const [i, page] of pages.entries()) {
      const at = i * pageRecordBytes;
      writePageWord(view, at, page);
      run.push(body.subarray(at + 8, at + pageRecordBytes));
      if (pages[i + 1] === page + 1) continue;
      this.#options.readPages(block, page + 1 - run.length, run);
      run = [];
    }
    return body;
  }
}
