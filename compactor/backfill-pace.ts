import type { Clock } from '../src/core/clock.ts';

export interface BackfillProgress {
  phase: 'legacy' | 'planning' | 'indexing';
  done: number;
  /** Null while it is not known. */
  total: number | null;
  perSecond: number;
  etaMs: number | null;
}

/** Keeps a rate, and tells how long the rest will take at the rate so far. */
export class Pace {
  readonly #clock: Clock;
  readonly #perSecond: number | undefined;
  #began: number;
  /** When the next run may be read. */
  #next: number;

  constructor(clock: Clock, perSecond?: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#began = clock.monotonic();
    this.#next = this.#began;
  }

  restart(): void {
    this.#began = this.#clock.monotonic();
  }

  /** Waits until `runs` more may be read. */
  async take(runs: number, signal?: AbortSignal): Promise<void> {
    if (this.#perSecond === undefined) return;
    const now = this.#clock.monotonic();
    const at = Math.max(now, this.#next);
    this.#next = at + (runs * 1000) / this.#perSecond;
    if (at > now) await this.#clock.sleep(at - now, signal);
  }

  progress(phase: BackfillProgress['phase'], done: number, total: number | null): BackfillProgress {
    const ms = this.#clock.monotonic() - this.#began;
    const perSecond = ms > 0 ? (done * 1000) / ms : 0;
    const etaMs = total === null || perSecond === 0 ? null : (Math.max(0, total - done) / perSecond) * 1000;
    return { phase, done, total, perSecond, etaMs };
  }
}
