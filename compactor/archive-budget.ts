import type { Clock } from '../src/core/clock.ts';
import type { Limits } from '../src/core/limits.ts';

/**
 * Ends a pass: nothing is begun after `totalMs`, and what runs is aborted; later only where a log of many chunks was
 * granted more.
 */
export class Budget {
  readonly totalMs: number;
  readonly #clock: Clock;
  readonly #began: number;
  readonly #over = new AbortController();
  readonly #timer = new AbortController();

  #abortMs: number;

  constructor(clock: Clock, totalMs: number) {
    this.#clock = clock;
    this.#began = clock.monotonic();
    this.totalMs = totalMs;
    this.#abortMs = totalMs;
    this.#wait().then(
      () => this.#over.abort(),
      () => undefined,
    );
  }

  /**
   * What runs may take until `traceChunkBudgetMs` per chunk from now, and never longer than a claim lasts: a log of many
   * chunks is archived whole or not at all, so no number of shorter passes would do.
   */
  grant(chunks: number, { traceChunkBudgetMs, traceClaimMs }: Limits): void {
    const wanted = this.#clock.monotonic() - this.#began + chunks * traceChunkBudgetMs;
    this.#abortMs = Math.max(this.#abortMs, Math.min(wanted, traceClaimMs));
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  isOver(): boolean {
    return this.signal.aborted || this.#clock.monotonic() - this.#began >= this.totalMs;
  }

  async #wait(): Promise<void> {
    for (;;) {
      const left = this.#began + this.#abortMs - this.#clock.monotonic();
      if (left <= 0) return;
      await this.#clock.sleep(left, this.#timer.signal);
    }
  }

  /** The timer must not keep anybody waiting. */
  end(): void {
    this.#timer.abort();
  }
}
