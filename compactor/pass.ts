import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, isRunfoldError } from '../src/core/errors.ts';
import { unwatched } from '../src/core/telemetry.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import { DIRTY_PREFIX, dirtyKey, orgOfDirtyKey, shardOf } from '../src/store/keys.ts';
import { ABSENT, type ObjectMeta, type ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import { archiveOrg } from './archive.ts';
import type { Archived } from './archive-report.ts';
import { type Compacted, compactOrg } from './compact.ts';
import type { CompactorContext } from './context.ts';
import { deferral } from './defer.ts';
import type { FoldPolicy } from './due.ts';
import { type Expired, type ExpireOptions, expireOrg } from './expire.ts';
import { exportLegacy } from './export-legacy.ts';
import { listOrgs } from './orgs.ts';
import { type OrphanSweep, sweepOrphans } from './orphans.ts';
import { type Swept, sweepOrg } from './sweep.ts';

/** Why one org, or one chore of it, failed. */
export interface Failure {
  outcome: 'failed';
  code: string;
  message: string;
}

/** Of one org. What was not asked for is not there. */
export type PassResult =
  | (Compacted & {
      swept?: Swept | Failure;
      expired?: Expired | Failure;
      archived?: Archived | Failure;
      orphans?: OrphanSweep | Failure;
      exported?: ExportCounts | Failure;
    })
  | ({ org_id: string } & Failure);

/** Of an export after a fold, objects. */
export interface ExportCounts {
  runs: number;
  written: number;
  removed: number;
  unconfirmed: number;
}

export interface PassOptions {
  /** Which orgs: these, those with a dirty marker (the default), or every org there is. */
  orgs?: readonly string[] | 'dirty' | 'all' | undefined;
  /** Only orgs of this share: any number of compactors divide the orgs by hash. `index` counts from 0. */
  shard?: { index: number; count: number } | undefined;
  /**
   * Fold an org when it is worth it, and defer it until then. What is deferred keeps its marker and costs one LIST, sometimes
   * a HEAD; chores wait for its fold, but in a pass over all orgs. Default: fold whatever there is.
   */
  fold?: FoldPolicy | undefined;
  /** Orgs at a time. */
  parallel?: number | undefined;
  /** Sweep each org with it before the fold: see sweepOrg. */
  sweep?: Recorder | undefined;
  /** Remove each org's expired artifacts before the fold: see expireOrg. */
  expire?: ({ recorder: Recorder } & Pick<ExpireOptions, 'results'>) | undefined;
  /** Archive the logs of each org's ended runs after the fold: see archiveOrg. */
  archive?: Recorder | undefined;
  /** Sweep each org's orphans after the fold, and what its logs left: see sweepOrphans, sweepLeftovers. */
  orphans?: boolean | undefined;
  /**
   * Bring each org's legacy export up to date after a fold that committed: see exportLegacy. Folds are not deferred then:
   * its readers see nothing else.
   */
  exportLegacy?: boolean | undefined;
  /** Once aborted no further org is begun; those that are being compacted are finished. */
  drain?: AbortSignal | undefined;
  onStart?: ((orgs: number) => void) | undefined;
  onOrg?: ((result: PassResult) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Compacts many orgs. One broken org never stops the pass: it comes back as `failed`. A dirty marker is removed
 * once its org is settled and no writer can still rely on it.
 */
export function compactPass(context: CompactorContext, options: PassOptions = {}): Promise<PassResult[]> {
  const { telemetry = unwatched } = context;
  return telemetry.run('pass', {}, async (note) => {
    const results = await pass(context, options);
    note({
      orgs: results.length,
      failed: results.filter(isFailure).length,
      deferred: results.filter(({ outcome }) => outcome === 'deferred').length,
      full: options.orgs === 'all' && options.drain?.aborted !== true,
    });
    return results;
  });
}

async function pass(context: CompactorContext, options: PassOptions): Promise<PassResult[]> {
  const { signal } = options;
  const markers = await listMarkers(context.store, signal);
  const all = await orgsOf(context.store, options.orgs ?? 'dirty', markers.byOrg, signal);
  const { index, count } = options.shard ?? { index: 0, count: 1 };
  const orgs = all.filter((orgId) => shardOf(orgId) % count === index);
  options.onStart?.(orgs.length);
  const results = await mapParallel(
    orgs,
    options.parallel ?? 4,
    async (orgId, stop) => {
      if (options.drain?.aborted) return null;
      context.telemetry?.tell('reached', { org: orgId });
      const result = await keepUp(context, orgId, options, stop);
      const marker = markers.byOrg.get(orgId);
      if (marker !== undefined && result.outcome !== 'failed' && result.settled && !waits(result)) {
        await removeMarker(context, marker, markers.listedAt);
      }
      if (marker === undefined && result.outcome !== 'failed' && waits(result))
        await markAgain(context, orgId);
      options.onOrg?.(result);
      return result;
    },
    signal,
  );
  return results.filter((result) => result !== null);
}

/** Sweeps come first, so that the fold takes in what they find. A chore that fails holds up no other. */
async function keepUp(
  context: CompactorContext,
  orgId: string,
  { orgs, sweep, expire, archive, orphans, exportLegacy: exports, ...options }: PassOptions,
  signal: AbortSignal,
): Promise<PassResult> {
  const fold = exports ? undefined : options.fold;
  const deferred = fold && (await safely(signal, () => deferral(context, orgId, fold, signal)));
  if (deferred && (isFailure(deferred) || orgs !== 'all')) return { org_id: orgId, ...deferred };
  const swept = sweep && (await safely(signal, () => sweepOrg(context, orgId, sweep, { signal })));
  const expired =
    expire &&
    (await safely(signal, () =>
      expireOrg(context, orgId, expire.recorder, { results: expire.results, signal }),
    ));
  const compacted = deferred ?? (await safely(signal, () => compactOrg(context, orgId, { fold, signal })));
  if (isFailure(compacted)) return { org_id: orgId, ...compacted };
  const archived =
    archive &&
    (await safely(signal, () => archiveOrg(context, orgId, archive, { leftovers: orphans, signal })));
  const left = orphans && (await safely(signal, () => sweepOrphans(context, orgId, { signal })));
  const isDue = exports && compacted.outcome === 'committed';
  const exported = isDue && (await safely(signal, () => exportCounts(context, orgId, signal)));
  return {
    ...compacted,
    ...(swept && { swept }),
    ...(expired && { expired }),
    ...(archived && { archived }),
    ...(left && { orphans: left }),
    ...(exported && { exported }),
  };
}

async function exportCounts(
  context: CompactorContext,
  orgId: string,
  signal: AbortSignal,
): Promise<ExportCounts> {
  const { runs, written, removed, unconfirmed } = await exportLegacy(context, orgId, { signal });
  return {
    runs,
    written: written.length,
    removed: removed.length,
    unconfirmed: unconfirmed.length,
  };
}

/** An org whose logs wait to be archived keeps its marker: it is looked at again without a change. */
function waits({ archived }: Exclude<PassResult, { outcome: 'failed' }>): boolean {
  return archived !== undefined && (isFailure(archived) || archived.waiting > 0);
}

/** A failure as a value, but for one that the caller wanted. */
export async function safely<T>(
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T | Failure> {
  try {
    return await work();
  } catch (error) {
    if (signal?.aborted) throw error;
    const code = isRunfoldError(error) ? error.code : 'INTERNAL';
    return { outcome: 'failed', code, message: errorMessage(error) };
  }
}

export function isFailure<T extends object>(result: T | Failure): result is Failure {
  return 'outcome' in result && result.outcome === 'failed';
}

/**
 * A writer trusts its own marker for `markerCacheMs`. One that nobody renewed for twice as long is trusted by
 * nobody; one that was renewed since the listing has another generation and stays.
 */
async function removeMarker(
  { store, limits }: CompactorContext,
  marker: ObjectMeta,
  listedAt: number,
): Promise<void> {
  if (listedAt - marker.createdAt < 2 * limits.markerCacheMs) return;
  await store.delete(marker.key, { ifGeneration: marker.generation }).catch(() => undefined);
}

/** Somebody who does not archive took the marker of an org whose logs wait: no full pass need come first. */
async function markAgain({ store }: CompactorContext, orgId: string): Promise<void> {
  await store.put(dirtyKey(orgId), new Uint8Array(), { ifGeneration: ABSENT }).catch(() => undefined);
}

async function listMarkers(store: ObjectStore, signal: AbortSignal | undefined) {
  const byOrg = new Map<string, ObjectMeta>();
  let listedAt = Number.POSITIVE_INFINITY;
  for await (const page of pagesOf(store, { prefix: DIRTY_PREFIX, signal })) {
    listedAt = Math.min(listedAt, page.serverTime);
    for (const item of page.items) {
      const orgId = orgOfDirtyKey(item.key);
      if (orgId !== null) byOrg.set(orgId, item);
    }
  }
  return { byOrg, listedAt };
}

async function orgsOf(
  store: ObjectStore,
  which: NonNullable<PassOptions['orgs']>,
  dirty: ReadonlyMap<string, ObjectMeta>,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (which === 'dirty') return [...dirty.keys()].sort();
  if (which !== 'all') return [...which];
  return listOrgs(store, signal);
}
