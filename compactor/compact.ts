import { CorruptError, OutcomeUnknownError } from '../src/core/errors.ts';
import { type Note, unwatched } from '../src/core/telemetry.ts';
import { entryTime } from '../src/log/tail.ts';
import type { Manifest, Policy, Tombstone } from '../src/manifest/manifest.ts';
import { commitManifest } from '../src/manifest/manifest-store.ts';
import { manifestKey, nameOfKey, partKey } from '../src/store/keys.ts';
import { type Collected, collect } from './collect.ts';
import type { CompactorContext } from './context.ts';
import { type DueReason, type FoldPolicy, judgeFound, type Verdict } from './due.ts';
import { isOldPart } from './parts.ts';
import { type Found, find, type Plan, plan } from './plan.ts';
import { prepare, stillQuarantined } from './prepare.ts';
import { horizonAt, isPastPart, retired } from './retention.ts';
import { removeStubs } from './stubs.ts';

export interface Compacted {
  org_id: string;
  /**
   * `clean`: nothing to fold. `deferred`: not yet worth a fold by the policy. `lost`: other compactors were quicker every
   * time.
   */
  outcome: 'committed' | 'clean' | 'deferred' | 'lost';
  /** Why it was worth a fold; null: there was none, or no policy to ask. */
  due: DueReason | null;
  /** The tail that waits for a later fold. */
  deferred: { entries: number; oldest_age_ms: number } | null;
  /** Null: there is none, or nobody had to ask. */
  version: number | null;
  entries: number;
  records: number;
  /** Null: nobody had to ask. */
  rows: number | null;
  /** Entries and history parts that this call has found corrupt and set aside. */
  quarantined: number;
  /** Entries that stay in the log because of an unconfirmed intent. */
  waiting: number;
  collected: Collected;
  /** Rows written since the org's beginning, per run that is there now. */
  write_amplification: number | null;
  /** Nothing is left that cannot wait for a full pass: no tail, no entries to collect. */
  settled: boolean;
}

/** Rounds of one call before it leaves the org to whoever keeps winning. */
const ROUNDS_MAX = 4;

export interface CompactOptions {
  signal?: AbortSignal | undefined;
  /** Fold only what is worth it. Costs GET, 2 LIST to find out; a pass asks `deferral` before, which costs less. */
  fold?: FoldPolicy | undefined;
  /** Takes effect with the version that this call commits. */
  policy?: Policy | undefined;
  /** Commit a version even if it says nothing new: whoever prepared one before can then no longer commit it. */
  fence?: boolean | undefined;
  /** Rewrite the head, and one history part, where an older runfold wrote them: see upgradeOrg. */
  upgrade?: boolean | undefined;
}

/**
 * Folds one org's log and collects what is due. Any number of compactors may race: only the compare-and-swap of
 * the manifest commits, and who loses it has written nothing but orphans.
 */
export function compactOrg(
  context: CompactorContext,
  orgId: string,
  options: CompactOptions = {},
): Promise<Compacted> {
  const { telemetry = unwatched } = context;
  return telemetry.run('fold', { org: orgId }, (note) => compact(context, orgId, options, note));
}

async function compact(
  context: CompactorContext,
  orgId: string,
  options: CompactOptions,
  note: Note<'fold'>,
): Promise<Compacted> {
  const { signal, policy, fence = false, upgrade = false, fold } = options;
  let goneUnder: string | null = null;
  for (let round = 1; ; round++) {
    const found = await find(context, orgId, signal);
    const { manifest } = found.current;
    const isOrdered = policy !== undefined || fence || upgrade;
    const verdict = fold === undefined || isOrdered ? null : verdictOn(context, found, fold);
    if (verdict !== null && verdict.due === null) {
      return finish(context, found, NO_WORK, 'deferred', manifest, verdict, note, signal);
    }
    const work = await plan(context, found, signal);
    const isAsked = policy !== undefined || fence || (upgrade && manifest?.parts.some(isOldPart));
    if (work !== null && !isAsked && !hasWork(context, found, work)) {
      return finish(context, found, work, 'clean', manifest, null, note, signal);
    }
    if (work !== null) {
      const next = await prepare(context, found, work, { policy, upgrade });
      const commit = await commitManifest(context.store, next, found.current.generation);
      if (commit.outcome === 'committed') {
        await removeStubs(context, manifest, next, signal);
        return finish(context, found, work, 'committed', next, verdict, note, signal);
      }
      if (commit.outcome === 'unknown') {
        throw new OutcomeUnknownError(`The store did not confirm the manifest of org ${orgId}.`, {
          cause: commit.cause,
          hint: 'Run the compactor again. Whatever was written for this attempt is left alone.',
        });
      }
    }
    // Nobody was quicker where the manifest is still the one under which objects were gone before. Entries are no proof:
    // who defers an org collects under one and the same manifest.
    if (
      work === null &&
      round === ROUNDS_MAX &&
      goneUnder !== null &&
      goneUnder === found.current.generation &&
      (await isHeadGone(context, found))
    ) {
      throw new CorruptError(manifestKey(orgId), 'objects that it names are missing', {
        hint: 'Run `runfold verify`, then `runfold repair`.',
      });
    }
    goneUnder = work === null ? found.current.generation : null;
    if (round === ROUNDS_MAX) return finish(context, found, NO_WORK, 'lost', manifest, null, note, signal);
  }
}

