import { LRUCache } from 'lru-cache';
import type { Clock } from '../core/clock.ts';
import { throwIfAborted } from '../core/clock.ts';
import type { Session } from '../session.ts';
import { type Change, changesBetween, mayHaveSealed } from './changes-between.ts';
import {
  type ChangesCursor,
  decodeChanges,
  encodeChanges,
  onwards,
  type Place,
  placeOf,
} from './changes-cursor.ts';
import { Elsewhere } from './changes-elsewhere.ts';
import type { ServiceLimits } from './limits.ts';
import type { OrgCache, OrgSnapshot } from './org-cache.ts';
import { Problem } from './problem.ts';

export interface ChangeBatch {
  readonly changes: readonly Change[];
  readonly cursor: string;
  /** More is known already than fits into one answer. */
  readonly more: boolean;
}

/** What changed between the snapshots of one org, numbered; the oldest are forgotten. */
interface Feed {
  readonly id: string;
  snapshot: OrgSnapshot;
  /** Number of the newest change. */
  last: number;
  /** `before`: where a cursor stands that has not seen it. */
  readonly changes: { readonly number: number; readonly change: Change; readonly before: Place }[];
  watchers: number;
  /** Monotonic ms. */
  usedAt: number;
}

const FEEDS_MAX = 1_000;

/**
 * Changes since a cursor. The process that gave a cursor numbers the changes that it saw since, and tells each once. Any
 * other finds them by the place in the log and in the versions that the cursor names too (changes-elsewhere.ts): none is
 * missed, some may come twice. Between snapshots a run's intermediate states are not seen: each change is the run as it
 * is then. While somebody waits, the org is looked at every `watchPauseMs`, once for all who wait.
 */
export class ChangeFeeds {
  readonly #cache: OrgCache;
  readonly #session: Session;
  readonly #clock: Clock;
  readonly #limits: ServiceLimits;
  readonly #elsewhere: Elsewhere;
  readonly #feeds = new LRUCache<string, Feed>({ max: FEEDS_MAX });
  #closed = false;

  constructor(cache: OrgCache, session: Session, clock: Clock, limits: ServiceLimits) {
    this.#cache = cache;
    this.#session = session;
    this.#clock = clock;
    this.#limits = limits;
    this.#elsewhere = new Elsewhere(session);
  }

