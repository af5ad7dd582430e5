import assert from "node:assert/strict";
import { test } from "node:test";
import { assertSafeOptions, collectorOf, type FlagName, Flags } from "./flags.ts";
import { assertKnownRelease } from "./release.ts";

/** Flags that are on; a value may be given. */
function flags(...on: (FlagName | readonly [FlagName, number])[]): Flags {
  const entries = on.map((one) => (typeof one === "string" ? ([one, 1] as const) : one));
  return new Flags(new Map(entries.map(([name, value]) => [name, { address: 4096, value }])));
}

test("the collector is told by its flag", () => {
  assert.equal(collectorOf(flags("UseSerialGC"), false), "serial");
  assert.equal(collectorOf(flags("UseParallelGC"), true), "parallel");
  assert.equal(collectorOf(flags("UseG1GC"), false), "g1");
  assert.equal(collectorOf(flags(), true), "serial", "release 8 on a small machine");
});

const refused: readonly (readonly [Flags, boolean, RegExp])[] = [
  [flags("UseZGC"), false, /ZGC/],
  [flags("UseShenandoahGC"), false, /Shenandoah/],
  [flags("UseEpsilonGC"), false, /Epsilon/],
  [flags("UseConcMarkSweepGC", "UseParNewGC"), true, /CMS/],
  [flags("UseParNewGC"), true, /ParNew/],
  [flags("UseG1GC"), true, /release 8/],
  [flags(), false, /something other/],
];

test("other collectors are refused by name", () => {
  for (const [on, isEight, message] of refused)
    assert.throws(() => collectorOf(on, isEight), { code: "ASSIST_UNSUPPORTED", message });
});

const unsafe: readonly (readonly [Flags, RegExp])[] = [
  [flags("UseNUMA"), /UseNUMA/],
  [flags("UseLargePages"), /UseLargePages/],
  [flags("UseAdaptiveGCBoundary"), /border moves/],
  [flags("UseJVMCICompiler"), /UseJVMCICompiler/],
  [flags("ZapUnusedHeapArea"), /debug build/],
  [flags(["AllocateHeapAt", 0x7f0000001000]), /in a file/],
  [flags(["AllocateOldGenAt", 0x7f0000001000]), /in a file/],
];

test("options under which dead memory is not what it seems are refused by name", () => {
  for (const [on, message] of unsafe)
    assert.throws(() => assertSafeOptions(on), { code: "ASSIST_UNSUPPORTED", message });
  assertSafeOptions(flags("UseLargePages", "UseTransparentHugePages"));
  assertSafeOptions(flags("UseCompactObjectHeaders", "UseCompressedClassPointers"));
});

test("releases that were not tried are refused", () => {
  for (const version of ["11.0.24+8", "17.0.19+10", "21.0.12.1+1", "25+36"])
    assertKnownRelease(version, false);
  assertKnownRelease("8 (25.504-b01)", true);
  for (const version of ["9.0.4+11", "22+36", "26-ea", "x"])
    assert.throws(() => assertKnownRelease(version, false), { code: "ASSIST_UNSUPPORTED" });
});
