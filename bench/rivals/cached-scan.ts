import type { Clock } from '../../src/core/clock.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { flatScan } from './flat-scan.ts';
import type { Answer, Rival } from './rival.ts';

export const CACHE_MS = 30_000;

/** A process in front of the flat scan: what it answers may be as old as its cache. */
export class CachedScan {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #answers = new Map<string, { at: number; answer: Promise<Answer> }>();

  constructor(store: ObjectStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  refresh(orgId: string): Promise<Answer> {
    const now = this.#clock.monotonic();
    const known = this.#answers.get(orgId);
    if (known !== undefined && now - known.at < CACHE_MS) return known.answer;
    const answer = flatScan.refresh(this.#store, orgId, this.#clock);
    this.#answers.set(orgId, { at: now, answer });
    answer.catch(() => this.#answers.delete(orgId));
    return answer;
  }
}

/** What a refresh costs that finds the cache empty: after a start, and every 30 s after that. */
export const cachedScan: Rival = {
  name: 'flat scan, 30 s cache',
  about: `${flatScan.about}; kept for 30 s: a hit asks nothing and may be 30 s old, a miss costs the whole scan`,
  prepare: async () => undefined,
  refresh: (store, orgId, clock) => new CachedScan(store, clock).refresh(orgId),
};
