import { stateHashOf } from '../src/catalog/fold.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { reasonFor } from '../src/core/errors.ts';
import { decodeEntry } from '../src/log/entry.ts';
import { decodeGarbage, type GarbageList } from '../src/manifest/garbage.ts';
import { decodeManifest, type Manifest } from '../src/manifest/manifest.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { decodePart } from '../src/snapshot/codec.ts';
import { isHistory } from '../src/snapshot/history-directory.ts';
import { decodeHistory } from '../src/snapshot/history-read.ts';
import {
  garbagePrefix,
  logPrefix,
  manifestKey,
  manifestsPrefix,
  nameOfKey,
  orgPrefix,
  partsPrefix,
} from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import type { CompactorContext } from './context.ts';
import type { Verified, VerifyOptions } from './verify-report.ts';

/** The manifests that were met: the current one, and copies by version. */
export interface Manifests {
  current: Manifest | null;
  copies: Map<number, Manifest>;
  /** Garbage lists by name, those that no manifest names included. */
  garbage: Map<string, GarbageList>;
}

export function noManifests(): Manifests {
  return { current: null, copies: new Map(), garbage: new Map() };
}

/** Law 8: every object is whole and says what its name promises. */
export async function verifyObjects(
  context: CompactorContext,
  verified: Verified,
  { signal, onProgress }: VerifyOptions,
): Promise<Manifests> {
  const { org_id: orgId, problems, checked } = verified;
  const manifests = noManifests();
  const bad = await unreadableObjects(context, orgId, {
    signal,
    manifests,
    onObject: (bytes) => {
      checked.objects++;
      checked.bytes += bytes;
      onProgress?.(checked);
    },
  });
  const unneeded = entriesThatWait(manifests);
  for (const { meta, error } of bad) {
    if (!unneeded.has(meta.key))
      problems.push({ law: 8, key: meta.key, message: reasonFor(meta.key, error) });
  }
  return manifests;
}

/**
 * Entries that are garbage by a committed list, and what `repair` released: they wait for their deletion, and nobody
 * needs them to be whole. Where the copy in the listing was good, the body of such a one may be corrupt.
 */
export function entriesThatWait({ current, garbage }: Manifests): ReadonlySet<string> {
  const released = current?.quarantine.filter((one) => one.released).map(({ key }) => key) ?? [];
  const lists = current?.garbage.filter(({ kind }) => kind === 'entries') ?? [];
  const folded = lists.flatMap(({ name }) => garbage.get(name)?.objects.map(({ key }) => key) ?? []);
  return new Set([...released, ...folded]);
}

/** An object whose bytes are not what its name promises, and why. */
export interface UnreadableObject {
  meta: ObjectMeta;
  error: unknown;
}

/** Reads and decodes every object under the org's prefix: one GET each. */
export async function unreadableObjects(
  { store, limits }: CompactorContext,
  orgId: string,
  options: {
    signal?: AbortSignal | undefined;
    manifests?: Manifests;
    onObject?: (bytes: number) => void;
  } = {},
): Promise<UnreadableObject[]> {
  const { signal, manifests = noManifests(), onObject } = options;
  const bad: UnreadableObject[] = [];
  const checkOne = async (meta: ObjectMeta, stop: AbortSignal) => {
    try {
      const got = await store.get(meta.key, { signal: stop });
      // Collected since it was listed: nothing to check.
      if (got.outcome !== 'found') return;
      onObject?.(got.body.length);
      await decodeObject(orgId, meta.key, got.body, manifests);
    } catch (error) {
      if (stop.aborted) throw error;
      bad.push({ meta, error });
    }
  };
  for await (const page of pagesOf(store, { prefix: orgPrefix(orgId), signal })) {
    await mapParallel(page.items, limits.parallelMax, checkOne, signal);
  }
  return bad.sort((a, b) => (a.meta.key < b.meta.key ? -1 : 1));
}

async function decodeObject(
  orgId: string,
  key: string,
  body: Uint8Array,
  manifests: Manifests,
): Promise<void> {
  if (key === manifestKey(orgId)) manifests.current = decodeManifest(key, orgId, body);
  else if (key.startsWith(manifestsPrefix(orgId))) {
    const copy = decodeManifest(key, orgId, body);
    manifests.copies.set(copy.version, copy);
    if (!key.endsWith(`/${copy.version}.json`)) throw new Error(`it holds version ${copy.version}`);
  } else if (key.startsWith(logPrefix(orgId))) decodeEntry(key, orgId, body);
  else if (key.startsWith(garbagePrefix(orgId)))
    manifests.garbage.set(nameOfKey(key), decodeGarbage(key, orgId, body));
  else if (key.startsWith(partsPrefix(orgId))) await partStateHash(orgId, key, body);
  else throw new Error('no object of this name belongs to an org');
}

/** The state hash of a part's rows, of the head or of history. Throws CorruptError. */
export async function partStateHash(orgId: string, key: string, body: Uint8Array): Promise<StateHash> {
  if (!isHistory(body)) return stateHashOf(await decodePart(key, body));
  const state = StateHash.empty();
  for (const { history } of decodeHistory(key, orgId, body)) {
    const { rows } = history;
    for (let i = 0; i < rows.length; i++)
      if (history.isPrimary(i)) state.add(rows.runId(i), rows.revision(i));
  }
  return state;
}
