import type { CompactorContext } from '../../compactor/context.ts';
import { type Found, find, garbageList } from '../../compactor/plan.ts';
import { mapParallel } from '../core/concurrency.ts';
import { entryTime, readEntries } from '../log/tail.ts';
import type { Manifest, Part } from '../manifest/manifest.ts';

/** The fields of a stored object that this runfold knows. */
type Known<T> = { [K in keyof T as string extends K ? never : K]: T[K] };

/** A part without the base64 of an inline head, which nobody wants to read. */
export type InspectedPart = Omit<Known<Part>, 'inline'> & { inline_bytes: number | null };

export interface Inspection {
  org: string;
  manifest:
    | (Omit<Known<Manifest>, 'parts'> & {
        parts: InspectedPart[];
        generation: string | null;
        committed_at: number | null;
        size_bytes: number;
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
    /** Since when the oldest of it waits out its grace. */
    oldest_at: number | null;
  };
}

/**
 * What lies under one org's prefix. Requests: GET manifest, LIST log, LIST garbage, a GET per garbage list, and one
 * per entry that did not travel in the listing.
 */
export async function inspectOrg(
  context: CompactorContext,
  orgId: string,
  signal: AbortSignal,
): Promise<Inspection> {
  const found = await find(context, orgId, signal);
  const [tail, garbage] = await Promise.all([
    inspectTail(context, found, signal),
    inspectGarbage(context, found, signal),
  ]);
  return { org: orgId, manifest: inspectManifest(found), tail, garbage };
}

function inspectManifest({ current }: Found): Inspection['manifest'] {
  const { manifest, generation, committedAt, sizeBytes } = current;
  if (manifest === null) return null;
  const parts = manifest.parts.map(({ inline, ...part }) => ({
    ...part,
    inline_bytes: inline === null ? null : part.size_bytes,
  }));
  return { ...manifest, parts, generation, committed_at: committedAt, size_bytes: sizeBytes };
}

async function inspectTail(
  { store, limits }: CompactorContext,
  { orgId, unfolded }: Found,
  signal: AbortSignal,
): Promise<Inspection['tail']> {
  const { entries: read } = await readEntries(store, orgId, unfolded, { parallel: limits.parallelMax, signal });
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
  signal: AbortSignal,
): Promise<Inspection['garbage']> {
  const lists = await mapParallel(
    garbage,
    limits.parallelMax,
    async (waiting, stop) => (await garbageList(store, orgId, waiting, stop))?.objects.length ?? 0,
    signal,
  );
  const objectsOf = (wanted: string) =>
    garbage.reduce((sum, { kind }, i) => sum + (kind === wanted ? lists[i]! : 0), 0);
  const [entries, parts] = [objectsOf('entries'), objectsOf('parts')];
  const times = garbage.map(({ committedAt }) => committedAt);
  return {
    lists: garbage.length,
    objects: entries + parts,
    entries,
    parts,
    oldest_at: times.length === 0 ? null : rangeOf(times)[0],
  };
}

function rangeOf(times: readonly number[]): [min: number, max: number] {
  return times.reduce<[number, number]>(
    ([min, max], at) => [Math.min(min, at), Math.max(max, at)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
}
