import { manifestCopyKey, manifestKey } from '../store/keys.ts';
import { ABSENT, type CallOptions, type ObjectStore } from '../store/object-store.ts';
import { decodeManifest, encodeManifest, type Manifest } from './manifest.ts';

export interface CurrentManifest {
  manifest: Manifest | null;
  generation: string | null;
  /** Server time of the commit of this version; null without a manifest. */
  committedAt: number | null;
  sizeBytes: number;
  /** As it is stored; null where `manifest` is not what is stored. */
  body: Uint8Array | null;
}

export type CommitOutcome =
  | { outcome: 'committed'; committedAt: number }
  /** Another version is there. What was written for this one are orphans; never delete them from here. */
  | { outcome: 'lost' }
  | { outcome: 'unknown'; cause: unknown };

/** One GET. `unchanged` when the generation still is `known`, on stores that can tell. */
export async function readManifest(
  store: ObjectStore,
  orgId: string,
  options: CallOptions & { known?: string | null } = {},
): Promise<CurrentManifest | 'unchanged'> {
  const key = manifestKey(orgId);
  const got = await store.get(key, { signal: options.signal, ifGenerationNot: options.known ?? undefined });
  if (got.outcome === 'unchanged') return 'unchanged';
  if (got.outcome === 'absent')
    return { manifest: null, generation: null, committedAt: null, sizeBytes: 0, body: null };
  if (options.known && options.known === got.meta.generation) return 'unchanged';
  const manifest = decodeManifest(key, orgId, got.body);
  return {
    manifest,
    generation: got.meta.generation,
    committedAt: got.meta.createdAt,
    sizeBytes: got.body.length,
    body: got.body,
  };
}

/** One GET of an immutable copy; null when that version was never superseded or is no longer kept. */
export async function readManifestCopy(
  store: ObjectStore,
  orgId: string,
  version: number,
  options: CallOptions = {},
) {
  const key = manifestCopyKey(orgId, version);
  const got = await store.get(key, { signal: options.signal });
  return got.outcome === 'found' ? decodeManifest(key, orgId, got.body) : null;
}

/**
 * Keeps the version that is about to be superseded, and gives the copy's generation. One PUT, create-only: racing
 * compactors write the same bytes, and the second asks for the generation of the first's. Null: not known. `body`: its
 * bytes, where they are known; with an inline head they are more than a MiB to make.
 */
export async function copyManifest(
  store: ObjectStore,
  manifest: Manifest,
  body: Uint8Array | null = null,
): Promise<string | null> {
  const key = manifestCopyKey(manifest.org_id, manifest.version);
  const put = await store.put(key, body ?? encodeManifest(manifest), {
    ifGeneration: ABSENT,
    contentType: 'application/json',
  });
  if (put.outcome === 'written') return put.meta.generation;
  return (await store.head(key))?.generation ?? null;
}

/**
 * The commit point. One PUT; after a lost answer one read settles by `write_id` whose version is there.
 */
export async function commitManifest(
  store: ObjectStore,
  manifest: Manifest,
  generation: string | null,
): Promise<CommitOutcome> {
  const put = await store.put(manifestKey(manifest.org_id), encodeManifest(manifest), {
    ifGeneration: generation ?? ABSENT,
    contentType: 'application/json',
    cacheControl: 'no-store',
  });
  if (put.outcome === 'written') return { outcome: 'committed', committedAt: put.meta.createdAt };
  if (put.outcome === 'conflict') return { outcome: 'lost' };
  const current = await readManifest(store, manifest.org_id).catch(() => null);
  if (current && current !== 'unchanged' && current.manifest?.write_id === manifest.write_id) {
    return { outcome: 'committed', committedAt: current.committedAt as number };
  }
  return { outcome: 'unknown', cause: put.cause };
}
