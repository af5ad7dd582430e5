import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, type Run, summarize } from "./summary.ts";
import { type Verdict, verdicts, verdictText } from "./verdict.ts";

type Named = Partial<Run> & { readonly case: string };

/** Finished and equal, but for what is given. `totalMs: undefined`: given up. */
function row(given: Named): Run {
  const totalMs = "totalMs" in given ? given.totalMs : 1_000;
  return {
    workload: "idle",
    link: 1_000,
    run: 1,
    finished: totalMs !== undefined,
    downtimeMs: totalMs === undefined ? undefined : 50,
    wireBytes: 1e6,
    verified: true,
    ratio: undefined,
    encodeMs: undefined,
    ...given,
    totalMs,
  };
}

const fixed = ["godwit-none", "godwit-zstd"];
const qemu = ["qemu-xbzrle", "qemu-multifd-zstd"];

/** All cases on one link, rivals twice as slow and large as `auto` unless `given` says otherwise. */
function place(link: number, given: readonly Named[] = []): Run[] {
  const usual = [...fixed, ...qemu].map((name) => ({ case: name, totalMs: 2_000, wireBytes: 2e6 }));
  const all: Named[] = [...usual, { case: "godwit-auto" }];
  return all.map((one) => {
    const own = given.find((other) => other.case === one.case);
    return row({ ...one, ...own, link });
  });
}

function judge(runs: readonly Run[], failed: readonly string[] = []): readonly Verdict[] {
  const summaries = summarize(runs);
  const wanted = { workloads: ["idle"], fixedCases: fixed };
  return verdicts(summaries, compare(summaries), wanted, failed);
}

const allLinks = [100, 200, 1_000, 10_000];
const everywhere = (given: readonly Named[] = []): Run[] =>
  allLinks.flatMap((link) => place(link, given));

test("medians are of one workload, link and case; the spread is of their times", () => {
  const times = [900, 1_500, 1_000];
  const runs = times.map((totalMs, i) =>
    row({ case: "godwit-auto", run: i + 1, totalMs, ratio: i + 1, encodeMs: 10.4 }),
  );
  const [own, other] = summarize([...runs, row({ case: "godwit-auto", link: 200, totalMs: 7 })]);
  assert.equal(own?.totalMs, 1_000);
  assert.equal(own?.runs, 3);
  assert.equal(own?.spread, 1.6667);
  assert.equal(own?.ratio, 2);
  assert.equal(own?.encodeMs, 10);
  assert.equal(other?.totalMs, 7);
  assert.equal(other?.ratio, null);
});

test("a run that was given up is longer than any other", () => {
  const of = (...times: readonly (number | undefined)[]) =>
    summarize(times.map((totalMs) => row({ case: "qemu-xbzrle", totalMs })))[0];
  assert.equal(of(500, undefined, 700)?.totalMs, 700);
  assert.equal(of(500, undefined, 700)?.finished, 2);
  assert.equal(of(500, undefined, 700)?.spread, null);
  assert.equal(of(500, undefined, undefined)?.totalMs, null);
  assert.equal(of(500, undefined)?.totalMs, null);
});

test("the best fixed choice is godwit's fastest but for auto", () => {
  const runs = place(1_000, [
    { case: "godwit-zstd", totalMs: 800, wireBytes: 4e6 },
    { case: "qemu-xbzrle", totalMs: 100 },
  ]);
  const best = compare(summarize(runs)).find(({ rival }) => rival === "best fixed");
  assert.equal(best?.case, "godwit-zstd");
  assert.equal(best?.time, 1.25);
  assert.equal(best?.bytes, 0.25);
  const givenUp = place(1_000, [{ case: "godwit-zstd", totalMs: undefined }]);
  assert.equal(compare(summarize(givenUp))[0]?.case, "godwit-none");
});

test("where everything is measured and auto is best, both promises hold", () => {
  const found = judge(everywhere());
  assert.deepEqual(
    found.map(({ holds }) => holds),
    [true, true],
  );
  assert.deepEqual(
    found.map(({ compared, broken }) => [compared, broken]),
    [
      [6, 0],
      [8, 0],
    ],
  );
});

