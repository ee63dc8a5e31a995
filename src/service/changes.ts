import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { CatalogState } from '../catalog/state.ts';
import { forEachRow } from '../catalog/views.ts';
import type { Clock } from '../core/clock.ts';
import { throwIfAborted } from '../core/clock.ts';
import type { Projection } from '../runs/projection.ts';
import type { ServiceLimits } from './limits.ts';
import type { OrgCache, OrgSnapshot } from './org-cache.ts';
import { decodeCursor, encodeCursor } from './pages.ts';
import { Problem } from './problem.ts';

export interface Change {
  readonly run_id: string;
  /** Null: the catalog does not have it any more. */
  readonly run: Projection | null;
}

export interface ChangeBatch {
  readonly changes: readonly Change[];
  readonly cursor: string;
  /** More is known already than fits into one answer. */
  readonly more: boolean;
}

/** What changed between the snapshots of one org, numbered; the oldest are forgotten. */
interface Feed {
  readonly epoch: string;
  snapshot: OrgSnapshot;
  /** Number of the newest change. */
  last: number;
  readonly changes: { readonly number: number; readonly change: Change }[];
  watchers: number;
  /** Monotonic ms. */
  usedAt: number;
}

const cursorSchema = z.tuple([z.literal('changes'), z.string(), z.number().int().nonnegative()]);
const FEEDS_MAX = 1_000;

/**
 * Changes since a cursor. A cursor is good in the process that gave it, as long as that remembers so far back; else
 * CURSOR_EXPIRED, and the caller reads the lists again. Between snapshots a run's intermediate states are not seen:
 * each change is the run as it is then. While somebody waits, the org is looked at every `watchPauseMs`, once for
 * all who wait.
 */
export class ChangeFeeds {
  readonly #cache: OrgCache;
  readonly #clock: Clock;
  readonly #limits: ServiceLimits;
  readonly #feeds: LRUCache<string, Feed>;
  readonly #newEpoch: () => string;
  #closed = false;

  constructor(cache: OrgCache, clock: Clock, limits: ServiceLimits, newEpoch: () => string) {
    this.#cache = cache;
    this.#clock = clock;
    this.#limits = limits;
    this.#newEpoch = newEpoch;
    this.#feeds = new LRUCache({ max: FEEDS_MAX });
  }

  /** The cursor of now: what is acknowledged before this call is not reported after it. */
  async start(orgId: string, signal: AbortSignal): Promise<string> {
    const feed = await this.#look(orgId, 0, signal);
    return cursorOf(feed, feed.last);
  }

