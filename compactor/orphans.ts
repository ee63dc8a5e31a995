import { keptVersions } from '../src/catalog/versions.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { RunfoldError } from '../src/core/errors.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import type { Manifest } from '../src/manifest/manifest.ts';
import {
  commitManifest,
  copyManifest,
  readManifest,
  readManifestCopy,
} from '../src/manifest/manifest-store.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { garbagePrefix, partsPrefix } from '../src/store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../src/store/object-store.ts';
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
  const result: OrphanSweep = {
    org_id: orgId,
    orphans: orphans.map(({ meta, ageMs }) => ({
      key: meta.key,
      size_bytes: meta.sizeBytes,
      age_ms: ageMs,
      reason: meta.key.startsWith(partsPrefix(orgId))
        ? 'no kept version names this part'
        : 'no committed version wrote this list',
    })),
    deleted: 0,
  };
  if (options.dryRun || orphans.length === 0) return result;
  await fence(context, orgId, signal);
  const stillNamed = await namedObjects(context, orgId, signal);
  await mapParallel(
    orphans.filter(({ meta }) => !stillNamed.has(meta.key)),
    limits.parallelMax,
    async ({ meta }, stop) => {
      const answer = await store.delete(meta.key, { ifGeneration: meta.generation, signal: stop });
      if (answer.outcome === 'deleted') result.deleted++;
    },
    signal,
  );
  return result;
}

async function oldObjects(
  store: ObjectStore,
  orgId: string,
  ageMin: number,
  signal: AbortSignal | undefined,
) {
  const old: { meta: ObjectMeta; ageMs: number }[] = [];
  for (const prefix of [partsPrefix(orgId), garbagePrefix(orgId)]) {
    let pageToken: string | undefined;
    do {
      const page = await store.list({ prefix, pageToken, signal });
      for (const meta of page.items) {
        const ageMs = page.serverTime - meta.createdAt;
        if (ageMs > ageMin) old.push({ meta, ageMs });
      }
      pageToken = page.next ?? undefined;
    } while (pageToken !== undefined);
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

/** Commits a version that changes nothing but the generation. */
async function fence(
  { store, random, limits }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let round = 0; round < limits.contentionRoundsMax; round++) {
    const current = await readManifest(store, orgId, { signal });
    // Without a manifest nothing was ever committed, and the first commit is a create.
    if (current === 'unchanged' || current.manifest === null) {
      throw new RunfoldError(
        'VERSION_NOT_FOUND',
        `Org ${orgId} has no manifest yet; its orphans cannot be told from work in progress.`,
        {
          hint: 'Run `runfold compact` first.',
        },
      );
    }
    const { manifest } = current;
    await copyManifest(store, manifest);
    const nothing = StateHash.empty().hex();
    const next: Manifest = {
      ...manifest,
      version: manifest.version + 1,
      write_id: uuidv7(manifest.created_at, random),
      previous_committed_at: current.committedAt,
      fold: { entries: 0, records: 0, ties: 0, added_hash: nothing, removed_hash: nothing },
      garbage: manifest.garbage.map((ref) => ({
        ...ref,
        committed_at: ref.committed_at ?? current.committedAt,
      })),
    };
    if ((await commitManifest(store, next, current.generation)).outcome === 'committed') return;
  }
  throw new RunfoldError('REVISION_CONFLICT', `The manifest of org ${orgId} changes too often.`, {
    hint: 'Try again.',
  });
}
