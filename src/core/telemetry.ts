import { type Clock, systemClock } from './clock.ts';

/**
 * What can be watched, and what is told of it: numbers, and words from closed sets. Never a token, a payload or what a
 * run holds. Durations in ms.
 */
export interface Operations {
  /** One HTTP request, from its headers to its answer. `code`: why it was refused. */
  request: { method: string; route: string; status: number; code: string; waits: boolean };
  /** One refresh of one org. `tail_age_ms`: of the oldest entry that no fold has taken; full refreshes only. */
  refresh: {
    cold: boolean;
    rounds: number;
    requests: number;
    bytes: number;
    tail_entries: number;
    tail_records: number;
    tail_age_ms: number;
    intents_asked: number;
    quarantined: number;
    fallback: boolean;
  };
  /** One caller's records, from the call until they are durable. */
  append: { records: number };
  /** One org's fold and what it collected. `lag_ms`: age of the oldest entry that it found unfolded. */
  fold: {
    outcome: 'committed' | 'clean' | 'deferred' | 'lost';
    entries: number;
    records: number;
    ties: number;
    waiting: number;
    /** Entries of a tail that is not yet worth a fold. */
    deferred: number;
    lag_ms: number;
    /** Entries set aside by this fold, and all that are missing because of it or an earlier one. */
    quarantined: number;
    quarantine: number;
    collected: number;
    /** Objects that committed versions gave up and whose grace is not over. */
    garbage: number;
  };
  /** One archive pass over the logs of one org. `oldest_age_ms`: since the first ended run whose log waits has ended. */
  archive: {
    archived: number;
    partial: number;
    lost: number;
    failed: number;
    mismatches: number;
    bytes: number;
    waiting: number;
    due: number;
    oldest_age_ms: number;
  };
  /** One pass over many orgs. `full`: it came to all that there are. */
  pass: { orgs: number; failed: number; deferred: number; full: boolean };
}
export type Operation = keyof Operations;

/** What happens and has no length worth a span. */
export interface Happenings {
  /** One call of the store port, with its retries. */
  store: { operation: StoreOperation; outcome: string; ms: number };
  /** One more attempt of a call. */
  retry: { operation: string };
  /** One entry, written or given up. `attempts`: names that it was written under. */
  entry: { records: number; bytes: number; attempts: number; acknowledged: boolean };
  /** A pass has come to an org. */
  reached: { org: string };
  /** One look into a service's cache of orgs. */
  lookup: { result: 'hit' | 'stale' | 'miss' };
}
type Happening = keyof Happenings;
type StoreOperation = 'get' | 'head' | 'put' | 'delete' | 'list';

export type Facts<O extends Operation> = Partial<Operations[O]> & { org?: string | undefined };
export type Note<O extends Operation> = (facts: Facts<O>) => void;

/** What is known when an operation begins. `parent`: reads a header of the request that it belongs to. */
export type Start<O extends Operation> = Facts<O> & {
  parent?: ((header: string) => string | null) | undefined;
};

export interface Watcher {
  begin?<O extends Operation>(operation: O, start: Start<O>): Watching<O>;
  /** Called when an operation has ended. `ms`: how long it took. */
  ended?<O extends Operation>(operation: O, facts: Facts<O>, ms: number, error: unknown): void;
  tell?<H extends Happening>(happening: H, facts: Happenings[H]): void;
}

export interface Watching<O extends Operation> {
  /** Runs the work where it can be seen to belong to this operation. */
  within<T>(work: () => T): T;
  end(facts: Facts<O>, error: unknown): void;
}

/**
 * Where the library says what it does, for whoever wants to watch: tracers, meters. Without a watcher it costs
 * nothing. What a watcher throws is a defect of the watcher.
 */
export class Telemetry {
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** The same watcher twice is one. */
  add(watcher: Watcher): this {
    this.#watchers.add(watcher);
    return this;
  }

  get watched(): boolean {
    return this.#watchers.size > 0;
  }

  /** Does the work. What is noted counts when it ends; of two notes of one fact the later. Errors pass. */
  run<O extends Operation, T>(
    operation: O,
    { parent, ...start }: Start<O>,
    work: (note: Note<O>) => Promise<T>,
  ): Promise<T> {
    if (!this.watched) return work(() => undefined);
    return this.#watch(operation, { ...start, parent } as Start<O>, work);
  }

  tell<H extends Happening>(happening: H, facts: Happenings[H]): void {
    for (const watcher of this.#watchers) watcher.tell?.(happening, facts);
  }

  async #watch<O extends Operation, T>(
    operation: O,
    start: Start<O>,
    work: (note: Note<O>) => Promise<T>,
  ): Promise<T> {
    const { parent: _, ...known } = start;
    const facts = known as Facts<O>;
    const began = this.#clock.monotonic();
    const watching = [...this.#watchers].flatMap((watcher) => watcher.begin?.(operation, start) ?? []);
    const end = (error: unknown) => {
      const ms = this.#clock.monotonic() - began;
      for (const one of watching) one.end(facts, error);
      for (const watcher of this.#watchers) watcher.ended?.(operation, facts, ms, error);
    };
    const inner = () => work((more) => Object.assign(facts, more));
    const outer = watching.reduce<() => Promise<T>>((next, one) => () => one.within(next), inner);
    let failure: unknown = null;
    try {
      return await outer();
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      end(failure);
    }
  }
}

/** Nobody watches. */
export const unwatched = new Telemetry();