  /** The cursor of now: what is acknowledged before this call is not reported after it. */
  async start(orgId: string, signal: AbortSignal): Promise<string> {
    const feed = await this.#look(orgId, 0, signal);
    return cursorOf(feed, feed.last, this.#placeOf(feed.snapshot));
  }

  /** Waits until something changed or `waitMs` have passed. Throws CURSOR_EXPIRED. */
  async next(orgId: string, cursor: string, waitMs: number, signal: AbortSignal): Promise<ChangeBatch> {
    const from = decodeChanges(cursor);
    const until = this.#clock.monotonic() + waitMs;
    const known = from.k === 'at' ? from.place : from;
    const feed = await this.#look(orgId, 0, signal);
    if (feed.watchers >= this.#limits.watchersMax) {
      throw new Problem('RATE_LIMITED', 'Too many callers wait for changes of this org.');
    }
    feed.watchers++;
    try {
      let seen = numberIn(feed, from);
      if (seen === null) {
        seen = feed.last;
        const batch = await this.#since(feed, from, signal);
        if (batch.changes.length > 0 || from.k === 'page') return batch;
      }
      for (;;) {
        throwIfAborted(signal);
        const batch = this.#after(feed, seen, known);
        const left = until - this.#clock.monotonic();
        if (batch.changes.length > 0 || left <= 0 || this.#closed) return batch;
        await this.#clock.sleep(Math.min(left, this.#limits.watchPauseMs), signal);
        const looked = await this.#look(orgId, this.#limits.watchPauseMs, signal);
        // The feed had to begin anew: the place of the cursor still tells what changed since.
        if (looked !== feed) return { changes: [], cursor: batch.cursor, more: true };
      }
    } finally {
      feed.watchers--;
    }
  }

  /** Who waits is answered soon: for a service that is about to end. */
  close(): void {
    this.#closed = true;
  }

  /** For a cursor that is not of this feed. */
  async #since(feed: Feed, from: ChangesCursor, signal: AbortSignal): Promise<ChangeBatch> {
    const { snapshot, last } = feed;
    const { pageLimitMax } = this.#limits;
    if (from.k === 'at') {
      const changes = await this.#elsewhere.since(snapshot, from.place, signal);
      const cursor = cursorOf(feed, last, onwards(this.#placeOf(snapshot), from.place));
      if (changes.length <= pageLimitMax) return { changes, cursor, more: false };
    }
    const base = from.k === 'at' ? from.place : from;
    const after = from.k === 'at' ? '' : from.after;
    const all = await this.#elsewhere.sinceVersion(snapshot, base, signal);
    const rest = all.filter(({ run_id }) => run_id > after);
    const changes = rest.slice(0, pageLimitMax);
    // Pages that follow each other are of later and later states: afterwards all since the first one is told once more.
    const place = from.k === 'at' ? onwards(this.#placeOf(snapshot), from.place) : from.place;
    const more = rest.length > changes.length;
    const cursor: ChangesCursor = more
      ? { k: 'page', v: base.v, w: base.w, after: changes.at(-1)!.run_id, place }
      : { k: 'at', feed: '', n: 0, place };
    return { changes, cursor: encodeChanges(cursor), more: true };
  }

  #after(feed: Feed, seen: number, known: Pick<Place, 'v' | 'w'>): ChangeBatch {
    const oldest = feed.last - feed.changes.length;
    const fresh = feed.changes.slice(seen - oldest);
    const sent = fresh.slice(0, this.#limits.pageLimitMax);
    const place = fresh[sent.length]?.before ?? this.#placeOf(feed.snapshot);
    return {
      changes: sent.map(({ change }) => change),
      cursor: cursorOf(feed, sent.at(-1)?.number ?? seen, onwards(place, known)),
      more: fresh.length > sent.length,
    };
  }

  async #look(orgId: string, maxAgeMs: number, signal: AbortSignal): Promise<Feed> {
    const snapshot = await this.#cache.get(orgId, maxAgeMs, signal);
    const now = this.#clock.monotonic();
    let feed = this.#feeds.get(orgId);
    if (feed === undefined || this.#isForgotten(feed, now) || !this.#advance(feed, snapshot)) {
      const id = this.#session.random.u32().toString(36);
      feed = { id, snapshot, last: 0, changes: [], watchers: 0, usedAt: now };
      this.#feeds.set(orgId, feed);
    }
    feed.usedAt = now;
    return feed;
  }

  #isForgotten({ watchers, usedAt }: Feed, now: number): boolean {
    return watchers === 0 && now - usedAt > this.#limits.watchIdleMs;
  }

  /** False where the feed cannot tell what changed. */
  #advance(feed: Feed, snapshot: OrgSnapshot): boolean {
    const before = feed.snapshot;
    if (snapshot === before || snapshot.asOf < before.asOf) return true;
    if (before.state !== snapshot.state) {
      if (mayHaveSealed(before.state, snapshot.state)) return false;
      const place = this.#placeOf(before);
      for (const change of changesBetween(before.state, snapshot.state)) {
        feed.changes.push({ number: ++feed.last, change, before: place });
      }
      feed.changes.splice(0, Math.max(0, feed.changes.length - this.#limits.changesMax));
    }
    feed.snapshot = snapshot;
    return true;
  }

  #placeOf(snapshot: OrgSnapshot): Place {
    return placeOf(snapshot, this.#session.limits.entryLagMaxMs);
  }
}

function cursorOf({ id }: Feed, n: number, place: Place): string {
  return encodeChanges({ k: 'at', feed: id, n, place });
}

/** Null: the feed did not give this cursor, or has forgotten what came after it. */
function numberIn(feed: Feed, from: ChangesCursor): number | null {
  if (from.k !== 'at' || from.feed !== feed.id) return null;
  return from.n <= feed.last && from.n >= feed.last - feed.changes.length ? from.n : null;
}
