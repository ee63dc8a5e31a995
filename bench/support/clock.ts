import type { Clock } from '../../src/core/clock.ts';
import { cpuMs } from './cpu.ts';

interface Sleeper {
  at: number;
  order: number;
  wake: () => void;
}

/**
 * Time in which waiting costs nothing and computing costs the CPU time it takes: while nothing can run, it jumps to the
 * next sleeper. So a refresh of ten simulated minutes is measured in the seconds that it computes, timers are exact,
 * and what other processes do does not show.
 *
 * For stores in memory: what waits for a real socket or file looks idle to it. With `computing: false` only sleeping
 * takes time: then, on a store where each request takes one unit, the time of an operation is its rounds.
 */
export class SkippingClock implements Clock {
  #skipped = 0;
  #order = 0;
  #pumping = false;
  readonly #computing: boolean;
  readonly #start: number;
  readonly #origin = cpuMs();
  readonly #heap: Sleeper[] = [];

  constructor({ computing = true, start = Date.UTC(2026, 10, 20, 12) } = {}) {
    this.#computing = computing;
    this.#start = start;
  }

  now(): number {
    return Math.floor(this.#start + this.monotonic());
  }

  monotonic(): number {
    return this.#skipped + (this.#computing ? cpuMs() - this.#origin : 0);
  }

  /** Lets time pass for which nobody sleeps. */
  skip(ms: number): void {
    this.#skipped += ms;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper: Sleeper = {
        at: this.monotonic() + Math.max(0, ms),
        order: this.#order++,
        wake: resolve,
      };
      if (signal !== undefined) {
        const onAbort = () => {
          // Stays in the heap as nobody, until its time.
          sleeper.wake = () => undefined;
          reject(signal.reason);
        };
        sleeper.wake = () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
        signal.addEventListener('abort', onAbort, { once: true });
      }
      this.#push(sleeper);
      this.#pump();
    });
  }

  /** A turn of the event loop after every promise that could settle has: then all that is left is waiting. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      const next = this.#heap[0];
      if (next === undefined) return;
      this.#skipped += Math.max(0, next.at - this.monotonic());
      const now = this.monotonic();
      while (this.#heap.length > 0 && this.#heap[0]!.at <= now) this.#pop().wake();
      if (this.#heap.length > 0) this.#pump();
    });
  }

  #push(sleeper: Sleeper): void {
    const heap = this.#heap;
    let i = heap.push(sleeper) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && isEarlier(sleeper, heap[parent]!); parent = (i - 1) >> 1) {
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = sleeper;
  }

  #pop(): Sleeper {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isEarlier(heap[child + 1]!, heap[child]!)) child++;
      if (!isEarlier(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function isEarlier(a: Sleeper, b: Sleeper): boolean {
  return a.at !== b.at ? a.at < b.at : a.order < b.order;
}
