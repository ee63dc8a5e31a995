import { mapParallel } from '../src/core/concurrency.ts';
import type { Limits } from '../src/core/limits.ts';
import { type Random, uniform } from '../src/core/random.ts';
import { entryTime } from '../src/log/tail.ts';
import {
  DIRTY_PREFIX,
  DIRTY_SHARDS,
  dirtyShardPrefix,
  entryKeyFloor,
  logPrefix,
  manifestKey,
  orgOfDirtyKey,
} from '../src/store/keys.ts';
import type { ListPage, ObjectStore } from '../src/store/object-store.ts';

export interface LagContext {
  store: ObjectStore;
  limits: Limits;
  random: Random;
}

/**
 * How far folds are behind, without a scan: the fold lag (ms) of at most `orgs` orgs that have a dirty marker, taken from
 * a random place on, so that looks that follow each other see all of them sooner or later. Empty: no org has a tail.
 * Cost: one or two LISTs, and a HEAD and a LIST per org, whatever the bucket holds.
 */
export async function sampleFoldLag(
  context: LagContext,
  orgs: number,
  signal?: AbortSignal,
): Promise<number[]> {
  const { store, random } = context;
  const start = dirtyShardPrefix(Math.floor(uniform(random) * DIRTY_SHARDS));
  const list = (bounds: { start?: string; end?: string }, limit: number) =>
    store.list({ prefix: DIRTY_PREFIX, ...bounds, limit, signal });
  const keys = (await list({ start }, orgs)).items.map(({ key }) => key);
  if (keys.length < orgs) {
    keys.push(...(await list({ end: start }, orgs - keys.length)).items.map(({ key }) => key));
  }
  const ids = keys.map(orgOfDirtyKey).filter((orgId) => orgId !== null);
  return mapParallel(ids, orgs, (orgId, stop) => foldLagOf(context, orgId, stop), signal);
}

/** A page may be empty and still have a next one. */
const PAGES_MAX = 5;

/**
 * Age of the oldest entry that came after the last commit, ms; 0 without one. What waits in the log for other reasons (an
 * unconfirmed intent, quarantine) is older than that commit and does not count: folding is not late with it. Entries
 * named up to `entryLagMaxMs` before the commit may have come after it, so they count until they are collected.
 */
export async function foldLagOf(
  { store, limits }: LagContext,
  orgId: string,
  signal?: AbortSignal,
): Promise<number> {
  const manifest = await store.head(manifestKey(orgId), { signal });
  const since = manifest === null ? 0 : manifest.createdAt - limits.entryLagMaxMs;
  const prefix = logPrefix(orgId);
  const start = entryKeyFloor(orgId, Math.max(0, since));
  let page: ListPage | undefined;
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    page = await store.list({ prefix, start, limit: 1, pageToken: page?.next ?? undefined, signal });
    const oldest = page.items[0];
    if (oldest !== undefined)
      return Math.max(0, page.serverTime - (entryTime(oldest.key) ?? page.serverTime));
    if (page.next === null) return 0;
  }
  return 0;
}
