/**
 * A sink that turns what a StreamReader reports into things that can be compared: a log that does not depend on how the
 * bytes were split, and the memory that a destination would have.
 */
import assert from "node:assert/strict";
import { createHash, type Hash } from "node:crypto";
import {
  checkRecords,
  pageBytes,
  pageOfWord,
  pageRecordBytes,
  type RunCounts,
  type StreamHead,
  type StreamSink,
  zeroRecordBytes,
} from "../../../src/qemu/stream/index.ts";

export interface BlockTally {
  pages: number;
  zeros: number;
}

export class Collector implements StreamSink {
  seen: StreamHead | undefined;
  /** One line for each event; runs without another event between them are one line. */
  readonly log: string[] = [];
  readonly tallies: BlockTally[] = [];
  /** Contents of each block, made only when asked for. */
  readonly memory: Uint8Array[] = [];
  readonly commands: { command: number; data: string }[] = [];
  tailBytes = 0;
  runCount = 0;
  ended = false;
  readonly #keepMemory: boolean;
  readonly #tail: Hash = createHash("sha256");
  #order: Hash | undefined;

  constructor(options: { keepMemory: boolean } = { keepMemory: false }) {
    this.#keepMemory = options.keepMemory;
  }

  head(head: StreamHead): void {
    assert.equal(this.seen, undefined, "a second head");
    this.seen = head;
    const digest = createHash("sha256").update(head.bytes).digest("hex");
    const blocks = head.blocks.map((block) => `${block.name}=${block.lengthBytes}`).join();
    this.log.push(`head ${head.machineType} ${head.ramSectionId} ${blocks} ${digest}`);
    for (const block of head.blocks) {
      this.tallies.push({ pages: 0, zeros: 0 });
      if (this.#keepMemory) this.memory.push(new Uint8Array(block.lengthBytes));
    }
  }

  pages(block: number, bytes: Uint8Array, from: number, to: number, counts: RunCounts): void {
    assert.ok(this.seen !== undefined && !this.ended, "pages outside RAM");
    assert.ok(to > from, "an empty run");
    this.runCount++;
    this.#order ??= createHash("sha256");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const pageCount = this.seen.blocks[block]?.pageCount ?? 0;
    assert.deepEqual(checkRecords(view, from, to, pageCount), {
      pageCount: counts.pageCount,
      zeroCount: counts.zeroCount,
    });
    const tally = this.tallies[block] as BlockTally;
    tally.pages += counts.pageCount;
    tally.zeros += counts.zeroCount;
    for (let at = from; at < to; ) at = this.#record(block, bytes, view, at);
  }

  #record(block: number, bytes: Uint8Array, view: DataView, at: number): number {
    const page = pageOfWord(view, at);
    const zero = (view.getUint8(at + 7) & 0x02) !== 0;
    this.#order?.update(`${block}:${page}:${zero};`);
    const room = this.memory[block]?.subarray(page * pageBytes, (page + 1) * pageBytes);
    if (zero) room?.fill(0);
    else room?.set(bytes.subarray(at + 8, at + pageRecordBytes));
    return at + (zero ? zeroRecordBytes : pageRecordBytes);
  }

  command(command: number, data: Uint8Array): void {
    const text = Buffer.from(data).toString("hex");
    this.commands.push({ command, data: text });
    this.#event(`command ${command} ${text}`);
  }

  ramEnd(): void {
    assert.ok(!this.ended, "RAM ended twice");
    this.ended = true;
    this.#event("ram end");
  }

  tail(bytes: Uint8Array, from: number, to: number): void {
    assert.ok(this.ended, "device state before the end of RAM");
    this.tailBytes += to - from;
    this.#tail.update(bytes.subarray(from, to));
  }

  /** SHA-256 of the tail; ends the collection. */
  finish(): string {
    this.#event("end");
    return this.#tail.digest("hex");
  }

  #event(line: string): void {
    if (this.#order !== undefined) this.log.push(`pages ${this.#order.digest("hex")}`);
    this.#order = undefined;
    this.log.push(line);
  }
}
