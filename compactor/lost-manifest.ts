import { keptVersions } from '../src/catalog/versions.ts';
import { CorruptError } from '../src/core/errors.ts';
import { listLog } from '../src/log/tail.ts';
import type { Manifest } from '../src/manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../src/manifest/manifest-store.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';
import { type Found, find } from './plan.ts';

interface LostManifestOptions {
  signal?: AbortSignal | undefined;
  /** Change nothing. */
  dryRun?: boolean | undefined;
}

/** As `find`, on whatever manifest can still be read. */
export async function findWhatIsLeft(
  context: CompactorContext,
  orgId: string,
  options: LostManifestOptions,
): Promise<Found> {
  const { signal } = options;
  try {
    return await find(context, orgId, signal);
  } catch (error) {
    if (!(error instanceof CorruptError) || error.key !== manifestKey(orgId)) throw error;
  }
  const current = await replaceable(context, orgId, options);
  const { items, listedAt } = await listLog(context.store, orgId, { signal });
  return {
    orgId,
    current,
    listedAt,
    unfolded: items,
    quarantined: [],
    garbage: [],
    garbageListedAt: Infinity,
  };
}

/**
 * Stands for a manifest that cannot be read: the newest kept copy, counted one version up, with the generation that is
 * there. The garbage that only the lost version knew of is left to the orphan sweep.
 */
async function replaceable(
  { store }: CompactorContext,
  orgId: string,
  options: LostManifestOptions,
): Promise<CurrentManifest> {
  const { signal } = options;
  let manifest: Manifest | null = null;
  for (const version of (await keptVersions(store, orgId, { signal })).reverse()) {
    manifest = await readManifestCopy(store, orgId, version, { signal }).catch(() => null);
    if (manifest !== null) break;
  }
  const generation = await brokenGeneration(store, orgId, options);
  if (manifest === null) return { manifest, generation, committedAt: null, sizeBytes: 0, body: null };
  return {
    // When the copied version was committed, only the lost one knew.
    manifest: {
      ...manifest,
      version: manifest.version + 1,
      fold: NOTHING_FOLDED,
      previous_committed_at: null,
      lost: true,
    },
    generation,
    committedAt: null,
    sizeBytes: 0,
    body: null,
  };
}

/** The stand-in says what the copy says, so that the chain of state hashes holds (law 5). */
const NOTHING_FOLDED: Manifest['fold'] = {
  entries: 0,
  records: 0,
  ties: 0,
  added_hash: StateHash.empty().hex(),
  removed_hash: StateHash.empty().hex(),
};

/**
 * An object too damaged to tell its generation is made one that can: nobody can read it as it is. Null where there is none,
 * and in a dry run, which commits nothing under it.
 */
async function brokenGeneration(
  store: CompactorContext['store'],
  orgId: string,
  { signal, dryRun }: LostManifestOptions,
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
    if (dryRun) return null;
    const put = await store.put(key, new TextEncoder().encode('{}'), { signal });
    if (put.outcome === 'written') return put.meta.generation;
    throw error;
  }
}
