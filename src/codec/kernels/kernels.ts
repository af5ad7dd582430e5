/**
 * The loops over pages: batches into streams and back, and hashes. One implementation in WebAssembly with SIMD, built from
 * assembly/ by scripts/kernels.ts, and one in plain TypeScript (reference/), which says the same in other words and answers the
 * same bytes; tests run on both. Both work on a *workspace*: one memory with everything in it, as layout.ts says.
 *
 * *Rejected:* one call for a page or for a step of it. The calls alone would cost as much as the work on an unchanged page.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GodwitError } from "../../base/index.ts";
import { PlainKernels } from "./reference/index.ts";

/** How kernels reach pages of other VMs, which lie outside the workspace. Numbers are addresses; 0 is no. */
export interface KernelHost {
  /** Is the page at `page` known there? Its hash lies at `layout.hashAt`. */
  sharedFind(page: number): number;
  /** Puts a page like the one whose sketch lies at `layout.sketchAt` at `layout.sharedPageAt`, and its hash at `layout.hashAt`. */
  sharedSimilar(): number;
  /** Keeps a copy of the page at `page`; answers its slot plus one. */
  sharedStore(page: number): number;
  /** Puts the page whose hash lies at `layout.hashAt` at `to`. */
  sharedLoad(to: number): number;
  /** Keeps a copy of the page at `page`, whose hash lies at `layout.hashAt`, in `slot`. */
  sharedKeep(page: number, slot: number): number;
}

/** All addresses and lengths in bytes. */
export interface Kernels {
  /** Answers `layout.ok` or a fault. Leaves a hash under way, which began with `seed`, of all full pages; so does `decode`. */
  encode(input: number, bytes: number, block: number, seed: number): number;
  /** The last batch will not be sent: forgets what it changed. */
  drop(): void;
  decode(out: number, bytes: number, block: number, seed: number): number;
  hashBegin(seed: number): void;
  /** Takes a full page by its sums, as `encode` and `decode` do. */
  hashPageSums(at: number): void;
  hashUpdate(at: number, bytes: number): void;
  /** Leaves 16 bytes at `layout.hashAt`. */
  hashEnd(): void;
  /** Leaves 16 bytes at `layout.sketchAt`. */
  sketchPage(at: number): void;
}

export type KernelBuild = "simd" | "plain";

/** What is used of the global of this name, which the compiler's libraries for servers do not know. */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => KernelMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

export interface KernelMemory {
  readonly buffer: ArrayBuffer;
}

const wasmPageBytes = 64 << 10;

/** Full of zeros, and never resized: no view of it is ever detached. The machine gives what is touched. */
export function createMemory(bytes: number): KernelMemory {
  const pages = Math.ceil(bytes / wasmPageBytes);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    const mebibytes = Math.ceil(bytes / (1 << 20));
    const why = `no ${mebibytes} MiB of address space for a history of pages; give --compress-memory less`;
    throw new GodwitError("CONFIG_INVALID", why, { cause });
  }
}

let compiled: object | undefined;

export function createKernels(build: KernelBuild, memory: KernelMemory, host: KernelHost): Kernels {
  if (build === "plain") return new PlainKernels(memory.buffer, host);
  compiled ??= new WebAssembly.Module(readFileSync(join(import.meta.dirname, "kernels.wasm")));
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory }, host });
  return exports as Kernels;
}
