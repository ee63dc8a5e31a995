import { z } from 'zod';
import { pendingIntents } from '../catalog/fold.ts';
import { entryTime } from '../log/tail.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { nameOfKey } from '../store/keys.ts';
import type { OrgSnapshot } from './org-cache.ts';
import { decodeCursor, encodeCursor } from './pages.ts';

/** Entries and pending runs that a cursor names: it has to fit into an address. */
const SEEN_MAX = 256;
const PENDING_CHARACTERS_MAX = 600;
export const CHANGES_CURSOR_MAX = 6_144;

const count = z.number().int().nonnegative();
const place = z.object({
  /** Manifest version, and the end of its write id: a repair may give a number a second time. 0: none yet. */
  v: count,
  w: z.string().max(16),
  /** Server time: everything acknowledged before was seen. */
  at: count,
  /** Tags of entries that were seen too, though named so late that others of their time may come. Base64url. */
  seen: z.string(),
  /** Announced runs of which nothing was there yet: they may appear without another entry. Null: too many to name. */
  pending: z.array(z.tuple([z.string(), count])).nullable(),
});
/** Where a cursor stands, for every process alike. */
export type Place = z.infer<typeof place>;

const schema = z.union([
  /** `feed` and `n`: the same place for the process that gave it, exactly. */
  z.object({ k: z.literal('at'), feed: z.string(), n: count, place }),
  /** In the midst of the changes since a place, by run id; `place` is where to go on afterwards. */
  z.object({ k: z.literal('page'), v: count, w: z.string().max(16), after: z.string(), place }),
]);
export type ChangesCursor = z.infer<typeof schema>;

export function encodeChanges(cursor: ChangesCursor): string {
  return encodeCursor([cursor]);
}

/** Throws INVALID_INPUT for what is no cursor of changes. */
export function decodeChanges(cursor: string): ChangesCursor {
  return decodeCursor(cursor, z.tuple([schema]))[0];
}

const places = new WeakMap<OrgSnapshot, Place>();

export function placeOf(snapshot: OrgSnapshot, entryLagMaxMs: number): Place {
  const known = places.get(snapshot);
  if (known !== undefined) return known;
  const { state, listedAt, listed } = snapshot;
  const from = listedAt - entryLagMaxMs;
  const late = [...listed].filter((key) => (entryTime(key) ?? 0) >= from).sort();
  const pending = pendingIntents(state.base, state.overlay).map(({ row }): [string, number] => [
    row.run_id,
    row.revision,
  ]);
  const made: Place = {
    ...versionOf(state.manifest),
    at: listedAt,
    seen: Buffer.from(late.slice(-SEEN_MAX).map(tagOf).join(''), 'hex').toString('base64url'),
    pending: JSON.stringify(pending).length > PENDING_CHARACTERS_MAX ? null : pending,
  };
  places.set(snapshot, made);
  return made;
}

export function versionOf(manifest: Manifest | null): Pick<Place, 'v' | 'w'> {
  return { v: manifest?.version ?? 0, w: manifest?.write_id.slice(-12) ?? '' };
}

export function isSameVersion({ v, w }: Pick<Place, 'v' | 'w'>, manifest: Manifest | null): boolean {
  const is = versionOf(manifest);
  return v === is.v && w === is.w;
}

/** Whether all of that version's rows were seen: a process may still look at an older version, and the log on top of it. */
export function hasSeenVersion(at: Pick<Place, 'v' | 'w'>, manifest: Manifest | null): boolean {
  return at.v > (manifest?.version ?? 0) || isSameVersion(at, manifest);
}

/** A place of this process for somebody who has been at another: the later version stays seen. */
export function onwards(place: Place, { v, w }: Pick<Place, 'v' | 'w'>): Place {
  return v > place.v ? { ...place, v, w } : place;
}

/** Whether the place has seen that entry; of two entries chance gives the same tag once in 10¹⁸. */
export function seenAt({ seen }: Place): (key: string) => boolean {
  const hex = Buffer.from(seen, 'base64url').toString('hex');
  const tags = new Set(hex.match(/.{16}/g));
  return (key) => tags.has(tagOf(key));
}

/** The random half of an entry's name. */
function tagOf(key: string): string {
  return nameOfKey(key).replaceAll('-', '').slice(-16).padStart(16, '0');
}
