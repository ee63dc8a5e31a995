import { type Catalog, openCatalog } from './catalog/catalog.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { type Limits, limits as limitsOf } from './core/limits.ts';
import { type Random, systemRandom } from './core/random.ts';
import { LogWriter } from './log/append.ts';
import { ServerClock } from './log/server-clock.ts';
import { ObjectRunStore } from './runs/object-run-store.ts';
import { Recorder } from './runs/recorder.ts';
import type { RunStore } from './runs/run-store.ts';
import type { ObjectStore } from './store/object-store.ts';

/** Everything one process needs, on one store. */
export interface Session {
  store: ObjectStore;
  runs: RunStore;
  recorder: Recorder;
  catalog: Catalog;
  clock: Clock;
  random: Random;
  limits: Limits;
  /** Waits for appends in flight. The store stays open: it belongs to the caller. */
  close(): Promise<void>;
}

export interface SessionOptions {
  clock?: Clock;
  random?: Random;
  limits?: Partial<Limits>;
  runs?: RunStore;
}

/** Wires recorder and reader onto one store. No request is made. */
export function openSession(store: ObjectStore, options: SessionOptions = {}): Session {
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const limits = limitsOf(options.limits);
  const runs = options.runs ?? new ObjectRunStore(store, limits);
  const serverClock = new ServerClock(clock);
  const log = new LogWriter(store, { clock, serverClock, random, limits });
  const recorder = new Recorder(runs, log, { limits, now: () => serverClock.now() });
  const catalog = openCatalog(store, { clock, limits, runs });
  return { store, runs, recorder, catalog, clock, random, limits, close: () => log.idle() };
}
