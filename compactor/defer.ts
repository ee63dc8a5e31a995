import { unwatched } from '../src/core/telemetry.ts';
import { entryTime, listLogPage } from '../src/log/tail.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { Compacted } from './compact.ts';
import type { CompactorContext } from './context.ts';
import { type FoldPolicy, judge, type Verdict } from './due.ts';

/**
 * A look before the fold: whether an org may be passed over for now. Null: no, or this look cannot tell. One LIST for a tail
 * that is short and young. A HEAD besides where the log shows more: most likely what the last fold took and what waits
 * out its grace there. Nothing is written, and nothing that the log holds waits longer for it than the policy says plus that
 * grace.
 */
export async function deferral(
  context: CompactorContext,
  orgId: string,
  policy: FoldPolicy,
  signal?: AbortSignal,
): Promise<Compacted | null> {
  const { telemetry = unwatched } = context;
  const verdict = await look(context, orgId, policy, signal);
  if (verdict === null) return null;
  const { entries, oldest_age_ms } = verdict;
  await telemetry.run('fold', { org: orgId }, async (note) =>
    note({ outcome: 'deferred', lag_ms: oldest_age_ms, deferred: entries }),
  );
  return {
    org_id: orgId,
    outcome: 'deferred',
    due: null,
    deferred: { entries, oldest_age_ms },
    version: null,
    entries: 0,
    records: 0,
    rows: null,
    quarantined: 0,
    waiting: 0,
    collected: { objects: 0, lists: 0, listsWaiting: 0, entryListsWaiting: 0 },
    write_amplification: null,
    settled: false,
  };
}

async function look(
  { store, limits }: CompactorContext,
  orgId: string,
  policy: FoldPolicy,
  signal: AbortSignal | undefined,
): Promise<Verdict | null> {
  const { items, next, serverTime: listedAt } = await listLogPage(store, orgId, { signal });
  // An org without a log may have garbage, a policy, a marker that nobody needs any more.
  if (items.length === 0 || next !== null) return null;
  const verdict = judge({ orgId, fresh: items, listedAt }, policy, limits);
  if (verdict.due === null) return verdict;
  const manifest = await store.head(manifestKey(orgId), { signal });
  if (manifest === null) return null;
  // As in the fold lag: what is older than the commit is not late. It was folded, or is left there for its own reasons.
  const since = manifest.createdAt - limits.entryLagMaxMs;
  const fresh = items.filter(({ key }) => (entryTime(key) ?? 0) >= since);
  // Once the grace is over, somebody has to collect it, or to tell what else it is.
  const isInGrace = listedAt - manifest.createdAt <= limits.entryGraceMs + limits.serverTimeResolutionMs;
  if (fresh.length === items.length || !isInGrace) return null;
  const again = judge({ orgId, fresh, listedAt }, policy, limits);
  return again.due === null ? again : null;
}