async function isHeadGone({ store }: CompactorContext, { orgId, current }: Found): Promise<boolean> {
  const head = current.manifest?.parts.find(({ level }) => level === 0);
  if (head === undefined || head.inline !== null) return false;
  return (await store.head(partKey(orgId, head.name))) === null;
}

const NO_WORK = { consumed: [], records: 0, quarantined: [] };

/** Null: there is no tail to be judged. */
function verdictOn(context: CompactorContext, found: Found, fold: FoldPolicy): Verdict | null {
  const verdict = judgeFound(context, found, fold);
  return verdict?.due === null && hasUpkeep(context, found) ? { ...verdict, due: 'upkeep' } : verdict;
}

/** Whether a new version would say anything new. */
function hasWork(context: CompactorContext, found: Found, work: Plan): boolean {
  const { current, listedAt } = found;
  const { manifest } = current;
  if (work.consumed.length > 0 || work.quarantined.length > 0 || !sameIntents(work, manifest)) return true;
  if (manifest === null) return false;
  return (
    hasUpkeep(context, found) || retired(work.base, horizonAt(manifest, manifest.policy, listedAt)).length > 0
  );
}

/** What the manifest itself has to strike off or to forget, tail or no tail. */
function hasUpkeep(context: CompactorContext, found: Found): boolean {
  const { current, listedAt } = found;
  const { manifest } = current;
  if (manifest === null) return false;
  if (stillQuarantined(found).length < manifest.quarantine.length) return true;
  const horizon = horizonAt(manifest, manifest.policy, listedAt);
  if (manifest.parts.some((part) => isPastPart(part, horizon))) return true;
  return manifest.tombstones.some(
    (tombstone) =>
      listedAt - tombstone.deleted_at > context.limits.tombstoneTtlMs && canSettle(found, tombstone),
  );
}

/** Whether a fold brings the tombstone nearer to its end: not where only parts in quarantine still need it. */
function canSettle({ orgId, current }: Found, { folded_at }: Tombstone): boolean {
  const { parts, quarantine } = current.manifest!;
  const setAside = new Set(quarantine.map(({ key }) => key));
  const stale = parts.filter(({ level, written_at }) => level > 0 && written_at < folded_at);
  return stale.length === 0 || stale.some(({ name }) => !setAside.has(partKey(orgId, name)));
}

function sameIntents({ intents }: Plan, manifest: Manifest | null): boolean {
  const name = ({ run_id, revision }: { run_id: string; revision: number }) => `${run_id} ${revision}`;
  const known = new Set(manifest?.intents.map(name));
  return intents.length === known.size && intents.every((intent) => known.has(name(intent)));
}

async function finish(
  context: CompactorContext,
  found: Found,
  work: Pick<Plan, 'consumed' | 'records' | 'quarantined'>,
  outcome: Compacted['outcome'],
  manifest: Manifest | null,
  verdict: Verdict | null,
  note: Note<'fold'>,
  signal: AbortSignal | undefined,
): Promise<Compacted> {
  const collected = await collect(context, found, { signal });
  const known = new Set(found.current.manifest?.quarantine.map(({ key }) => key));
  const quarantined = manifest?.quarantine.filter(({ key }) => !known.has(key)).length ?? 0;
  const deferred = outcome === 'deferred' && verdict !== null ? verdict : null;
  const left = found.unfolded.length - work.consumed.length - work.quarantined.length;
  const waiting = left - (deferred?.entries ?? 0);
  note({
    outcome,
    entries: work.consumed.length,
    records: work.records,
    ties: outcome === 'committed' ? (manifest?.fold.ties ?? 0) : 0,
    waiting,
    deferred: deferred?.entries ?? 0,
    lag_ms: lagOf(found),
    quarantined,
    quarantine: manifest?.quarantine.filter(({ released }) => !released).length ?? 0,
    collected: collected.objects,
    garbage: garbageOf(found, manifest) - collected.objects,
  });
  return {
    org_id: found.orgId,
    outcome,
    due: verdict?.due ?? null,
    deferred: deferred && { entries: deferred.entries, oldest_age_ms: deferred.oldest_age_ms },
    version: manifest?.version ?? null,
    entries: work.consumed.length,
    records: work.records,
    rows: manifest?.rows ?? 0,
    quarantined,
    waiting,
    collected,
    write_amplification:
      manifest === null || manifest.rows === 0 ? null : manifest.totals.rows_written / manifest.rows,
    settled: outcome === 'clean' && waiting === 0 && collected.entryListsWaiting === 0,
  };
}

/** Age of the oldest entry that was found unfolded, by the server's clock. */
function lagOf({ unfolded, listedAt }: Found): number {
  return unfolded.reduce((lag, { key }) => Math.max(lag, listedAt - (entryTime(key) ?? listedAt)), 0);
}

/** Objects of all lists that were waiting, and of those that the version just committed has added. */
function garbageOf({ garbage, current }: Found, manifest: Manifest | null): number {
  const waiting = new Set(garbage.map(({ meta }) => nameOfKey(meta.key)));
  const known = current.manifest?.version ?? 0;
  return (manifest?.garbage ?? [])
    .filter(({ name, version }) => waiting.has(name) || version > known)
    .reduce((sum, { objects }) => sum + objects, 0);
}
