/**
 * A guest may show anything. Captures with changed bytes, changed maps, and made-up memory where nothing was captured: the
 * reader may refuse, with ASSIST_UNSUPPORTED, or answer; it may not fail otherwise, read without end, or name memory that is
 * not plain memory of the process.
 *
 * GODWIT_HOSTILE=2000 tries more for each capture, GODWIT_SEED=n tries the same again.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { jdkReleases } from "../../../scripts/setup/jdk.ts";
import { type HeapSnapshot, HotspotVm } from "../../../src/assist/hotspot/index.ts";
import type { MemoryRange } from "../../../src/assist/ranges.ts";
import { GodwitError, Prng } from "../../../src/base/index.ts";
import { type Capture, loadCaptures, Replay } from "./captures.ts";

const seed = Number(process.env["GODWIT_SEED"] ?? Date.now() % 1e9);
const count = Number(process.env["GODWIT_HOSTILE"] ?? 40);
/** Opening, one snapshot and a phantom, each within its own bound. */
const bytesMax = 40 << 20;
const requestCountMax = 100;

for (const release of jdkReleases) {
  for (const capture of loadCaptures(release)) {
    test(`changed memory is refused or harmless [${release}, ${capture.name}, seed ${seed}]`, async (context) => {
      const outcomes = new Map<string, number>();
      for (let index = 0; index < count; index++) {
        const random = new Prng(seed * 1000 + index);
        const outcome = await attempt(new HostileReplay(capture, random));
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      const lines = [...outcomes].toSorted(([, a], [, b]) => b - a);
      context.diagnostic(lines.map(([text, times]) => `${times} ${text}`).join("; "));
    });
  }
}

test(`a process of noise is refused [seed ${seed}]`, async () => {
  for (let index = 0; index < 200; index++) {
    const random = new Prng(seed * 1000 + index);
    const maps = Array.from({ length: random.integer(0, 6) }, () => mapsLine(random)).join("\n");
    const outcome = await attempt(new HostileReplay({ maps, memory: [] }, random));
    assert.notEqual(outcome, "answered");
  }
});

/** What came of it, in a word; fails when it is not among what is allowed. */
async function attempt(memory: HostileReplay): Promise<string> {
  let outcome = "answered";
  try {
    const vm = await HotspotVm.open(memory);
    const heap = await vm.snapshot();
    assertInside(heap, memory.text);
    const writes = await vm.phantom(heap);
    assert.ok((writes ?? []).every(({ bytes }) => bytes.length <= 24));
    await vm.periodicCollection();
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    assert.equal(error.code, "ASSIST_UNSUPPORTED", error.message);
    assert.ok(error.message.startsWith("this JVM "), error.message);
    outcome = error.message.slice(9).replaceAll(/\b(0x)?[0-9a-f]*\d[0-9a-f]*\b/g, "N");
  }
  assert.ok(memory.readBytes <= bytesMax, `${memory.readBytes} bytes`);
  assert.ok(memory.requestCount <= requestCountMax, `${memory.requestCount} requests`);
  return outcome;
}

function assertInside({ dead, disposable }: HeapSnapshot, maps: string): void {
  const plain = [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ \S+ 0\b.*$/gm)].map(
    ([, from = "", to = ""]) => [Number.parseInt(from, 16), Number.parseInt(to, 16)] as const,
  );
  for (const list of [dead, disposable]) {
    let last = 0;
    for (const { address, bytes } of list) {
      assert.ok(address >= last && bytes > 0, "ascending, disjoint, not empty");
      last = address + bytes;
      for (let at = address; at < last; ) {
        const mapping = plain.find(([from, to]) => from <= at && at < to);
        assert.ok(mapping !== undefined, `${at.toString(16)} is not plain memory`);
        at = mapping[1];
      }
    }
  }
}

/** A capture that lies. */
class HostileReplay extends Replay {
  readonly text: string;
  readonly #random: Prng;
  readonly #unknown: "missing" | "zero" | "noise" | "ones";

  constructor(capture: Pick<Capture, "maps" | "memory">, random: Prng) {
    super(capture);
    this.#random = random;
    this.#unknown = random.pick(["missing", "zero", "noise", "ones"]);
    this.text = random.chance(0.2) ? spoiledMaps(capture.maps, random) : capture.maps;
    for (let left = random.integer(1, 12); left > 0; left--) this.#spoil();
  }

  override maps(): Promise<string> {
    this.requestCount++;
    return Promise.resolve(this.text);
  }

  /** Small pieces are the VM's own structures, large ones tables and texts: mostly the small ones. */
  #spoil(): void {
    const random = this.#random;
    const small = this.pieces.filter(({ bytes }) => bytes.length <= 4096);
    const piece = random.pick(
      random.chance(0.7) && small.length > 0 ? small : [...this.pieces, noPiece],
    );
    if (piece.bytes.length < 8) return;
    const view = Buffer.from(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.length);
    const at = random.integer(0, (view.length - 8) >> 3) << 3;
    const other = random.pick([...this.pieces, noPiece]).address;
    const values = [
      0n,
      1n,
      0xffffffffffffffffn,
      1n << 63n,
      1n << 46n,
      BigInt(other),
      BigInt(piece.address),
    ];
    const old = view.readBigUInt64LE(at);
    const near = BigInt.asUintN(64, old + BigInt(random.integer(-64, 64)) * 8n);
    view.writeBigUInt64LE(random.pick([...values, near, BigInt.asUintN(64, old << 8n)]), at);
  }

  protected override unknown(range: MemoryRange): Uint8Array {
    if (this.#unknown === "missing") return super.unknown(range);
    const bytes = new Uint8Array(range.bytes).fill(this.#unknown === "ones" ? 0xff : 0);
    if (this.#unknown === "noise") {
      for (let at = 0; at < Math.min(bytes.length, 1 << 16); at++)
        bytes[at] = this.#random.uint32();
    }
    return bytes;
  }
}

const noPiece = { address: 4096, bytes: new Uint8Array(0) };

function spoiledMaps(text: string, random: Prng): string {
  const lines = text.split("\n");
  for (let left = random.integer(1, 8); left > 0; left--) {
    const at = random.integer(0, lines.length - 1);
    lines[at] = random.pick([
      "",
      mapsLine(random),
      (lines[at] ?? "").replace("rw-p", random.pick(["r--p", "rw-s", "---p"])),
      (lines[at] ?? "").slice(0, random.integer(0, 40)),
    ]);
  }
  return lines.join("\n");
}

function mapsLine(random: Prng): string {
  const start = random.integer(1, 2 ** 31) * 4096;
  const end = start + random.integer(1, 2 ** 20) * 4096;
  const kind = random.pick(["rw-p", "r--p", "r-xp", "rw-s", "---p"]);
  const file = random.pick([" 0 ", " 77 /usr/lib/libjvm.so", " 5 /tmp/heap (deleted)"]);
  return `${start.toString(16)}-${end.toString(16)} ${kind} 00000000 08:01${file}`;
}
