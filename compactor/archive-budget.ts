import type { Clock } from '../src/core/clock.ts';

/** Ends a pass: nothing is begun after it, and what runs is aborted. */
export class Budget {
  readonly totalMs: number;
  readonly #clock: Clock;
  readonly #began: number;
  readonly #over = new AbortController();
  readonly #timer = new AbortController();

  constructor(clock: Clock, totalMs: number) {
    this.#clock = clock;
    this.#began = clock.monotonic();
    this.totalMs = totalMs;
    clock.sleep(totalMs, this.#timer.signal).then(
      () => this.#over.abort(),
      () => undefined,
    );
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  isOver(): boolean {
    return this.signal.aborted || this.#clock.monotonic() - this.#began >= this.totalMs;
  }

  /** The timer must not keep anybody waiting. */
  end(): void {
    this.#timer.abort();
  }
}
