/**
 * The kernels in plain TypeScript: what the ones in WebAssembly are compared with. Written for being read; about a tenth as fast.
 */
import type { KernelHost, Kernels } from "../kernels.ts";
import { PlainDecode } from "./decode.ts";
import { PlainDelta } from "./delta.ts";
import { PlainEncode } from "./encode.ts";
import { PlainHash } from "./hash.ts";
import { PlainHistory } from "./history.ts";
import { PlainMemory } from "./memory.ts";

export class PlainKernels implements Kernels {
  readonly #hash: PlainHash;
  readonly #history: PlainHistory;
  readonly #encode: PlainEncode;
  readonly #decode: PlainDecode;

  constructor(buffer: ArrayBuffer, host: KernelHost) {
    const memory = new PlainMemory(buffer);
    const delta = new PlainDelta(memory);
    this.#hash = new PlainHash(memory);
    this.#history = new PlainHistory(memory);
    this.#encode = new PlainEncode(memory, delta, this.#hash, this.#history, host);
    this.#decode = new PlainDecode(memory, delta, this.#hash, host);
  }

  encode(input: number, bytes: number, block: number, seed: number): number {
    return this.#encode.encode(input, bytes, block, seed);
  }

  drop(): void {
    this.#history.drop();
  }

  decode(out: number, bytes: number, block: number, seed: number): number {
    return this.#decode.decode(out, bytes, block, seed);
  }

  hashBegin(seed: number): void {
    this.#hash.begin(seed);
  }

  hashPageSums(at: number): void {
    this.#hash.sum(at);
    this.#hash.sums();
  }

  hashUpdate(at: number, bytes: number): void {
    this.#hash.update(at, bytes);
  }

  hashEnd(): void {
    this.#hash.end();
  }

  sketchPage(at: number): void {
    this.#hash.sketch(at);
  }
}
