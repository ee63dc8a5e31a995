import type { Table } from 'apache-arrow';
import { type Clock, systemClock, throwIfAborted } from '../core/clock.ts';
import { SharedLook } from '../core/concurrency.ts';
import { InputError, isRunfoldError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { type Limits, limits } from '../core/limits.ts';
import { type Facts, type Telemetry, unwatched } from '../core/telemetry.ts';
import { ObjectRunStore } from '../runs/object-run-store.ts';
import type { Projection } from '../runs/projection.ts';
import type { RunStore } from '../runs/run-store.ts';
import { counting, noRequests, requestsOf } from '../store/counting.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { LoadContext } from './context.ts';
import { type HistoryContext, runsWithHistory } from './history.ts';
import { type Lineage, type LineageQuery, lineageView } from './lineage.ts';
import { type Loaded, load, loadVersion } from './load.ts';
import {
  checkActiveFilter,
  checkCallOptions,
  checkLatestOf,
  checkLineageQuery,
  checkRefreshOptions,
  checkRunFilter,
  checkVersionQuery,
} from './questions.ts';
import { versionUnreadable } from './readable.ts';
import type { CatalogState } from './state.ts';
import { emptyStats, type RefreshStats } from './stats.ts';
import { findVersion, type Version, type VersionQuery } from './versions.ts';
import { activeView, type RunFilter, type TableView, tablesView } from './views.ts';

export interface CatalogOptions {
  clock?: Clock;
  limits?: Partial<Limits>;
  /** Where canonical runs live, to look into unconfirmed intents; the same store by default. */
  runs?: RunStore;
  /** Default true. */
  resolveIntents?: boolean;
  telemetry?: Telemetry;
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

  /** Lets go of an org's state, for processes that see many orgs. Objects that callers hold go on working. */
  forget(orgId: string): void {
    this.#orgs.delete(orgId);
  }

  /**
   * Time travel: exactly what one version's snapshot holds, without the tail. Requests: see findVersion, and one GET
   * for a head that is not inline. Throws VERSION_NOT_FOUND, and SNAPSHOT_EXPIRED, naming versions that can be read,
   * when parts of it are gone: those of its history once they are asked for. Throws InputError for a time to come.
   */
  async open(
    orgId: string,
    query: VersionQuery,
    options: { signal?: AbortSignal } = {},
  ): Promise<OrgSnapshot> {
    checkId('org id', orgId);
    checkVersionQuery(query);
    checkCallOptions(options);
    const bounds = limits(this.#options.limits);
    if ('asOf' in query) checkPast(query.asOf, this.#options.clock ?? systemClock, bounds);
    const history = { store: this.#store, limits: bounds };
    const version = await findVersion(this.#store, orgId, query, options);
    try {
      const state = await loadVersion(this.#store, orgId, version.manifest, options.signal);
      return new OrgSnapshot(history, state, version);
    } catch (error) {
      throw await explained(history, version, error, options);
    }
  }
}

/** What one state of one org says. Views but `runs` are synchronous and cost no request. */
abstract class OrgView {
  abstract readonly orgId: string;
  /** The immutable state behind the views, for readers that need it to stay put. */
  abstract get state(): CatalogState;
  protected abstract readonly history: HistoryContext;

  /** Sorted by namespace, then name. Of head and tail, which hold the latest runs and lineage of every table. */
  tables(): TableView[] {
    return tablesView(this.state);
  }

  /**
   * Newest first, history included, of the state at the time of the call. Rows are made one by one; sealed history is
   * read only when the next row may be there (see runsWithHistory), in ranged GETs. Throws SNAPSHOT_EXPIRED when
   * the state is older than the grace of parts (an hour): refresh, and ask again. Throws InputError for a filter that
   * is none, and CANCELLED, or the signal's own reason, once `signal` is aborted.
   */
  runs(
    filter: RunFilter = {},
    options: { signal?: AbortSignal } = {},
  ): AsyncGenerator<Projection, void, void> {
    checkRunFilter(filter);
    checkCallOptions(options);
    return runsWithHistory(this.history, this.state, filter, options.signal);
  }

  /**
   * The run of that reference which changed last, with that status where one is named; null: there is none. No request
   * where it is newer than all sealed history, else ranged GETs, newest first, until it is found.
   */
  async latestOf(
    referenceId: string,
    options: { status?: RunFilter['status']; signal?: AbortSignal } = {},
  ): Promise<Projection | null> {
    checkLatestOf(referenceId, options);
    const { status, signal } = options;
    const filter = { reference_id: referenceId, status, limit: 1 };
    for await (const run of this.runs(filter, signal === undefined ? {} : { signal })) return run;
    return null;
  }

  /** Runs that have not ended, newest first. */
  active(filter: { queue?: string } = {}): Projection[] {
    checkActiveFilter(filter);
    return activeView(this.state, filter);
  }

  lineage(query: LineageQuery): Lineage {
    checkLineageQuery(query);
    return lineageView(this.state, query);
  }

  /** Rows of head and tail as an Arrow table, columns as in docs/SCHEMA.md. Loads `apache-arrow`. */
  async toArrow(): Promise<Table> {
    const { toArrow } = await import('../snapshot/arrow.ts');
    return toArrow(this.state.rows());
  }
}

/** What will be current then nobody knows. Clocks may differ by as much as names of entries may. */
function checkPast(asOf: number, clock: Clock, { entryLagMaxMs }: Limits): void {
  if (!(asOf > clock.now() + entryLagMaxMs)) return;
  const when = Math.abs(asOf) <= 8.64e15 ? new Date(asOf).toISOString() : String(asOf);
  throw new InputError(`asOf lies in the future: ${when}.`, {
    hint: 'Name a time that has passed; without one the catalog is read as it is now.',
  });
}

/** Why parts of a version are gone, and what can be read instead; any other error as it is. */
async function explained(
  { store, limits }: HistoryContext,
  { manifest }: Version,
  error: unknown,
  options: { signal?: AbortSignal | undefined },
): Promise<unknown> {
  if (!isRunfoldError(error) || error.code !== 'SNAPSHOT_EXPIRED') return error;
  return versionUnreadable(store, limits, manifest, error, options);
}

/** One org as one version of its manifest has it, without the tail: see Catalog.open. */
export class OrgSnapshot extends OrgView {
  readonly orgId: string;
  readonly state: CatalogState;
  readonly version: number;
  /** Server time of its commit, ms; null where it is not known. */
  readonly committedAt: number | null;
  protected readonly history: HistoryContext;
  readonly #version: Version;

  constructor(history: HistoryContext, state: CatalogState, version: Version) {
    super();
    this.orgId = state.orgId;
    this.state = state;
    this.version = version.version;
    this.committedAt = version.committed_at;
    this.history = history;
    this.#version = version;
  }

  override runs(
    filter: RunFilter = {},
    options: { signal?: AbortSignal } = {},
  ): AsyncGenerator<Projection, void, void> {
    return this.#explained(super.runs(filter, options), options);
  }

  async *#explained(
    runs: AsyncGenerator<Projection, void, void>,
    options: { signal?: AbortSignal },
  ): AsyncGenerator<Projection, void, void> {
    try {
      yield* runs;
    } catch (error) {
      throw await explained(this.history, this.#version, error, options);
    }
  }
}

/** One org's catalog as of its last refresh. */
export class OrgCatalog extends OrgView {
  readonly orgId: string;
  protected readonly history: HistoryContext;
  readonly #context: LoadContext;
  readonly #counts = noRequests();
  readonly #telemetry: Telemetry;
  #loaded: Loaded | null = null;
  #stats = emptyStats();
  readonly #shared = new SharedLook(() => this.#load());

  constructor(store: ObjectStore, orgId: string, options: CatalogOptions) {
    super();
    const bounds = limits(options.limits);
    const counted = counting(store, this.#counts);
    this.orgId = orgId;
    this.#telemetry = options.telemetry ?? unwatched;
    this.history = { store: counted, limits: bounds };
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
   * running one may have looked too early. Warm: one LIST. Cold: one round; two for a large head
   * or a log of several pages, more where such a log came in several bursts (see `stats`).
   */
  async refresh(options: RefreshOptions = {}): Promise<this> {
    checkRefreshOptions(options);
    const { maxAgeMs = 0, signal } = options;
    throwIfAborted(signal);
    const age =
      this.#loaded === null
        ? Number.POSITIVE_INFINITY
        : this.#context.clock.monotonic() - this.#loaded.beganAt;
    if (age > maxAgeMs || maxAgeMs <= 0) await this.#shared.next(signal);
    return this;
  }

  /** Cost of the last refresh. */
  get stats(): Readonly<RefreshStats> {
    return this.#stats;
  }

  /** Throws InputError before the first refresh. */
  get state(): CatalogState {
    if (this.#loaded !== null) return this.#loaded.state;
    throw new InputError(`The catalog of org ${this.orgId} was never refreshed.`, {
      hint: 'Await refresh() first.',
    });
  }

  /**
   * How far `state` goes: everything acknowledged before the server time `listedAt` is in it, and so are the entries
   * `listed`, of which some are named later. Of the same refresh as `state`, read in the same turn.
   */
  get place(): Pick<Loaded, 'listedAt' | 'listed'> {
    return this.#loaded ?? { listedAt: 0, listed: new Set() };
  }

  #load(): Promise<void> {
    return this.#telemetry.run('refresh', { org: this.orgId }, async (note) => {
      await this.#loadNow();
      note(factsOf(this.#stats));
    });
  }

  async #loadNow(): Promise<void> {
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

function factsOf(stats: RefreshStats): Facts<'refresh'> {
  const { cold, rounds, requests, bytes, quarantined, tailAgeMs } = stats;
  return {
    cold,
    rounds,
    requests,
    bytes,
    tail_entries: stats.tailEntries,
    tail_records: stats.tailRecords,
    ...(tailAgeMs === null ? {} : { tail_age_ms: tailAgeMs }),
    intents_asked: stats.intentsAsked,
    quarantined,
    fallback: stats.fallbackVersion !== null,
  };
}