  /** Waits until something changed or `waitMs` have passed. Throws CURSOR_EXPIRED. */
  async next(orgId: string, cursor: string, waitMs: number, signal: AbortSignal): Promise<ChangeBatch> {
    const [, epoch, seen] = decodeCursor(cursor, cursorSchema);
    const known = this.#feeds.get(orgId);
    if (known === undefined || known.epoch !== epoch) throw expired();
    if (known.watchers >= this.#limits.watchersMax) {
      throw new Problem('RATE_LIMITED', 'Too many callers wait for changes of this org.');
    }
    known.watchers++;
    try {
      const until = this.#clock.monotonic() + waitMs;
      for (let maxAgeMs = 0; ; maxAgeMs = this.#limits.watchPauseMs) {
        throwIfAborted(signal);
        const feed = await this.#look(orgId, maxAgeMs, signal);
        if (feed !== known) throw expired();
        const batch = this.#since(feed, seen);
        const left = until - this.#clock.monotonic();
        if (batch.changes.length > 0 || left <= 0 || this.#closed) return batch;
        await this.#clock.sleep(Math.min(left, this.#limits.watchPauseMs), signal);
      }
    } finally {
      known.watchers--;
    }
  }

  /** Who waits is answered soon: for a service that is about to end. */
  close(): void {
    this.#closed = true;
  }

  #since(feed: Feed, seen: number): ChangeBatch {
    const oldest = feed.last - feed.changes.length;
    if (seen > feed.last || seen < oldest) throw expired();
    const fresh = feed.changes.slice(seen - oldest);
    const sent = fresh.slice(0, this.#limits.pageLimitMax);
    return {
      changes: sent.map(({ change }) => change),
      cursor: cursorOf(feed, sent.at(-1)?.number ?? seen),
      more: fresh.length > sent.length,
    };
  }

  async #look(orgId: string, maxAgeMs: number, signal: AbortSignal): Promise<Feed> {
    const snapshot = await this.#cache.get(orgId, maxAgeMs, signal);
    const now = this.#clock.monotonic();
    let feed = this.#feeds.get(orgId);
    if (feed !== undefined && this.#isForgotten(feed, now)) feed = undefined;
    if (feed === undefined) {
      feed = { epoch: this.#newEpoch(), snapshot, last: 0, changes: [], watchers: 0, usedAt: now };
      this.#feeds.set(orgId, feed);
    } else if (snapshot.asOf > feed.snapshot.asOf) this.#advance(feed, snapshot);
    feed.usedAt = now;
    return feed;
  }

  #isForgotten({ watchers, usedAt }: Feed, now: number): boolean {
    return watchers === 0 && now - usedAt > this.#limits.watchIdleMs;
  }

  #advance(feed: Feed, snapshot: OrgSnapshot): void {
    const before = feed.snapshot;
    feed.snapshot = snapshot;
    if (before.state === snapshot.state) return;
    for (const change of changesBetween(before.state, snapshot.state)) {
      feed.changes.push({ number: ++feed.last, change });
    }
    feed.changes.splice(0, Math.max(0, feed.changes.length - this.#limits.changesMax));
  }
}

function cursorOf({ epoch }: Feed, number: number): string {
  return encodeCursor(['changes', epoch, number]);
}

function expired(): Problem {
  return new Problem(
    'CURSOR_EXPIRED',
    'This process does not remember so far back, or another one gave the cursor.',
    {
      hint: 'Ask for changes without a cursor, then read the lists again.',
    },
  );
}

/**
 * Runs whose row is another. With the same snapshot below, only the tail is compared; after a fold, every row by its
 * revision. A row that left the head is gone only where a tombstone or a delete record says so: others were sealed.
 */
export function changesBetween(before: CatalogState, after: CatalogState): Change[] {
  const changes: Change[] = [];
  if (before.base === after.base && before.manifest === after.manifest) {
    for (const [runId, fact] of after.overlay.facts) {
      if (before.overlay.facts.get(runId) === fact) continue;
      const known = revisionIn(before, runId);
      // A late record of an older revision is no change.
      if (fact.kind === 'put' && fact.row.revision > known) changes.push({ run_id: runId, run: fact.row });
      if (fact.kind === 'delete' && known > 0) changes.push({ run_id: runId, run: null });
    }
    return changes;
  }
  for (const segment of after.segments) {
    forEachRow(segment, (i) => {
      const runId = segment.rows.runId(i);
      if (segment.rows.revision(i) > revisionIn(before, runId)) {
        changes.push({ run_id: runId, run: segment.rows.get(i) });
      }
    });
  }
  const gone = new Set(after.manifest?.tombstones.map(({ run_id }) => run_id));
  for (const [runId, fact] of after.overlay.facts) if (fact.kind === 'delete') gone.add(runId);
  for (const runId of gone) if (revisionIn(before, runId) > 0) changes.push({ run_id: runId, run: null });
  return changes;
}

/** 0: not there. */
function revisionIn({ base, overlay }: CatalogState, runId: string): number {
  const fact = overlay.facts.get(runId);
  if (fact?.kind === 'delete') return 0;
  const at = base.indexOf(runId);
  return Math.max(at < 0 ? 0 : base.revision(at), fact?.row.revision ?? 0);
}
