/** Virtual time: events happen in the order of their times, and of their making when the times are equal. */
export interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

export class VirtualClock {
  nowMs = 0;
  #order = 0;
  /** A binary heap, earliest first. */
  readonly #heap: Timer[] = [];

  after(ms: number, run: () => void): Timer {
    const timer = { atMs: this.nowMs + ms, order: this.#order++, run, cancelled: false };
    this.#heap.push(timer);
    this.#up(this.#heap.length - 1);
    return timer;
  }

  /** Runs the next event; false when nothing is left to happen. */
  step(): boolean {
    for (;;) {
      const timer = this.#pop();
      if (timer === undefined) return false;
      if (timer.cancelled) continue;
      this.nowMs = timer.atMs;
      timer.run();
      return true;
    }
  }

  #pop(): Timer | undefined {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (first === undefined || last === undefined || this.#heap.length === 0) return first;
    this.#heap[0] = last;
    this.#down();
    return first;
  }

  #up(from: number): void {
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#swapIfEarlier(index, parent)) return;
      index = parent;
    }
  }

  #down(): void {
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const right = left + 1;
      if (left >= this.#heap.length) return;
      const child = right < this.#heap.length && this.#earlier(right, left) ? right : left;
      if (!this.#swapIfEarlier(child, index)) return;
      index = child;
    }
  }

  #earlier(a: number, b: number): boolean {
    const x = this.#heap[a] as Timer;
    const y = this.#heap[b] as Timer;
    return x.atMs < y.atMs || (x.atMs === y.atMs && x.order < y.order);
  }

  #swapIfEarlier(a: number, b: number): boolean {
    if (!this.#earlier(a, b)) return false;
    const x = this.#heap[a] as Timer;
    this.#heap[a] = this.#heap[b] as Timer;
    this.#heap[b] = x;
    return true;
  }
}
