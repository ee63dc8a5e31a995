import { keptVersions } from '../src/catalog/versions.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { checkWritable, type Manifest } from '../src/manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../src/manifest/manifest-store.ts';
import {
  garbagePrefix,
  manifestCopyKey,
  manifestKey,
  manifestsPrefix,
  partsPrefix,
} from '../src/store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import { removeObject } from './collect.ts';
import { compactOrg } from './compact.ts';
import type { CompactorContext } from './context.ts';
import { find, garbageList } from './plan.ts';

export interface Orphan {
  key: string;
  size_bytes: number;
  age_ms: number;
  reason: string;
}

export interface OrphanSweep {
  org_id: string;
  orphans: Orphan[];
  deleted: number;
}

/**
 * Deletes what compactors that lost or died left behind: parts and garbage lists that no kept version and no waiting
 * list names, older than `orphanAgeMs` by the server's clock. Before anything goes, an empty version is committed:
 * a compactor that prepared its own before, however long it slept, can then no longer commit what names an orphan.
 */
export async function sweepOrphans(
  context: CompactorContext,
  orgId: string,
  options: { dryRun?: boolean | undefined; signal?: AbortSignal | undefined } = {},
): Promise<OrphanSweep> {
  const { store, limits } = context;
  const { signal } = options;
  const candidates = await oldObjects(store, orgId, limits.orphanAgeMs, signal);
  const named = await namedObjects(context, orgId, signal);
  const orphans = candidates.filter(({ meta }) => !named.has(meta.key));
  if (orphans.length > 0) await mustBeWritable(store, orgId, signal);
  const result: OrphanSweep = {
    org_id: orgId,
    orphans: orphans.map(({ meta, ageMs }) => ({
      key: meta.key,
      size_bytes: meta.sizeBytes,
      age_ms: ageMs,
      reason: reasonOf(orgId, meta.key),
    })),
    deleted: 0,
  };
  if (options.dryRun || orphans.length === 0) return result;
  await compactOrg(context, orgId, { fence: true, signal });
  const stillNamed = await namedObjects(context, orgId, signal);
  await mapParallel(
    orphans.filter(({ meta }) => !stillNamed.has(meta.key)),
    limits.parallelMax,
    async ({ meta }, stop) => {
      const answer = await removeObject(context, meta.key, meta.generation, stop);
      if (answer.outcome === 'deleted') result.deleted++;
    },
    signal,
  );
  return result;
}

/** The version that is committed before anything goes could not be: told before, in a dry run too. */
async function mustBeWritable(
  store: ObjectStore,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { manifest } = (await readManifest(store, orgId, { signal })) as CurrentManifest;
  if (manifest !== null) checkWritable(manifestKey(orgId), manifest);
}

function reasonOf(orgId: string, key: string): string {
  if (key.startsWith(partsPrefix(orgId))) return 'no kept version names this part';
  return key.startsWith(garbagePrefix(orgId))
    ? 'no committed version wrote this list'
    : 'the versions after it are gone';
}

async function oldObjects(
  store: ObjectStore,
  orgId: string,
  ageMin: number,
  signal: AbortSignal | undefined,
) {
  const old: { meta: ObjectMeta; ageMs: number }[] = [];
  for (const prefix of [partsPrefix(orgId), garbagePrefix(orgId), manifestsPrefix(orgId)]) {
    for await (const page of pagesOf(store, { prefix, signal })) {
      for (const meta of page.items) {
        const ageMs = page.serverTime - meta.createdAt;
        if (ageMs > ageMin) old.push({ meta, ageMs });
      }
    }
  }
  return old;
}

/** Every key that the current version, a kept one, or a waiting garbage list names. */
async function namedObjects(
  context: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<Set<string>> {
  const { store, limits } = context;
  const found = await find(context, orgId, signal);
  const versions = await keptVersions(store, orgId, { signal });
  const copies = await mapParallel(
    versions,
    limits.parallelMax,
    (version, stop) => readManifestCopy(store, orgId, version, { signal: stop }),
    signal,
  );
  const named = new Set<string>();
  for (const manifest of [found.current.manifest, ...copies]) nameAll(orgId, manifest, named);
  // The copies that lead up to the current version; one below a gap was put back by a compactor that slept.
  const kept = new Set(versions);
  for (let version = found.current.manifest?.version ?? 0; ; ) {
    named.add(manifestCopyKey(orgId, version));
    if (!kept.has(--version)) break;
  }
  for (const waiting of found.garbage) {
    named.add(waiting.meta.key);
    // What a waiting list names is the collector's.
    for (const { key } of (await garbageList(store, orgId, waiting, signal))?.objects ?? []) named.add(key);
  }
  return named;
}

function nameAll(orgId: string, manifest: Manifest | null, named: Set<string>): void {
  if (manifest === null) return;
  for (const { name } of manifest.parts) named.add(`${partsPrefix(orgId)}${name}.parquet`);
  for (const { name } of manifest.garbage) named.add(`${garbagePrefix(orgId)}${name}.json`);
}
