import type { Clock } from '../../src/core/clock.ts';

interface Sleeper {
  at: number;
  order: number;
  wake: () => void;
}

/** A plausible start: far from zero, so that subtracting graces and lags never meets it. */
export const START = Date.UTC(2026, 10, 20, 12);

/** Time that stands still until the test moves it. */
export class FakeClock implements Clock {
  #elapsed = 0;
  #order = 0;
  readonly #start: number;
  #sleepers: Sleeper[] = [];

  constructor(start = START) {
    this.#start = start;
  }

  now(): number {
    return this.#start + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper = { at: this.#elapsed + Math.max(0, ms), order: this.#order++, wake };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Moves time on by `ms`, waking who sleeps on the way, in order. */
  async advance(ms: number): Promise<void> {
    const until = this.#elapsed + ms;
    for (;;) {
      await settle();
      const next = this.#next();
      if (next === undefined || next.at > until) break;
      this.#wake(next);
    }
    this.#elapsed = until;
    await settle();
  }

  /** Waits for `work`, moving time to the next sleeper whenever nothing else can go on. */
  async run<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const watched = work.finally(() => {
      done = true;
    });
    watched.catch(() => undefined);
    await settle();
    while (!done) {
      const next = this.#next();
      if (next !== undefined) this.#wake(next);
      await settle();
    }
    return watched;
  }

  /** The wall clock of another machine, wrong by `offsetMs`; time passes as here. */
  offBy(offsetMs: number): Clock {
    return {
      now: () => this.now() + offsetMs,
      monotonic: () => this.monotonic(),
      sleep: (ms, signal) => this.sleep(ms, signal),
    };
  }

  #next(): Sleeper | undefined {
    return this.#sleepers.toSorted((a, b) => a.at - b.at || a.order - b.order)[0];
  }

  #wake(sleeper: Sleeper): void {
    this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
    this.#elapsed = Math.max(this.#elapsed, sleeper.at);
    sleeper.wake();
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
