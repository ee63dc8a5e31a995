import { keptVersions } from '../src/catalog/versions.ts';
import { CorruptError, errorMessage, OutcomeUnknownError, RunfoldError } from '../src/core/errors.ts';
import { listLog, readEntries } from '../src/log/tail.ts';
import type { Manifest } from '../src/manifest/manifest.ts';
import {
  type CurrentManifest,
  commitManifest,
  readManifest,
  readManifestCopy,
} from '../src/manifest/manifest-store.ts';
import { project } from '../src/runs/projection.ts';
import { type Rows, RowsBuilder } from '../src/snapshot/rows.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';
import { type Found, find, planOn } from './plan.ts';
import { prepare } from './prepare.ts';

export interface Repaired {
  org_id: string;
  /** The version that was committed; with `dryRun`, the one that would be. */
  version: number;
  runs: number;
  /** Corrupt entries that are garbage now: the canonical runs have made good what they said. */
  released: string[];
  /** Canonical runs that cannot be read. They are missing from the catalog until somebody restores them. */
  unreadable: { key: string; reason: string }[];
}

export interface RepairOptions {
  dryRun?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((runs: number) => void) | undefined;
}

/**
 * Builds the org's snapshot anew from its canonical runs, whatever became of manifest, parts and entries, while writers
 * go on. Entries listed before the scan are covered by it; what comes later stays in the log as ever. Cost: one read
 * per canonical run of the org.
 */
export async function repairOrg(
  context: CompactorContext,
  orgId: string,
  options: RepairOptions = {},
): Promise<Repaired> {
  const { signal } = options;
  for (let round = 0; round < context.limits.contentionRoundsMax; round++) {
    const found = await findWhatIsLeft(context, orgId, signal);
    const { items } = await listLog(context.store, orgId, { signal });
    const quarantined = new Set(found.current.manifest?.quarantine.map(({ key }) => key));
    const { rows, unreadable } = await scan(context, orgId, options);
    const { entries } = await readEntries(context.store, orgId, found.unfolded, {
      parallel: context.limits.parallelMax,
      signal,
    });
    const work = await planOn(context, found, rows, entries, signal);
    const corrupt = new Set([...quarantined, ...work.quarantined.map(({ key }) => key)]);
    const released = items.filter(({ key }) => corrupt.has(key));
    const repaired = {
      org_id: orgId,
      runs: rows.length,
      released: released.map(({ key }) => key),
      unreadable,
    };
    const version = (found.current.manifest?.version ?? 0) + 1;
    if (options.dryRun) return { ...repaired, version };
    const next = await prepare(
      context,
      found,
      { ...work, consumed: [...work.consumed, ...released], quarantined: [] },
      { rebuild: true },
    );
    const commit = await commitManifest(context.store, next, found.current.generation);
    if (commit.outcome === 'committed') return { ...repaired, version };
    if (commit.outcome === 'unknown') {
      throw new OutcomeUnknownError(`The store did not confirm the manifest of org ${orgId}.`, {
        cause: commit.cause,
      });
    }
  }
  throw new RunfoldError(
    'REVISION_CONFLICT',
    `The manifest of org ${orgId} changes too often to be repaired.`,
    {
      hint: 'Stop the compactors of this org, and try again.',
    },
  );
}

async function scan({ runs }: CompactorContext, orgId: string, { signal, onProgress }: RepairOptions) {
  const builder = new RowsBuilder(orgId);
  const unreadable: Repaired['unreadable'] = [];
  for await (const scanned of runs.scan({ orgId, signal })) {
    if ('problem' in scanned) unreadable.push({ key: scanned.key, reason: errorMessage(scanned.problem) });
    else if (scanned.run.deleted_at === null) builder.add(project(scanned.run));
    if (builder.length % 1000 === 0) onProgress?.(builder.length);
  }
  const rows: Rows = builder.build();
  return { rows, unreadable };
}

/** As `find`, on whatever manifest can still be read. */
async function findWhatIsLeft(
  context: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<Found> {
  try {
    return await find(context, orgId, signal);
  } catch (error) {
    if (!(error instanceof CorruptError) || error.key !== manifestKey(orgId)) throw error;
  }
  const current = await replaceable(context, orgId, signal);
  const { items, listedAt } = await listLog(context.store, orgId, { signal });
  return { orgId, current, listedAt, unfolded: items, garbage: [] };
}

/**
 * Stands for a manifest that cannot be read: the newest kept copy, counted one version up, with the generation that is
 * there. The garbage that only the lost version knew of is left to the orphan sweep.
 */
async function replaceable(
  { store }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<CurrentManifest> {
  let manifest: Manifest | null = null;
  for (const version of (await keptVersions(store, orgId, { signal })).reverse()) {
    manifest = await readManifestCopy(store, orgId, version, { signal }).catch(() => null);
    if (manifest !== null) break;
  }
  const generation = await brokenGeneration(store, orgId, signal);
  if (manifest === null) return { manifest, generation, committedAt: null, sizeBytes: 0 };
  return {
    manifest: { ...manifest, version: manifest.version + 1 },
    generation,
    committedAt: null,
    sizeBytes: 0,
  };
}

/** An object too damaged to tell its generation is made one that can: nobody can read it as it is. */
async function brokenGeneration(
  store: CompactorContext['store'],
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const key = manifestKey(orgId);
  try {
    return (await store.head(key, { signal }))?.generation ?? null;
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    // Somebody may have repaired it meanwhile; then this is not ours to touch.
    if (
      await readManifest(store, orgId, { signal }).then(
        () => true,
        () => false,
      )
    )
      throw error;
    const put = await store.put(key, new TextEncoder().encode('{}'), { signal });
    if (put.outcome === 'written') return put.meta.generation;
    throw error;
  }
}
