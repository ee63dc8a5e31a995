import { type Catalog, openCatalog } from './catalog/catalog.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { type Limits, limits as limitsOf } from './core/limits.ts';
import { type Random, systemRandom } from './core/random.ts';
import { Telemetry } from './core/telemetry.ts';
import { LogWriter } from './log/append.ts';
import { ObjectRunStore } from './runs/object-run-store.ts';
import { Recorder } from './runs/recorder.ts';
import { RunKeys } from './runs/run-keys.ts';
import type { RunStore } from './runs/run-store.ts';
import type { ObjectStore } from './store/object-store.ts';
import { calibrating, ServerClock, timeAsked } from './store/server-clock.ts';
import { watched } from './store/watched.ts';
import { Traces } from './traces/traces.ts';

/** Everything one process needs, on one store. */
export interface Session {
  store: ObjectStore;
  runs: RunStore;
  recorder: Recorder;
  catalog: Catalog;
  /** Logs of runs. */
  traces: Traces;
  clock: Clock;
  /** The store's clock as far as it is known; local time before the first request. */
  serverClock: ServerClock;
  random: Random;
  limits: Limits;
  /** Says what goes on to whoever is added: see `runfold/telemetry`. */
  telemetry: Telemetry;
  /** Waits for appends in flight. The store stays open: it belongs to the caller. */
  close(): Promise<void>;
}

export interface SessionOptions {
  clock?: Clock;
  random?: Random;
  limits?: Partial<Limits>;
  runs?: RunStore;
  /** Default: one of its own, with nobody watching. */
  telemetry?: Telemetry;
}

/** Wires recorder and reader onto one store. No request is made. */
export function openSession(bare: ObjectStore, options: SessionOptions = {}): Session {
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const limits = limitsOf(options.limits);
  const serverClock = new ServerClock(clock);
  const telemetry = options.telemetry ?? new Telemetry(clock);
  const store = calibrating(watched(bare, clock, telemetry), clock, serverClock);
  const runs = options.runs ?? new ObjectRunStore(store, limits);
  const log = new LogWriter(store, { clock, serverClock, random, limits, telemetry });
  const recorder = new Recorder(runs, log, {
    limits,
    runKeys: new RunKeys(store),
    now: () => serverClock.now(),
    // Reading a run tells the time where runs are objects of this store; where they are not, nothing has told it yet.
    ready: timeAsked(store, serverClock),
  });
  // Without runs of its own the catalog reads intents' runs through its counted store.
  const catalog = openCatalog(store, { clock, limits, telemetry, ...(options.runs ? { runs } : {}) });
  const traces = new Traces({ store, runs, recorder, clock, random, limits });
  return {
    store,
    runs,
    recorder,
    catalog,
    traces,
    clock,
    serverClock,
    random,
    limits,
    telemetry,
    close: () => log.idle(),
  };
}
