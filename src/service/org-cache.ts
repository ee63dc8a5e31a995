import { LRUCache } from 'lru-cache';
import { OrgCatalog } from '../catalog/catalog.ts';
import type { CatalogState } from '../catalog/state.ts';
import type { RefreshStats } from '../catalog/stats.ts';
import type { Clock } from '../core/clock.ts';
import type { Session } from '../session.ts';
import type { ServiceLimits } from './limits.ts';

/** One org as of one refresh. Never changes; the next refresh makes another, with the same `state` if nothing is new. */
export interface OrgSnapshot {
  readonly orgId: string;
  readonly catalog: OrgCatalog;
  readonly state: CatalogState;
  /** The same as long as `state` is the same; another in every process. */
  readonly tag: string;
  /** Monotonic ms: everything acknowledged before is in `state`. */
  readonly asOf: number;
  /** The same in server time, and entries that are in `state` too: see OrgCatalog.place. */
  readonly listedAt: number;
  readonly listed: ReadonlySet<string>;
  /** What the catalog object gave, before it was found to be the same as before. */
  readonly given: CatalogState;
  /** What damage keeps out of `state`, in one sentence; null: nothing. */
  readonly incomplete: string | null;
}

/** Corrupt objects are never served, and never passed over in silence either (law 8). */
export function incompleteOf({ quarantined, fallbackVersion }: RefreshStats): string | null {
  if (fallbackVersion !== null) return `the head is corrupt; read from version ${fallbackVersion}`;
  if (quarantined === 0) return null;
  return quarantined === 1 ? '1 entry is quarantined' : `${quarantined} entries are quarantined`;
}

export interface OrgCacheHooks {
  onRefresh?: (orgId: string, stats: RefreshStats) => void;
  /** A background refresh failed: the stale answer was served, and nobody else will hear of it. */
  onBackgroundError?: (orgId: string, error: unknown) => void;
}

interface Flight {
  readonly catalog: OrgCatalog;
  users: number;
}

/** Records and objects in an overlay are plain JavaScript: about so much each. */
const OVERLAY_RECORD_BYTES = 2_048;
const BASE_BYTES = 16_384;

/**
 * The catalogs of the orgs that were asked for lately, bounded in bytes. Refreshes of one org are shared
 * (OrgCatalog.refresh); an org that is not asked for any more costs nothing.
 */
export class OrgCache {
  readonly #session: Session;
  readonly #clock: Clock;
  readonly #limits: ServiceLimits;
  readonly #hooks: OrgCacheHooks;
  readonly #snapshots: LRUCache<string, OrgSnapshot>;
  /** Orgs being refreshed: all callers must use one catalog object, or nothing would be shared. */
  readonly #flights = new Map<string, Flight>();
  readonly #revalidating = new Set<string>();
  readonly #process: string;
  #tags = 0;

  constructor(session: Session, clock: Clock, limits: ServiceLimits, hooks: OrgCacheHooks = {}) {
    this.#session = session;
    this.#clock = clock;
    this.#limits = limits;
    this.#hooks = hooks;
    this.#process = session.random.u32().toString(36);
    this.#snapshots = new LRUCache({ maxSize: limits.orgCacheBytesMax, sizeCalculation: sizeOf });
  }

  get bytes(): number {
    return this.#snapshots.calculatedSize;
  }

  get orgs(): number {
    return this.#snapshots.size;
  }