test("5 % over the best fixed choice is allowed, more is not, and the worst is named", () => {
  const withBest = (totalMs: number) =>
    judge(
      everywhere([
        { case: "godwit-auto", totalMs },
        { case: "godwit-zstd", totalMs: 1_000 },
      ]),
    )[0];
  assert.equal(withBest(1_050)?.holds, true);
  const broken = withBest(1_051);
  assert.equal(broken?.holds, false);
  assert.equal(broken?.broken, 3);
  assert.match(broken?.worst ?? "", /^idle, 100 Mbit\/s, time against best fixed \(godwit-zstd\)/);
});

test("2 % over none is allowed, more is not", () => {
  const withNone = (totalMs: number) =>
    judge(
      everywhere([
        { case: "godwit-auto", totalMs },
        { case: "godwit-none", totalMs: 1_000 },
      ]),
    )[0];
  assert.equal(withNone(1_020)?.holds, true);
  assert.equal(withNone(1_021)?.holds, false);
  assert.match(withNone(1_021)?.worst ?? "", /against godwit-none: 1\.021/);
});

test("as much as QEMU is not less: neither in time nor in bytes", () => {
  const against = (given: Partial<Run>) =>
    judge(everywhere([{ case: "qemu-xbzrle", totalMs: 2_000, wireBytes: 2e6, ...given }]))[1];
  assert.equal(against({ totalMs: 1_000 })?.holds, false);
  assert.equal(against({ totalMs: 1_001 })?.holds, true);
  assert.equal(against({ wireBytes: 1e6 })?.holds, false);
  assert.match(against({ wireBytes: 1e6 })?.worst ?? "", /bytes against qemu-xbzrle: 1\.000/);
});

test("who finishes wins over who was given up, in bytes too", () => {
  const given = { case: "qemu-xbzrle", totalMs: undefined, wireBytes: 1 };
  assert.equal(judge(everywhere([given]))[1]?.holds, true);
  const alone = judge(everywhere([{ case: "godwit-auto", totalMs: undefined }]));
  assert.deepEqual(
    alone.map(({ holds }) => holds),
    [false, false],
  );
  assert.match(alone[0]?.worst ?? "", /auto did not finish/);
});

test("where neither finishes, auto is not slower, but not better than QEMU", () => {
  const all = [...fixed, ...qemu, "godwit-auto"].map((name) => ({
    case: name,
    totalMs: undefined,
  }));
  assert.deepEqual(
    judge(everywhere(all)).map(({ holds }) => holds),
    [true, false],
  );
});

test("links of other promises do not count", () => {
  const slow = place(200, [{ case: "godwit-auto", totalMs: 9_000 }]);
  const others = [100, 1_000, 10_000].flatMap((link) => place(link));
  const [first, second] = judge([...slow, ...others]);
  assert.equal(first?.holds, true);
  assert.equal(second?.holds, false);
});

test("what was not measured is named and leaves it open", () => {
  const [first, second] = judge(place(1_000).filter((one) => one.case !== "godwit-zstd"));
  assert.equal(first?.holds, null);
  assert.deepEqual(first?.missing, ["100 Mbit/s", "10000 Mbit/s", "godwit-zstd"]);
  assert.deepEqual(second?.missing, ["200 Mbit/s"]);
  assert.match(verdictText(first), /^HOLDS SO FAR: .*\n.*\n.*\n {2}not measured: 100/);
});

test("without auto, or with nothing at all, nothing holds and nothing is broken", () => {
  const runs = everywhere().filter((one) => one.case !== "godwit-auto");
  assert.deepEqual(
    [...judge(runs), ...judge([])].map(({ holds, worst }) => [holds, worst]),
    Array.from({ length: 4 }, () => [null, null]),
  );
  assert.match(judge([]).map(verdictText).join(""), /^NOT MEASURED/);
});

test("a migration that broke off leaves it open", () => {
  const [first] = judge(everywhere(), ["idle 100 Mbit/s godwit-zstd: QEMU ended"]);
  assert.equal(first?.holds, null);
  assert.match(verdictText(first), /QEMU ended/);
});
