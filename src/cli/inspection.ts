import type { CompactorContext } from '../../compactor/context.ts';
import { type Found, find, garbageList } from '../../compactor/plan.ts';
import { entriesThatWait, noManifests, unreadableObjects } from '../../compactor/verify-objects.ts';
import { mapParallel } from '../core/concurrency.ts';
import { CorruptError, reasonFor } from '../core/errors.ts';
import { entryTime, readEntries } from '../log/tail.ts';
import type { Manifest, Part } from '../manifest/manifest.ts';
import { decodeGroups } from '../snapshot/history-index.ts';
import { objectOf, readPart } from '../snapshot/parts.ts';
import { logPrefix, manifestsPrefix, partKey, partsPrefix } from '../store/keys.ts';

/** The fields of a stored object that this runfold knows. */
type Known<T> = { [K in keyof T as string extends K ? never : K]: T[K] };

/** A part without base64, which nobody wants to read: not of an inline head, nor of the index of row groups. */
export type InspectedPart = Omit<Known<Part>, 'inline' | 'groups'> & {
  inline_bytes: number | null;
  row_groups: number | null;
};

export interface CorruptObject {
  key: string;
  reason: string;
}

export interface Inspection {
  org: string;
  manifest:
    | (Omit<Known<Manifest>, 'parts'> & {
        parts: InspectedPart[];
        generation: string | null;
        committed_at: number | null;
        size_bytes: number;
        /** Rows written since the org's beginning, per run that is there now. */
        write_amplification: number | null;
      })
    | null;
  /** Entries that no committed version has folded. */
  tail: {
    entries: number;
    records: number;
    intents: number;
    /** Entries whose bytes make no sense. */
    corrupt: number;
    bytes: number;
    oldest_at: number | null;
    newest_at: number | null;
  };
  /** What committed versions made unneeded and nobody has deleted yet. */
  garbage: {
    lists: number;
    objects: number;
    entries: number;
    parts: number;
    /** Copies of superseded manifests. */
    manifests: number;
    /** Since when the oldest of it waits out its grace. */
    oldest_at: number | null;
  };
  /** Whether every object was read, or only what is needed to tell the rest. */
  checked: boolean;
  /**
   * What is in quarantine, and what was read now and made no sense. Not what `repair` released: nothing is missing for
   * it, and it waits in `garbage`.
   */
  corrupt: CorruptObject[];
}

/**
 * What lies under one org's prefix. Requests: GET manifest, LIST log, LIST garbage, a GET per garbage list, for a head
 * that is not inline, and per entry that did not travel in the listing. With `check` a GET per object. Throws
 * CorruptError for the manifest.
 */
export async function inspectOrg(
  context: CompactorContext,
  orgId: string,
  { signal, check = false }: { signal: AbortSignal; check?: boolean },
): Promise<Inspection> {
  const found = await find(context, orgId, signal);
  const corrupt = new Map<string, CorruptObject>();
  const onCorrupt = (key: string, error: unknown) => {
    corrupt.set(key, { key, reason: reasonFor(key, error) });
  };
  const { quarantine = [] } = found.current.manifest ?? {};
  for (const { key, reason } of quarantine) onCorrupt(key, `in quarantine: ${reasonFor(key, reason)}`);
  const [tail, garbage] = await Promise.all([
    inspectTail(context, found, onCorrupt, signal),
    inspectGarbage(context, found, onCorrupt, signal),
    inspectHead(context, found, onCorrupt, signal),
  ]);
  if (check) {
    const manifests = noManifests();
    const bad = await unreadableObjects(context, orgId, { signal, manifests });
    const unneeded = entriesThatWait(manifests);
    for (const { meta, error } of bad)
      if (!corrupt.has(meta.key) && !unneeded.has(meta.key)) onCorrupt(meta.key, error);
  }
  for (const { key, released } of quarantine) if (released) corrupt.delete(key);
  const byKey = [...corrupt.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  return { org: orgId, manifest: inspectManifest(found), tail, garbage, checked: check, corrupt: byKey };
}

type OnCorrupt = (key: string, error: unknown) => void;

async function inspectHead(
  { store }: CompactorContext,
  { orgId, current }: Found,
  onCorrupt: OnCorrupt,
  signal: AbortSignal,
): Promise<void> {
  const head = current.manifest?.parts.find(({ level }) => level === 0);
  if (head === undefined) return;
  try {
    await readPart(store, orgId, head, { signal });
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    onCorrupt(objectOf(orgId, head), error);
  }
}

function inspectManifest({ current }: Found): Inspection['manifest'] {
  const { manifest, generation, committedAt, sizeBytes } = current;
  if (manifest === null) return null;
  const parts = manifest.parts.map(({ inline, groups, ...part }) => ({
    ...part,
    inline_bytes: inline === null ? null : part.size_bytes,
    row_groups: groups === null ? null : decodeGroups(partKey(manifest.org_id, part.name), groups).length,
  }));
  return {
    ...manifest,
    parts,
    generation,
    committed_at: committedAt,
    size_bytes: sizeBytes,
    write_amplification: manifest.rows === 0 ? null : manifest.totals.rows_written / manifest.rows,
  };
}

async function inspectTail(
  { store, limits }: CompactorContext,
  { orgId, unfolded }: Found,
  onCorrupt: OnCorrupt,
  signal: AbortSignal,
): Promise<Inspection['tail']> {
  const { entries: read } = await readEntries(store, orgId, unfolded, {
    parallel: limits.parallelMax,
    signal,
  });
  for (const one of read) if ('problem' in one) onCorrupt(one.item.key, one.problem);
  const records = read.flatMap((one) => ('entry' in one ? one.entry.records : []));
  const times = unfolded.map(({ key }) => entryTime(key)).filter((at) => at !== null);
  const [oldest_at, newest_at] = times.length === 0 ? [null, null] : rangeOf(times);
  return {
    entries: unfolded.length,
    records: records.length,
    intents: records.filter(({ kind }) => kind === 'intent').length,
    corrupt: read.filter((one) => 'problem' in one).length,
    bytes: unfolded.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    oldest_at,
    newest_at,
  };
}

async function inspectGarbage(
  { store, limits }: CompactorContext,
  { orgId, garbage }: Found,
  onCorrupt: OnCorrupt,
  signal: AbortSignal,
): Promise<Inspection['garbage']> {
  const lists = await mapParallel(
    garbage,
    limits.parallelMax,
    async (waiting, stop) => {
      try {
        return (await garbageList(store, orgId, waiting, stop))?.objects ?? [];
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        onCorrupt(waiting.meta.key, error);
        return [];
      }
    },
    signal,
  );
  const keys = lists.flat().map(({ key }) => key);
  const under = (prefix: string) => keys.filter((key) => key.startsWith(prefix)).length;
  const times = garbage.map(({ committedAt }) => committedAt);
  return {
    lists: garbage.length,
    objects: keys.length,
    entries: under(logPrefix(orgId)),
    parts: under(partsPrefix(orgId)),
    manifests: under(manifestsPrefix(orgId)),
    oldest_at: times.length === 0 ? null : rangeOf(times)[0],
  };
}

function rangeOf(times: readonly number[]): [min: number, max: number] {
  return times.reduce<[number, number]>(
    ([min, max], at) => [Math.min(min, at), Math.max(max, at)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
}
