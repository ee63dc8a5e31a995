import type { Clock } from '../../src/core/clock.ts';

interface Event {
  readonly at: number;
  readonly seq: number;
  run: (() => void) | null;
}

export interface Timer {
  cancel(): void;
}

/** 2026-11-01T00:00:00Z: where every simulation begins. */
export const EPOCH = 1_793_491_200_000;

/**
 * Owns time. Nothing happens but events, one at a time in the order (time, insertion); after each one everything
 * that it set in motion runs to its next wait. So one seed gives one history.
 */
export class Scheduler {
  /** Virtual ms since the start. */
  now = 0;
  /** Events run so far: a total order on what happens. */
  steps = 0;
  #heap: Event[] = [];
  #seq = 0;

  /** True time, as no actor knows it. */
  readonly clock: Clock = {
    now: () => EPOCH + Math.floor(this.now),
    monotonic: () => this.now,
    sleep: (ms, signal) => this.sleep(ms, signal),
  };

  after(ms: number, run: () => void): Timer {
    return this.at(this.now + Math.max(0, ms), run);
  }

  at(time: number, run: () => void): Timer {
    const event: Event = { at: Math.max(time, this.now), seq: this.#seq++, run };
    this.#push(event);
    return {
      cancel: () => {
        event.run = null;
      },
    };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = this.after(ms, resolve);
      signal?.addEventListener(
        'abort',
        () => {
          timer.cancel();
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }

  /** Runs events until `done` or until virtual time `limit`; true when done. */
  async run(done: () => boolean, limit: number): Promise<boolean> {
    await quiet();
    while (!done()) {
      const event = this.#pop();
      if (event === null || event.at > limit) {
        if (event !== null) this.#push(event);
        this.now = Math.max(this.now, Math.min(limit, event?.at ?? limit));
        return done();
      }
      const { run } = event;
      if (run === null) continue;
      this.now = event.at;
      this.steps++;
      run();
      await quiet();
    }
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(event);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
  }

  #pop(): Event | null {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined) return null;
    if (heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

/** Promise jobs run to the end before the next macrotask: nothing moves then. */
function quiet(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.seq < b.seq);
}
