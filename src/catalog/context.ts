import type { Clock } from '../core/clock.ts';
import type { Limits } from '../core/limits.ts';
import type { RunStore } from '../runs/run-store.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { RefreshStats } from './stats.ts';

/** What a refresh works with. */
export interface LoadContext {
  store: ObjectStore;
  runs: RunStore;
  clock: Clock;
  limits: Limits;
  /** False: unconfirmed intents are not looked into (and law 4 is the caller's). */
  resolveIntents: boolean;
}

/** Notes what a refresh costs while it goes on. */
export type Fill = (stats: Partial<RefreshStats>) => void;
