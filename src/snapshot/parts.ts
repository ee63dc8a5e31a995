import { crc32c } from '../core/crc32c.ts';
import { CorruptError } from '../core/errors.ts';
import type { Part } from '../manifest/manifest.ts';
import { manifestKey, partKey } from '../store/keys.ts';
import type { CallOptions, ObjectStore } from '../store/object-store.ts';
import { decodePart } from './codec.ts';
import type { Rows } from './rows.ts';

/**
 * The rows of one part. No request where the manifest holds it inline, else one GET. `null` when the object is
 * gone: the manifest that named it is out of date. Throws CorruptError, naming the object.
 */
export async function readPart(
  store: ObjectStore,
  orgId: string,
  part: Part,
  options: CallOptions = {},
): Promise<Rows | null> {
  const bytes = await partBytes(store, orgId, part, options);
  if (bytes === null) return null;
  const key = part.inline === null ? partKey(orgId, part.name) : manifestKey(orgId);
  if (bytes.length !== part.size_bytes || crc32c(bytes) !== part.crc32c) {
    throw new CorruptError(key, `part ${part.name} is not the one that the manifest describes`);
  }
  const rows = await decodePart(key, bytes);
  if (rows.orgId !== orgId || rows.length !== part.rows) {
    throw new CorruptError(
      key,
      `part ${part.name} holds ${rows.length} rows of org ${rows.orgId}; ${part.rows} were expected`,
    );
  }
  return rows;
}

async function partBytes(
  store: ObjectStore,
  orgId: string,
  part: Part,
  options: CallOptions,
): Promise<Uint8Array | null> {
  if (part.inline !== null) return Buffer.from(part.inline, 'base64');
  const got = await store.get(partKey(orgId, part.name), options);
  return got.outcome === 'found' ? got.body : null;
}
