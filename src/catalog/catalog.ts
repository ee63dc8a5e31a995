import type { Table } from 'apache-arrow';
import { type Clock, systemClock } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { type Limits, limits } from '../core/limits.ts';
import { ObjectRunStore } from '../runs/object-run-store.ts';
import type { Projection } from '../runs/projection.ts';
import type { RunStore } from '../runs/run-store.ts';
import { counting, noRequests, requestsOf } from '../store/counting.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { type Lineage, type LineageQuery, lineageView } from './lineage.ts';
import { type LoadContext, type Loaded, load } from './load.ts';
import type { CatalogState } from './state.ts';
import { emptyStats, type RefreshStats } from './stats.ts';
import { activeView, findRuns, type RunFilter, type TableView, tablesView } from './views.ts';

export interface CatalogOptions {
  clock?: Clock;
  limits?: Partial<Limits>;
  /** Where canonical runs live, to look into unconfirmed intents; the same store by default. */
  runs?: RunStore;
  /** Default true. */
  resolveIntents?: boolean;
}

export interface RefreshOptions {
  signal?: AbortSignal | undefined;
  /** Accept a refresh that began at most this long ago; 0, the default, asks the store. */
  maxAgeMs?: number | undefined;
}

/** The reader SDK. Writes nothing, keeps nothing alive, makes no request before the first `refresh`. */
export function openCatalog(store: ObjectStore, options: CatalogOptions = {}): Catalog {
  return new Catalog(store, options);
}

export class Catalog {
  readonly #store: ObjectStore;
  readonly #options: CatalogOptions;
  readonly #orgs = new Map<string, OrgCatalog>();

  constructor(store: ObjectStore, options: CatalogOptions) {
    this.#store = store;
    this.#options = options;
  }

  /** The same object for the same id, so that its refreshes are shared. Throws InputError for an id that is none. */
  org(orgId: string): OrgCatalog {
    checkId('org id', orgId);
    let org = this.#orgs.get(orgId);
    if (org === undefined) {
      org = new OrgCatalog(this.#store, orgId, this.#options);
      this.#orgs.set(orgId, org);
    }
    return org;
  }
}

/** One org's catalog as of its last refresh. Views are synchronous and cost no request. */
export class OrgCatalog {
  readonly orgId: string;
  readonly #context: LoadContext;
  readonly #counts = noRequests();
  #loaded: Loaded | null = null;
  #stats = emptyStats();
  #running: Promise<void> | null = null;
  /** The next refresh, shared by all callers that came while one was running. */
  #waiting: Promise<void> | null = null;

  constructor(store: ObjectStore, orgId: string, options: CatalogOptions) {
    const bounds = limits(options.limits);
    const counted = counting(store, this.#counts);
    this.orgId = orgId;
    this.#context = {
      store: counted,
      runs: options.runs ?? new ObjectRunStore(counted, bounds),
      clock: options.clock ?? systemClock,
      limits: bounds,
      resolveIntents: options.resolveIntents ?? true,
    };
  }

  /**
   * Brings the catalog up to date: it then shows every transition that was acknowledged before this call (law 3).
   * Calls in the same turn share one refresh; a call that comes while one runs waits for the next, because the
   * running one may have looked too early. Warm: one LIST. Cold: one round, or two (see `stats`).
   */
  async refresh(options: RefreshOptions = {}): Promise<this> {
    const { maxAgeMs = 0, signal } = options;
    signal?.throwIfAborted();
    const age =
      this.#loaded === null
        ? Number.POSITIVE_INFINITY
        : this.#context.clock.monotonic() - this.#loaded.beganAt;
    if (age > maxAgeMs || maxAgeMs <= 0) await abortable(this.#next(), signal);
    return this;
  }

  /** Cost of the last refresh. */
  get stats(): Readonly<RefreshStats> {
    return this.#stats;
  }

  /** The immutable state of the last refresh, for readers that need it to stay put. */
  get state(): CatalogState {
    if (this.#loaded !== null) return this.#loaded.state;
    throw new InputError(`The catalog of org ${this.orgId} was never refreshed.`, {
      hint: 'Await refresh() first.',
    });
  }

  /** Sorted by namespace, then name. */
  tables(): TableView[] {
    return tablesView(this.state);
  }

  /** Newest first, of the state at the time of the call; rows are made one by one. */
  async *runs(filter: RunFilter = {}): AsyncGenerator<Projection, void, void> {
    for (const { rows, i } of findRuns(this.state, filter)) yield rows.get(i);
  }

  /** Runs that have not ended, newest first. */
  active(filter: { queue?: string } = {}): Projection[] {
    return activeView(this.state, filter);
  }

  lineage(query: LineageQuery): Lineage {
    return lineageView(this.state, query);
  }

  /** All rows as an Arrow table, columns as in docs/SCHEMA.md. Loads `apache-arrow`. */
  async toArrow(): Promise<Table> {
    const { toArrow } = await import('../snapshot/arrow.ts');
    return toArrow(this.state.rows());
  }

  #next(): Promise<void> {
    if (this.#waiting !== null) return this.#waiting;
    const before = this.#running ?? Promise.resolve();
    const mine = before
      .catch(() => undefined)
      .then(() => {
        this.#waiting = null;
        this.#running = mine;
        return this.#load();
      })
      .finally(() => {
        if (this.#running === mine) this.#running = null;
      });
    this.#waiting = mine;
    return mine;
  }

  async #load(): Promise<void> {
    const { clock } = this.#context;
    const began = clock.monotonic();
    const before = { ...this.#counts };
    const stats = emptyStats();
    const loaded = await load(this.#context, this.orgId, this.#loaded, (part) => Object.assign(stats, part));
    stats.rounds += stats.intentRounds;
    stats.requests = requestsOf(this.#counts) - requestsOf(before);
    stats.bytes = this.#counts.bytesRead - before.bytesRead;
    stats.rows = loaded.state.rowCount;
    stats.manifestVersion = loaded.state.manifest?.version ?? null;
    stats.totalMs = clock.monotonic() - began;
    this.#loaded = loaded;
    this.#stats = stats;
  }
}

/** Stops waiting when the caller gives up; what others wait for goes on. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
