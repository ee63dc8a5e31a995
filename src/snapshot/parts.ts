import { crc32c } from '../core/crc32c.ts';
import { CorruptError, RunfoldError } from '../core/errors.ts';
import { inlineBytes } from '../manifest/inline-head.ts';
import type { Part } from '../manifest/manifest.ts';
import { manifestKey, partKey } from '../store/keys.ts';
import type { CallOptions, ObjectStore } from '../store/object-store.ts';
import { decodePart } from './codec.ts';
import { groupBytes, type HistoryRange } from './history-select.ts';
import type { Rows } from './rows.ts';

/**
 * The rows of one part, whose columns are decoded when they are first asked for. No request where the manifest holds it
 * inline, else one GET. `null` when the object is gone: the manifest that named it is out of date. Throws CorruptError,
 * naming the object; of a part with the right checksum and columns that make no sense, its rows throw it.
 */
export async function readPart(
  store: ObjectStore,
  orgId: string,
  part: Part,
  options: CallOptions = {},
): Promise<Rows | null> {
  const key = objectOf(orgId, part);
  const bytes = await partBytes(store, orgId, part, options);
  if (bytes === null) return null;
  // The checksum of the whole part held, so nothing is left for a later read to meet but what was written so.
  const rows = await decodePart(key, bytes, { lazy: true });
  if (rows.orgId !== orgId || rows.length !== part.rows) {
    throw new CorruptError(
      key,
      `part ${part.name} holds ${rows.length} rows of org ${rows.orgId}; ${part.rows} were expected`,
    );
  }
  return rows;
}

/** The key of the object that holds the part. */
export function objectOf(orgId: string, { name, inline }: Part): string {
  return inline === null ? partKey(orgId, name) : manifestKey(orgId);
}

/**
 * Bytes [offset, offset + size) of a part's object: one ranged GET, unchecked here because the index of a history
 * part has the checksum. Throws SNAPSHOT_EXPIRED when the part is gone.
 */
export async function readRange(
  store: ObjectStore,
  orgId: string,
  part: Part,
  { offset, size }: { offset: number; size: number },
  options: CallOptions = {},
): Promise<Uint8Array> {
  const key = partKey(orgId, part.name);
  const got = await store.get(key, { ...options, range: { start: offset, end: offset + size } });
  if (got.outcome === 'found') return got.body;
  throw new RunfoldError('SNAPSHOT_EXPIRED', `${key} is gone: this view of org ${orgId} is too old.`, {
    hint: 'Refresh, and ask again.',
  });
}

/** The same for row groups that lie together, read once more where a checksum is wrong: the wire may be at fault. */
export async function readGroups(
  store: ObjectStore,
  orgId: string,
  part: Part,
  range: HistoryRange,
  options: CallOptions = {},
): Promise<Uint8Array> {
  const bytes = await readRange(store, orgId, part, range, options);
  const isSound = range.groups.every((group) => crc32c(groupBytes(range, bytes, group)) === group.crc32c);
  return isSound ? bytes : readRange(store, orgId, part, range, options);
}

/** The whole file, as the manifest describes it; null when the object is gone. Throws CorruptError. */
export async function partBytes(
  store: ObjectStore,
  orgId: string,
  part: Part,
  options: CallOptions = {},
): Promise<Uint8Array | null> {
  const bytes = await storedBytes(store, orgId, part, options);
  if (bytes === null || (bytes.length === part.size_bytes && crc32c(bytes) === part.crc32c)) return bytes;
  throw new CorruptError(
    objectOf(orgId, part),
    `part ${part.name} is not the one that the manifest describes`,
  );
}

async function storedBytes(
  store: ObjectStore,
  orgId: string,
  part: Part,
  options: CallOptions,
): Promise<Uint8Array | null> {
  if (isInline(part)) return inlineBytes(part);
  const got = await store.get(partKey(orgId, part.name), options);
  return got.outcome === 'found' ? got.body : null;
}

function isInline(part: Part): part is Part & { inline: string } {
  return part.inline !== null;
}