  /**
   * A snapshot that is at most `maxAgeMs` old; 0 asks the store, after the call began (law 3). Without a wish: up to
   * `freshMs` as it is; up to `staleMs` as it is while it is refreshed behind the caller's back; older, or none:
   * refreshed first.
   */
  async get(orgId: string, maxAgeMs: number | null, signal: AbortSignal): Promise<OrgSnapshot> {
    const known = this.#snapshots.get(orgId);
    const age = known === undefined ? Number.POSITIVE_INFINITY : this.ageMs(known);
    const { freshMs, staleMs } = this.#limits;
    const fresh = Math.min(maxAgeMs ?? freshMs, staleMs);
    if (known !== undefined && age <= fresh && fresh > 0) {
      this.#session.telemetry.tell('lookup', { result: 'hit' });
      return known;
    }
    if (known !== undefined && maxAgeMs === null && age <= staleMs) {
      this.#session.telemetry.tell('lookup', { result: 'stale' });
      this.#revalidate(orgId);
      return known;
    }
    this.#session.telemetry.tell('lookup', { result: 'miss' });
    return this.#refresh(orgId, signal);
  }

  ageMs({ asOf }: OrgSnapshot): number {
    return this.#clock.monotonic() - asOf;
  }

  #revalidate(orgId: string): void {
    if (this.#revalidating.has(orgId)) return;
    this.#revalidating.add(orgId);
    const signal = AbortSignal.timeout(this.#limits.requestDeadlineMs);
    this.#refresh(orgId, signal)
      .catch((error: unknown) => this.#hooks.onBackgroundError?.(orgId, error))
      .finally(() => this.#revalidating.delete(orgId));
  }

  async #refresh(orgId: string, signal: AbortSignal): Promise<OrgSnapshot> {
    const flight = this.#board(orgId);
    try {
      const asOf = this.#clock.monotonic();
      await flight.catalog.refresh({ signal });
      return this.#keep(orgId, flight.catalog, asOf);
    } finally {
      if (--flight.users === 0) this.#flights.delete(orgId);
    }
  }

  #board(orgId: string): Flight {
    let flight = this.#flights.get(orgId);
    if (flight === undefined) {
      const { store, clock, limits, runs, telemetry } = this.#session;
      const catalog =
        this.#snapshots.peek(orgId)?.catalog ??
        new OrgCatalog(store, orgId, { clock, limits, runs, telemetry });
      flight = { catalog, users: 0 };
      this.#flights.set(orgId, flight);
    }
    flight.users++;
    return flight;
  }

  #keep(orgId: string, catalog: OrgCatalog, asOf: number): OrgSnapshot {
    const before = this.#snapshots.peek(orgId) ?? null;
    const given = catalog.state;
    const { listedAt, listed } = catalog.place;
    if (before !== null && before.given === given) {
      // Another caller shared this refresh and was here first.
      if (before.asOf >= asOf) return before;
      return this.#set({ ...before, asOf, listedAt, listed });
    }
    this.#hooks.onRefresh?.(orgId, catalog.stats);
    const incomplete = incompleteOf(catalog.stats);
    if (before !== null && isSameState(before.state, given)) {
      return this.#set({
        ...before,
        catalog,
        asOf: Math.max(asOf, before.asOf),
        listedAt,
        listed,
        given,
        incomplete,
      });
    }
    const tag = `${this.#process}-${(++this.#tags).toString(36)}`;
    const snapshot = {
      orgId,
      catalog,
      state: given,
      tag,
      asOf: Math.max(asOf, before?.asOf ?? 0),
      listedAt,
      listed,
      given,
      incomplete,
    };
    return this.#set(snapshot);
  }

  #set(snapshot: OrgSnapshot): OrgSnapshot {
    this.#snapshots.set(snapshot.orgId, snapshot);
    return snapshot;
  }
}

function sizeOf({ state }: OrgSnapshot): number {
  return Math.ceil(BASE_BYTES + state.base.sizeBytes + state.overlay.size * OVERLAY_RECORD_BYTES);
}

/** Whether a refresh brought nothing: a warm one copies the overlay and leaves what it knew as it was. */
function isSameState(a: CatalogState, b: CatalogState): boolean {
  if (a.base !== b.base || a.manifest !== b.manifest) return false;
  const [was, is] = [a.overlay.facts, b.overlay.facts];
  if (was.size !== is.size) return false;
  for (const [runId, fact] of is) if (was.get(runId) !== fact) return false;
  return true;
}
