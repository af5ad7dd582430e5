import assert from "node:assert/strict";
import { test } from "node:test";
import { Race, Stay } from "./race.ts";

const worth = 256 << 10;

/** A link, or whatever it is that takes batches at two speeds: as they are, and with the method in use. */
class Course {
  readonly race = new Race();
  readonly #bytesPerMs: (isRaced: boolean) => number;
  nowMs = 0;
  racedCount = 0;
  #freeMs = 0;
  #arrivedCount = 0;
  readonly #onTheWay: number[] = [];

  constructor(bytesPerMs: (isRaced: boolean) => number) {
    this.#bytesPerMs = bytesPerMs;
  }

  /** For so long, with a MiB in flight. Answers when a race was won. */
  run(untilMs: number): number | undefined {
    while (this.nowMs < untilMs) {
      const isRaced = this.race.next(this.nowMs, true, Number.POSITIVE_INFINITY);
      this.race.sent(worth, isRaced);
      if (isRaced) this.racedCount++;
      this.#freeMs = Math.max(this.#freeMs, this.nowMs) + worth / this.#bytesPerMs(isRaced);
      this.#onTheWay.push(this.#freeMs);
      while (this.#onTheWay.length >= 4) {
        this.nowMs = this.#onTheWay.shift() as number;
        if (this.race.arrived(++this.#arrivedCount, this.nowMs)) return this.nowMs;
      }
    }
    return undefined;
  }
}

test("memory that gets through faster as it is wins, soon", () => {
  const wonMs = new Course((isRaced) => (isRaced ? 300_000 : 100_000)).run(1000);
  assert.ok(wonMs !== undefined && wonMs < 120, `${wonMs} ms`);
});

test("a difference that is no difference does not win", () => {
  assert.equal(new Course((isRaced) => (isRaced ? 105_000 : 100_000)).run(1000), undefined);
});

test("who loses tries again ever more seldom; where little gets through, with no more", () => {
  const even = new Course(() => 100_000);
  even.run(20_000);
  assert.ok(even.racedCount > 10 && even.racedCount < 80, `${even.racedCount} batches`);
  const slow = new Course((isRaced) => (isRaced ? 20_000 : 100_000));
  assert.equal(slow.run(20_000), undefined);
  assert.ok(slow.racedCount <= even.racedCount, `${slow.racedCount} batches`);
});

test("what is in flight meanwhile is bounded by what arrives", () => {
  const { race } = new Course(() => 0);
  assert.equal(race.inFlightBytesMax(0), undefined);
  for (let i = 1; i <= 20; i++) {
    race.sent(worth, false);
    race.arrived(i, i * 5);
  }
  assert.equal(race.next(100, true, Number.POSITIVE_INFINITY), true);
  assert.equal(race.inFlightBytesMax(100), 512 << 10);
  for (let i = 21; i <= 28; i++) {
    race.sent(worth, true);
    race.arrived(i, 100 + (i - 20) / 2);
  }
  assert.equal(race.inFlightBytesMax(104), ((8 * worth) / 4) * 10);
});

test("a race is neither begun nor gone on with once nothing is to be tried any more", () => {
  const course = new Course((isRaced) => (isRaced ? 300_000 : 100_000));
  course.race.stop();
  assert.equal(course.run(1000), undefined);
  assert.equal(course.racedCount, 0);
});

test("memory stays as it is for a time, but not on a link that is known to be slow", () => {
  const stay = new Stay();
  const fast = { bytesPerMs: 300_000, familiarMs: 500 };
  assert.equal(stay.isOn(0, fast, 100_000), false);
  stay.begin(0, true);
  assert.deepEqual([stay.isOn(999, fast, 1e5), stay.isOn(1000, fast, 1e5)], [true, false]);
  stay.begin(2000, true);
  assert.equal(stay.isOn(5900, fast, 1e5), true);
  assert.equal(stay.isOn(5901, { bytesPerMs: 50_000, familiarMs: 50 }, 1e5), true);
  assert.equal(stay.isOn(5902, { bytesPerMs: 50_000, familiarMs: 100 }, 1e5), false);
});

test("what the link cannot carry is not tried because the method in use was held up lately", () => {
  const { race } = new Course(() => 0);
  let count = 0;
  const arrive = (untilMs: number, everyMs: number): void => {
    for (let nowMs = untilMs - 1000; nowMs <= untilMs; nowMs += everyMs) {
      race.sent(worth, false);
      race.arrived(++count, nowMs);
    }
  };
  // 100 MB/s for a second, then 13 for half of one: a link of 25 MB/s still cannot be faster without it, one of 250 can.
  arrive(1000, worth / 100_000);
  race.sent(worth, false);
  for (let nowMs = 1020; nowMs <= 1500; nowMs += 20) {
    race.sent(worth, false);
    race.arrived(++count, nowMs);
  }
  assert.equal(race.next(1500, true, 25_000), false);
  assert.equal(race.next(1500, true, 250_000), true);
});
