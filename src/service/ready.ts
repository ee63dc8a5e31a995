import { sampleFoldLag } from '../../compactor/lag.ts';
import type { Clock } from '../core/clock.ts';
import { errorMessage } from '../core/errors.ts';
import { withDeadline } from '../core/retry.ts';
import type { Session } from '../session.ts';
import { ORGS_PREFIX } from '../store/keys.ts';
import type { ServiceLimits } from './limits.ts';
import type { Logger } from './logger.ts';
import { Problem } from './problem.ts';

export interface Ready {
  readonly status: 'ready';
  /** How long one LIST of one item took. */
  readonly store_ms: number;
  /** Median of the orgs that were looked at last; null: not known. */
  readonly fold_lag_ms: number | null;
}

interface Cached<T> {
  at: number;
  answer: Promise<T>;
}

/**
 * Whether requests should come here. Anybody may ask, so what it costs is bounded by time, not by who asks: one LIST a
 * second, and a look at the fold lag of a few orgs a minute (compactor/lag.ts). The median of these decides: one org
 * whose folds fail must not take the service away from all others.
 */
export class Readiness {
  readonly #session: Session;
  readonly #clock: Clock;
  readonly #limits: ServiceLimits;
  readonly #logger: Logger;
  #probe: Cached<number | null> | null = null;
  #look: Cached<number | null> | null = null;
  #lagMs: number | null = null;

  constructor(session: Session, clock: Clock, limits: ServiceLimits, logger: Logger) {
    this.#session = session;
    this.#clock = clock;
    this.#limits = limits;
    this.#logger = logger;
  }

  /** By the last look, ms; null before it, and where it failed. */
  get lagMs(): number | null {
    return this.#lagMs;
  }

  /** Throws the problem that says what is amiss: DRAINING, STORE_UNAVAILABLE or FOLD_LAG_EXCEEDED. */
  async check(draining: boolean): Promise<Ready> {
    if (draining) throw new Problem('DRAINING', 'The service is about to end.');
    const { readyProbeMs, readyLookMs } = this.#limits;
    const foldLagMaxMs = this.#session.limits.foldAfterMs + this.#limits.foldLagMaxMs;
    this.#probe = this.#fresh(this.#probe, readyProbeMs) ?? this.#begin(() => this.#storeMs());
    this.#look = this.#fresh(this.#look, readyLookMs) ?? this.#begin(() => this.#medianLagMs());
    const [store_ms, fold_lag_ms] = await Promise.all([this.#probe.answer, this.#look.answer]);
    this.#lagMs = fold_lag_ms;
    if (store_ms === null) {
      throw new Problem('STORE_UNAVAILABLE', 'The store does not answer.', {
        details: { store_ms, fold_lag_ms },
      });
    }
    if (fold_lag_ms !== null && fold_lag_ms > foldLagMaxMs) {
      throw new Problem(
        'FOLD_LAG_EXCEEDED',
        `Entries wait for ${Math.round(fold_lag_ms / 1_000)} s to be folded; the bound is ${foldLagMaxMs / 1_000} s.`,
        {
          hint: 'See whether a compactor runs.',
          details: { store_ms, fold_lag_ms, fold_lag_max_ms: foldLagMaxMs },
        },
      );
    }
    return { status: 'ready', store_ms, fold_lag_ms };
  }

  #fresh<T>(cached: Cached<T> | null, maxAgeMs: number): Cached<T> | null {
    return cached !== null && this.#clock.monotonic() - cached.at < maxAgeMs ? cached : null;
  }

  #begin<T>(ask: () => Promise<T>): Cached<T> {
    return { at: this.#clock.monotonic(), answer: ask() };
  }

  #storeMs(): Promise<number | null> {
    const began = this.#clock.monotonic();
    return this.#within('the store does not answer', async (signal) => {
      await this.#session.store.list({ prefix: ORGS_PREFIX, limit: 1, signal });
      return Math.round(this.#clock.monotonic() - began);
    });
  }

  #medianLagMs(): Promise<number | null> {
    if (!Number.isFinite(this.#limits.foldLagMaxMs)) return Promise.resolve(null);
    return this.#within('the fold lag is not known', async (signal) => {
      const lags = await sampleFoldLag(this.#session, this.#limits.readyLookOrgs, signal);
      // The lower one of two in the middle: more than half of them must be late.
      return Math.round(lags.sort((a, b) => a - b)[(lags.length - 1) >> 1] ?? 0);
    });
  }

  /** Null where it failed or took too long: what that means is the caller's to say. */
  #within<T>(failure: string, ask: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
    return withDeadline(this.#clock, this.#limits.readyDeadlineMs, undefined, ask).catch((error: unknown) => {
      this.#logger.warn({ error: errorMessage(error) }, failure);
      return null;
    });
  }
}
