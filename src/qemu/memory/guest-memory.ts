/**
 * Reads guest memory out of a QEMU process, block by block as in the migration stream, without QEMU's help: by
 * /proc/PID/mem at the addresses that `info ramblock` tells. Works at any time, in every state of a migration, with any
 * memory backend; needs the right to trace the process (root, or the same user).
 *
 * A page of a running VM may be torn; that is harmless before the end of pre-copy, because a page written meanwhile is
 * dirty and is sent again.
 */
import { createHash } from "node:crypto";
import { readvSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { GodwitError } from "../../base/index.ts";
import { parseRamBlocks, type RamBlockPlace } from "./ram-blocks.ts";

const pageBytes = 4096;

/** What is needed of a QMP client. */
export interface HumanMonitor {
  hmp(command: string): Promise<string>;
}

export class GuestMemory implements AsyncDisposable {
  readonly blocks: readonly RamBlockPlace[];
  readonly #file: FileHandle;
  readonly #byName: ReadonlyMap<string, RamBlockPlace>;

  private constructor(file: FileHandle, blocks: readonly RamBlockPlace[]) {
    this.#file = file;
    this.blocks = blocks;
    this.#byName = new Map(blocks.map((block) => [block.name, block]));
  }

  /** Fails with MEMORY_READ (no such process, not permitted), QEMU_UNSUPPORTED or QMP_*. */
  static async open(monitor: HumanMonitor, pid: number): Promise<GuestMemory> {
    const blocks = parseRamBlocks(await monitor.hmp("info ramblock"));
    try {
      return new GuestMemory(await open(`/proc/${pid}/mem`, "r"), blocks);
    } catch (error) {
      throw new GodwitError(
        "MEMORY_READ",
        `the memory of QEMU (process ${pid}) cannot be opened: run godwit as root or as QEMU's user`,
        { cause: error },
      );
    }
  }

  /** Fills `target` from `offset` of the named block on. Fails with MEMORY_READ. */
  async read(block: string, offset: number, target: Uint8Array): Promise<void> {
    const place = this.#byName.get(block);
    if (place === undefined || offset + target.length > place.usedBytes) {
      throw new GodwitError(
        "MEMORY_READ",
        `no ${target.length} bytes at ${offset} of block ${block}`,
      );
    }
    let done = 0;
    while (done < target.length) {
      const position = place.hostAddress + offset + done;
      const { bytesRead } = await this.#file.read(target, done, target.length - done, position);
      if (bytesRead === 0)
        throw new GodwitError("MEMORY_READ", "QEMU's memory ended: did QEMU end?");
      done += bytesRead;
    }
  }

  /**
   * Fills `targets`, one page each, with the pages from `page` on. Blocks this thread for about 2 µs a page: a detour by
   * the thread pool would cost five times that. Fails with MEMORY_READ.
   */
  readPagesNow(block: string, page: number, targets: readonly Uint8Array[]): void {
    const place = this.#byName.get(block);
    const offset = page * pageBytes;
    const bytes = targets.length * pageBytes;
    if (place === undefined || offset + bytes > place.usedBytes) {
      throw new GodwitError(
        "MEMORY_READ",
        `no ${targets.length} pages at page ${page} of ${block}`,
      );
    }
    const count = readvSync(this.#file.fd, targets, place.hostAddress + offset);
    if (count !== bytes)
      throw new GodwitError("MEMORY_READ", `page ${page} of ${block} cannot be read`);
  }

  /** SHA-256 of each chunk of a block, base64, joined (44 characters each; the last chunk may be shorter). */
  async hash(block: string, lengthBytes: number, chunkBytes: number): Promise<string> {
    const buffers = [Buffer.allocUnsafe(chunkBytes), Buffer.allocUnsafe(chunkBytes)] as const;
    const part = (offset: number): Promise<Uint8Array> => {
      const buffer = buffers[(offset / chunkBytes) % 2] as Buffer;
      const target = buffer.subarray(0, Math.min(chunkBytes, lengthBytes - offset));
      return this.read(block, offset, target).then(() => target);
    };
    let hashes = "";
    let next = part(0);
    for (let offset = 0; offset < lengthBytes; offset += chunkBytes) {
      const bytes = await next;
      // Read ahead: the next chunk is read by a thread while this one is hashed.
      if (offset + chunkBytes < lengthBytes) next = part(offset + chunkBytes);
      hashes += createHash("sha256").update(bytes).digest("base64");
    }
    return hashes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
